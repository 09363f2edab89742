//! Plans for OSS, carried out through its native API on a sandbox that speaks it.

use std::net::Ipv4Addr;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectAcl, ObjectId, ObjectKey, RestoreState, TagSet};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::{AddressingStyle, HttpStore, ObjectContent, Store};
use bytes::Bytes;

use crate::world::{Ran, World};

/// A sandbox, a client beside the binary, and a folder for plans.
struct Oss {
    world: World,
    server: SandboxServer,
    store: HttpStore,
    runtime: tokio::runtime::Runtime,
}

impl Oss {
    /// A sandbox that holds these rows.
    fn filled(fill: &str) -> Self {
        let world = World::filled(fill);
        let fill = world.path("fill.csv");
        let sandbox = Sandbox::in_memory(Some(&fill), SandboxOptions::default()).expect("a sandbox");
        let server = SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server");
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
        let provider = SharedCredentialsProvider::new(credentials);
        let store =
            HttpStore::oss(&server.endpoint(), AddressingStyle::Path, "cn-hangzhou", provider).expect("a store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { world, server, store, runtime }
    }

    /// Writes `plan.toml` and applies it.
    fn apply(&self, rest: &str) -> Ran {
        let store = format!(
            "[store]\nprovider = \"oss\"\nendpoint = \"{}\"\nregion = \"cn-hangzhou\"\n",
            self.server.endpoint()
        );
        self.world.write("plan.toml", format!("name = \"test\"\n{store}\n{rest}"));
        let mut command = self.world.command(&["apply", "plan.toml", "--auto-approve", "--json", "--new"]);
        command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", SECRET_KEY);
        Ran::of(&command.output().expect("the binary runs"))
    }

    fn ask(&self, key: &str, call: &ObjectRequest) -> ResponseData {
        let id = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from(key), version: None };
        self.runtime
            .block_on(self.store.send_request(&id, call))
            .unwrap_or_else(|fault| panic!("{key:?}: {fault}"))
            .data
    }

    fn write(&self, key: &str, content: &str, md5: &str) {
        let (bucket, key) = (BucketName::new("bkt"), ObjectKey::from(key));
        let content = ObjectContent::Bytes(Bytes::from(content.to_owned()));
        self.runtime.block_on(self.store.write(&bucket, &key, content, md5)).expect("written");
    }
}

fn tags(pairs: &[(&str, &str)]) -> ResponseData {
    ResponseData::Tags(pairs.iter().copied().collect::<TagSet>())
}

#[test]
fn every_operation_is_carried_out_natively() {
    let oss = Oss::filled(
        "bucket,key,storage_class,tags\nbkt,d/a%20b,STANDARD,old=1\nbkt,d/c%2Bd,STANDARD,\nbkt,e,STANDARD,\n",
    );
    let prefix = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"d/\"\n";
    let report = "[report]\nbucket = \"bkt\"\nprefix = \"reports/\"\n";
    let run = |operation: &str| oss.apply(&format!("{prefix}{operation}\n{report}")).ended(0).json();

    let result = run("[operation.add_object_tagging]\ntags = { Environment = \"Production\" }");
    assert_eq!((&result["total"], &result["succeeded"]), (&2.into(), &2.into()));
    assert_eq!(oss.ask("d/a b", &ObjectRequest::GetTags), tags(&[("Environment", "Production"), ("old", "1")]));
    run("[operation.put_object_tagging]\ntags = { Team = \"DataOps\" }");
    assert_eq!(oss.ask("d/c+d", &ObjectRequest::GetTags), tags(&[("Team", "DataOps")]));
    run("[operation.delete_object_tagging]");
    assert_eq!(oss.ask("d/a b", &ObjectRequest::GetTags), tags(&[]));
    for acl in [ObjectAcl::PublicRead, ObjectAcl::Default, ObjectAcl::Private] {
        run(&format!("[operation.put_object_acl]\nacl = \"{}\"", acl.as_str()));
        assert_eq!(oss.ask("d/c+d", &ObjectRequest::GetAcl), ResponseData::Acl(acl));
    }
    assert_eq!(oss.ask("e", &ObjectRequest::GetTags), tags(&[]), "a bystander");

    // The report is where it says, byte for byte what is kept.
    let result = run("[operation.put_object_tagging]\ntags = { a = \"b\" }");
    let rows = oss.world.report_rows(&result);
    assert_eq!(rows, [["bkt", "d%2Fa%20b", "", "200", ""], ["bkt", "d%2Fc%2Bd", "", "200", ""]]);
    let job = result["job_id"].as_str().expect("an id");
    let object = format!("reports/{job}/results/manifest.json");
    let again = format!("[manifest.report]\nbucket = \"bkt\"\nobject = \"{object}\"\n");
    let nothing = oss.apply(&format!("{again}[operation.delete_object_tagging]\n")).ended(0).json();
    assert_eq!(nothing["total"], 0, "nothing had failed");
}

/// The reference's own example: a tier is named, and objects of every archive class are restored.
#[test]
fn a_restore_names_its_tier_to_the_classes_that_take_one() {
    let rows = "d/archive,Archive\nd/cold,ColdArchive\nd/deep,DeepColdArchive\nd/hot,Standard\n";
    let oss = Oss::filled(&format!("bucket,key,storage_class\nbkt,{}", rows.trim_end().replace('\n', "\nbkt,")));
    let result = oss
        .apply(
            "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"d/\"\n[operation.restore_object]\ndays = 7\n\
             tier = \"Standard\"\n[limits]\nfailure_threshold = 1\n",
        )
        .ended(3)
        .json();
    assert_eq!((&result["succeeded"], &result["failed"]), (&3.into(), &1.into()));
    for key in ["d/archive", "d/cold", "d/deep"] {
        let ResponseData::Head { restoration, .. } = oss.ask(key, &ObjectRequest::Head) else { panic!("no head") };
        assert_ne!(restoration, RestoreState::NotRestored, "{key}");
    }
    let rows = oss.world.report_rows(&result);
    let failed = rows.iter().find(|row| row[1] == "d%2Fhot").expect("its row");
    assert_eq!(failed[3], "400");
    assert!(failed[4].contains("\"Error Code\":\"OperationNotSupported\""), "{}", failed[4]);
    assert!(failed[4].contains("\"EC\":\""), "{}", failed[4]);
}

#[test]
fn a_manifest_is_read_from_the_bucket_and_held_to_its_etag() {
    let oss = Oss::filled("bucket,key\nbkt,a%2Bb\nbkt,c\n");
    // The MD5 of the manifest in base64, and in hexadecimal as OSS's ETag has it.
    oss.write("manifest.csv", "bkt,a%2Bb\n", "NNZVhb/G+VnlpGTKjfcpqg==");
    let plan = |etag: &str| {
        format!(
            "[manifest.csv]\nbucket = \"bkt\"\nobject = \"manifest.csv\"\netag = \"{etag}\"\n\
             [operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n"
        )
    };
    oss.apply(&plan("34D65585BFC6F959E5A464CA8DF729AA")).ended(0);
    assert_eq!(oss.ask("a+b", &ObjectRequest::GetTags), tags(&[("t", "1")]));
    assert_eq!(oss.ask("c", &ObjectRequest::GetTags), tags(&[]));
    let ran = oss.apply(&plan("00000000000000000000000000000000")).ended(4);
    assert!(ran.stderr.contains("manifest.csv"), "{}", ran.stderr);
}

#[test]
fn a_wrong_secret_pauses_the_job_and_is_not_shown() {
    let oss = Oss::filled("bucket,key\nbkt,a\n");
    let store =
        format!("[store]\nprovider = \"oss\"\nendpoint = \"{}\"\nregion = \"cn-hangzhou\"\n", oss.server.endpoint());
    let rest = "[manifest.csv]\npath = \"list.csv\"\n[operation.delete_object_tagging]\n";
    oss.world.write("list.csv", "bkt,a\n");
    oss.world.write("plan.toml", format!("name = \"test\"\n{store}\n{rest}"));
    let mut command = oss.world.command(&["apply", "plan.toml", "--auto-approve"]);
    command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", "hushhush");
    let ran = Ran::of(&command.output().expect("the binary runs")).ended(5);
    assert!(ran.stderr.contains("SignatureDoesNotMatch"), "{}", ran.stderr);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("hushhush"));
}

#[test]
fn a_large_object_is_written_in_parts_and_read_back() {
    use base64::Engine as _;
    use md5::{Digest as _, Md5};
    use tokio::io::AsyncReadExt as _;

    let oss = Oss::filled("bucket,key\nbkt,a\n");
    let content: Bytes = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(&content));
    let (bucket, key) = (BucketName::new("bkt"), ObjectKey::from("r/large +"));
    oss.world.write("large", &content);
    let path = oss.world.path("large");
    for source in [ObjectContent::Bytes(content.clone()), ObjectContent::File(path.clone())] {
        oss.runtime.block_on(oss.store.write(&bucket, &key, source, &md5)).expect("written");
        let read = oss.runtime.block_on(async {
            let mut opened = oss.store.read(&bucket, &key, None).await.expect("opened");
            let mut read = Vec::new();
            opened.body.read_to_end(&mut read).await.expect("read");
            (opened.size, read)
        });
        assert!(read == (20_000_000, content.to_vec()));
    }
    // What is not what it should be is not put together.
    let key = ObjectKey::from("wrong");
    let wrong = oss.store.write(&bucket, &key, ObjectContent::File(path), "1B2M2Y8AsgTpgAmY7PhCfg==");
    let fault = oss.runtime.block_on(wrong).expect_err("refused");
    assert_eq!(fault.code, "BadDigest");
    let missing = oss.runtime.block_on(oss.store.read(&bucket, &key, None));
    assert_eq!(missing.err().and_then(|fault| fault.status), Some(404));
}
