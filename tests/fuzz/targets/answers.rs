//! What a server answers: tags, ACLs, listings, settings, errors.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::{AddressingStyle, BucketSetting, HttpStore, ListRequest, Store, StoreConfig, StoreProvider};

use super::choice;

/// What is asked, and how it is answered.
const QUESTIONS: usize = 16;

pub(super) fn documents() -> Vec<Vec<u8>> {
    let documents: [&str; 9] = [
        "<?xml version=\"1.0\"?><Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>a</Key>\
         <Value>1 &amp; 2</Value></Tag></TagSet></Tagging>",
        "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList><Grant><Grantee \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>o</ID></Grantee>\
         <Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>",
        "<AccessControlPolicy><AccessControlList><Grant>default</Grant></AccessControlList></AccessControlPolicy>",
        "<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
         <EncodingType>url</EncodingType><Contents><Key>a%2Bb</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>\"0\"</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents><CommonPrefixes><Prefix>p/</Prefix>\
         </CommonPrefixes></ListBucketResult>",
        "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v\
         </NextVersionIdMarker><Version><Key>k</Key><VersionId>v</VersionId><IsLatest>true</IsLatest><LastModified>\
         2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Version><DeleteMarker><Key>l</Key><VersionId>w</VersionId>\
         </DeleteMarker></ListVersionsResult>",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key>\
         <Value>v</Value></Tag></And></Filter><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>",
        "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region><RequestId>R\
         </RequestId><EC>0002-00000040</EC><ServerTime>2026-01-01T00:00:00.000Z</ServerTime></Error>",
    ];
    let mut corpus = Vec::new();
    for question in 0..u8::try_from(QUESTIONS).expect("few") {
        corpus.extend(documents.iter().map(|document| [&[question], document.as_bytes()].concat()));
    }
    corpus
}

/// A server that gives the same answer to whatever it is asked.
struct Parrot {
    endpoint: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

fn parrot() -> &'static Parrot {
    static PARROT: OnceLock<Parrot> = OnceLock::new();
    PARROT.get_or_init(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::clone(&answer);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || repeat(connection, &shared));
            }
        });
        Parrot { endpoint, answer }
    })
}

fn repeat(mut connection: TcpStream, answer: &Mutex<Vec<u8>>) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = connection.read(&mut piece) {
        request.extend_from_slice(&piece[..read]);
        if request.windows(4).any(|window| window == b"\r\n\r\n") {
            request.clear();
            let answer = answer.lock().expect("nobody panicked with it").clone();
            // However little of an answer it is, nothing comes after it.
            let _ = connection.write_all(&answer);
            return;
        }
    }
}

fn stores() -> [Box<dyn Store>; 2] {
    let credentials = || SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "fuzz"));
    let endpoint = &parrot().endpoint;
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(endpoint.clone()),
        region: Some("us-east-1".to_owned()),
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    let s3 = HttpStore::s3(&config, "us-east-1", credentials()).expect("a store");
    let oss = HttpStore::oss(endpoint, AddressingStyle::Path, "cn-hangzhou", credentials()).expect("a store");
    [Box::new(s3), Box::new(oss)]
}

/// A body behind a question; every eighth input is a whole answer, head and all.
pub(super) fn answers(input: &[u8]) {
    let whole = input.first().is_some_and(|first| *first >= 0xe0);
    let (question, body) = choice(input, QUESTIONS);
    let status = if question.is_multiple_of(4) { "400 Bad Request" } else { "200 OK" };
    let mut answer = Vec::new();
    if !whole {
        answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    }
    answer.extend_from_slice(body);
    *parrot().answer.lock().expect("nobody panicked with it") = answer;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let [s3, oss] = stores();
    let store = if question < QUESTIONS / 2 { s3 } else { oss };
    runtime.block_on(ask(&*store, question));
}

async fn ask(store: &dyn Store, question: usize) {
    let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None };
    let listing = |all_versions, directories| ListRequest {
        bucket: BucketName::new("bkt"),
        prefix: ObjectKey::from(""),
        all_versions,
        group_by_directory: directories,
        from: None,
    };
    match question % 8 {
        0 => drop(store.send_request(&object, &ObjectRequest::PutTags([("a", "1")].into_iter().collect())).await),
        1 => drop(store.send_request(&object, &ObjectRequest::GetTags).await),
        2 => drop(store.send_request(&object, &ObjectRequest::GetAcl).await),
        3 => drop(store.send_request(&object, &ObjectRequest::Head).await),
        4 => drop(store.list(&listing(false, true)).await),
        5 => drop(store.list(&listing(false, false)).await),
        6 => drop(store.list(&listing(true, false)).await),
        _ => {
            for question in [BucketSetting::TagRules, BucketSetting::Versioning, BucketSetting::Ownership] {
                drop(store.bucket_setting(&object.bucket, question).await);
            }
        }
    }
}
