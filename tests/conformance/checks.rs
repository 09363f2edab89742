//! The checks.

use batchplan_store::object::{
    BucketName, ObjectAcl, ObjectId, ObjectKey, RestoreRequest, RestoreState, RestoreTier, TagSet, VersionId,
};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::StoreError;
use batchplan_store::{
    BucketSetting, BucketSettingValue, ConditionalPutOutcome, ListCursor, ListPosition, ListRequest, ListedObject,
    ObjectContent,
};
use tokio::io::AsyncReadExt as _;

use crate::server::Fixture;

/// One question to a server.
pub(crate) struct Check {
    pub(crate) name: String,
    /// The answer that AWS gives.
    pub(crate) aws: String,
    /// The answer of this server.
    pub(crate) got: String,
}

/// Keys that break whoever decodes, normalises or quotes once too often.
pub(crate) const ODD_KEYS: &[&str] = &[
    "a+b",
    "a%2Fb",
    "a b",
    "a%20b",
    "?x#y",
    "//",
    "/lead",
    "../x",
    "./x",
    "a/../b",
    "é",
    "日本",
    "\n",
    "\t",
    "quote\"comma,",
    "'",
    "&<>",
    "*!()~",
    ":@$=;",
    "trailing/",
    "%",
    "%zz",
    "\u{7f}",
];

/// The base64 MD5 of nothing.
const EMPTY_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

struct Battery<'a> {
    fixture: &'a Fixture,
    checks: Vec<Check>,
}

/// Asks everything.
pub(crate) async fn battery(fixture: &Fixture) -> Vec<Check> {
    let mut battery = Battery { fixture, checks: Vec::new() };
    battery.tags().await;
    battery.versions().await;
    battery.acls().await;
    battery.restores().await;
    battery.odd_keys().await;
    battery.listing().await;
    battery.transfer().await;
    battery.keeping().await;
    battery.settings().await;
    battery.strangers().await;
    battery.checks
}

fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs.iter().copied().collect()
}

/// An answer in a line.
fn shown(answer: Result<ObjectResponse, StoreError>) -> String {
    match answer {
        Err(fault) => fault.status.map_or(fault.code.clone(), |status| format!("{status} {}", fault.code)),
        Ok(ObjectResponse { status, data: learned, .. }) => match learned {
            ResponseData::Empty => status.to_string(),
            ResponseData::Tags(tags) => {
                let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{status} [{}]", pairs.join(" "))
            }
            ResponseData::Acl(acl) => format!("{status} {}", acl.as_str()),
            ResponseData::Head { class, restoration, .. } => {
                let restored = match restoration {
                    RestoreState::NotRestored => "not restored",
                    RestoreState::InProgress => "in progress",
                    RestoreState::RestoredUntil(_) => "restored",
                    RestoreState::Requested(_) => "wanted",
                };
                format!("{status} {} {restored}", class.as_str())
            }
        },
    }
}

impl Battery<'_> {
    fn note(&mut self, name: impl Into<String>, aws: impl Into<String>, got: impl Into<String>) {
        self.checks.push(Check { name: name.into(), aws: aws.into(), got: got.into() });
    }

    async fn ask(&mut self, name: &str, object: &ObjectId, call: ObjectRequest, aws: &str) {
        let got = shown(self.fixture.store.send_request(object, &call).await);
        self.note(name, aws, got);
    }

    /// What states that are kept in a bucket ask for.
    async fn keeping(&mut self) {
        let (store, bucket) = (self.fixture.store.clone(), self.fixture.plain.clone());
        let key = ObjectKey::from("kept/lock 1.json");
        let made = |created: Result<ConditionalPutOutcome, StoreError>| {
            created.map_or_else(|fault| fault.code, |it| format!("{it:?}"))
        };
        let first = made(store.put_if_absent(&bucket, &key, "first".into()).await);
        self.note("keep/create", "Created", first);
        let second = made(store.put_if_absent(&bucket, &key, "second".into()).await);
        self.note("keep/create again", "AlreadyExists", second);
        let content = match store.read(&bucket, &key, None).await {
            Ok(mut opened) => {
                let mut content = String::new();
                opened.body.read_to_string(&mut content).await.map_or_else(|error| error.to_string(), |_| content)
            }
            Err(fault) => fault.code,
        };
        self.note("keep/what was first stays", "first", content);
        let gone = |removed: Result<(), StoreError>| removed.map_or_else(|fault| fault.code, |()| "gone".to_owned());
        for name in ["keep/remove", "keep/remove again"] {
            let removed = gone(store.delete(&bucket, &key).await);
            self.note(name, "gone", removed);
        }
        let anew = made(store.put_if_absent(&bucket, &key, "third".into()).await);
        self.note("keep/create anew", "Created", anew);
        let nowhere = BucketName::new("no-such-bucket-batchplan");
        let lost = gone(store.delete(&nowhere, &key).await);
        self.note("keep/remove from nowhere", "NoSuchBucket", lost);
    }

    async fn tags(&mut self) {
        self.fixture.put(&self.fixture.plain, "tagged", "STANDARD").await;
        let (there, missing) = (self.fixture.object("tagged"), self.fixture.object("missing"));
        let nowhere = ObjectId { bucket: BucketName::new("no-such-bucket-batchplan"), ..there.clone() };
        let two = ObjectRequest::PutTags(tags(&[("a", "1"), ("b", "two words")]));
        self.ask("tags/none", &there, ObjectRequest::GetTags, "200 []").await;
        self.ask("tags/put", &there, two.clone(), "200").await;
        self.ask("tags/get", &there, ObjectRequest::GetTags, "200 [a=1 b=two words]").await;
        self.ask("tags/replace", &there, ObjectRequest::PutTags(tags(&[("ü", "+-=._:/@")])), "200").await;
        self.ask("tags/replaced", &there, ObjectRequest::GetTags, "200 [ü=+-=._:/@]").await;
        self.ask("tags/empty value", &there, ObjectRequest::PutTags(tags(&[("a", "")])), "200").await;
        self.ask("tags/empty value read", &there, ObjectRequest::GetTags, "200 [a=]").await;
        let eleven: TagSet = (0..11).map(|n| (format!("k{n}"), "v")).collect();
        self.ask("tags/eleven", &there, ObjectRequest::PutTags(eleven), "400 BadRequest").await;
        let long = "k".repeat(129);
        self.ask("tags/long key", &there, ObjectRequest::PutTags(tags(&[(&long, "")])), "400 InvalidTag").await;
        self.ask("tags/delete", &there, ObjectRequest::DeleteTags, "204").await;
        self.ask("tags/deleted", &there, ObjectRequest::GetTags, "200 []").await;
        self.ask("tags/delete none", &there, ObjectRequest::DeleteTags, "204").await;
        self.ask("tags/put missing key", &missing, two.clone(), "404 NoSuchKey").await;
        self.ask("tags/get missing key", &missing, ObjectRequest::GetTags, "404 NoSuchKey").await;
        self.ask("tags/delete missing key", &missing, ObjectRequest::DeleteTags, "404 NoSuchKey").await;
        self.ask("tags/put missing bucket", &nowhere, two, "404 NoSuchBucket").await;
    }

    async fn versions(&mut self) {
        let bucket = self.fixture.versioned.clone();
        let first = self.fixture.put(&bucket, "v", "STANDARD").await;
        let second = self.fixture.put(&bucket, "v", "STANDARD").await;
        let of = |version: Option<VersionId>| ObjectId { bucket: bucket.clone(), key: ObjectKey::from("v"), version };
        let (old, new, current) = (of(first), of(second), of(None));
        self.ask("versions/tag old", &old, ObjectRequest::PutTags(tags(&[("v", "old")])), "200").await;
        self.ask("versions/old has it", &old, ObjectRequest::GetTags, "200 [v=old]").await;
        self.ask("versions/new has not", &new, ObjectRequest::GetTags, "200 []").await;
        self.ask("versions/current has not", &current, ObjectRequest::GetTags, "200 []").await;
        self.ask("versions/acl of old", &old, ObjectRequest::PutAcl(ObjectAcl::PublicRead), "200").await;
        self.ask("versions/acl of old read", &old, ObjectRequest::GetAcl, "200 public-read").await;
        self.ask("versions/acl of current", &current, ObjectRequest::GetAcl, "200 private").await;
        self.ask("versions/head old", &old, ObjectRequest::Head, "200 STANDARD not restored").await;
        self.ask("versions/untag old", &old, ObjectRequest::DeleteTags, "204").await;
        self.ask("versions/old has none", &old, ObjectRequest::GetTags, "200 []").await;
        let client = &self.fixture.client;
        client.delete_object().bucket(bucket.as_str()).key("v").send().await.expect("a delete marker");
        self.ask("versions/deleted current", &current, ObjectRequest::GetTags, "404 NoSuchKey").await;
        self.ask("versions/old behind a marker", &old, ObjectRequest::GetTags, "200 []").await;
        let listed = self.list(&bucket, "", true).await;
        let keys: Vec<_> = listed.iter().map(|listed| listed.key.to_string()).collect();
        self.note("versions/listing leaves markers out", "v v", keys.join(" "));
        let ids = listed.iter().filter(|l| [&old.version, &new.version].contains(&&l.version)).count();
        self.note("versions/listing has the ids", "2", ids.to_string());
    }

    async fn acls(&mut self) {
        self.fixture.put(&self.fixture.plain, "acl", "STANDARD").await;
        let (there, missing) = (self.fixture.object("acl"), self.fixture.object("missing"));
        for acl in [ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Private] {
            let name = acl.as_str();
            self.ask(&format!("acl/put {name}"), &there, ObjectRequest::PutAcl(acl), "200").await;
            self.ask(&format!("acl/get {name}"), &there, ObjectRequest::GetAcl, &format!("200 {name}")).await;
        }
        self.ask("acl/put missing key", &missing, ObjectRequest::PutAcl(ObjectAcl::Private), "404 NoSuchKey").await;
        self.ask("acl/get missing key", &missing, ObjectRequest::GetAcl, "404 NoSuchKey").await;
    }

    async fn restores(&mut self) {
        for (key, class) in [("hot", "STANDARD"), ("cold", "GLACIER"), ("deep", "DEEP_ARCHIVE")] {
            self.fixture.put(&self.fixture.plain, key, class).await;
        }
        let restore = |days, tier| ObjectRequest::Restore(RestoreRequest { days: Some(days), tier });
        let of = |key: &str| self.fixture.object(key);
        let (hot, cold, deep, missing) = (of("hot"), of("cold"), of("deep"), of("missing"));
        self.ask("restore/head cold", &cold, ObjectRequest::Head, "200 GLACIER not restored").await;
        self.ask("restore/head deep", &deep, ObjectRequest::Head, "200 DEEP_ARCHIVE not restored").await;
        self.ask("restore/hot", &hot, restore(1, Some(RestoreTier::Standard)), "403 InvalidObjectState").await;
        self.ask("restore/cold", &cold, restore(7, Some(RestoreTier::Standard)), "202").await;
        self.ask("restore/cold under way", &cold, ObjectRequest::Head, "200 GLACIER in progress").await;
        self.ask("restore/cold again", &cold, restore(7, Some(RestoreTier::Standard)), "409 RestoreAlreadyInProgress")
            .await;
        self.ask("restore/deep bulk", &deep, restore(2, Some(RestoreTier::Bulk)), "202").await;
        self.ask("restore/missing key", &missing, restore(1, None), "404 NoSuchKey").await;
        self.fixture.put(&self.fixture.plain, "deep2", "DEEP_ARCHIVE").await;
        let deep = self.fixture.object("deep2");
        self.ask("restore/deep expedited", &deep, restore(2, Some(RestoreTier::Expedited)), "400 InvalidArgument")
            .await;
        self.fixture.put(&self.fixture.plain, "deep3", "DEEP_ARCHIVE").await;
        let deep = self.fixture.object("deep3");
        self.ask("restore/deep without tier", &deep, restore(2, None), "202").await;
        self.ask("head/missing key", &missing, ObjectRequest::Head, "404 NotFound").await;
    }

    async fn odd_keys(&mut self) {
        let longest = "k".repeat(1024);
        for key in ODD_KEYS.iter().copied().chain([longest.as_str()]) {
            // The SDK's client takes a blank key for a missing one, so the store itself makes the objects.
            let empty = ObjectContent::Bytes(bytes::Bytes::new());
            let made = self.fixture.store.write(&self.fixture.plain, &ObjectKey::from(key), empty, EMPTY_MD5).await;
            if made.is_err() {
                self.note(format!("key/{}", short(key)), "200, 200 [k=v]", format!("put answered {}", failure(made)));
                continue;
            }
            let object = self.fixture.object(key);
            let put =
                shown(self.fixture.store.send_request(&object, &ObjectRequest::PutTags(tags(&[("k", "v")]))).await);
            let get = shown(self.fixture.store.send_request(&object, &ObjectRequest::GetTags).await);
            self.note(format!("key/{}", short(key)), "200, 200 [k=v]", format!("{put}, {get}"));
            let listed = match self.pages_from(&self.fixture.plain, key, false, None).await {
                Ok(listed) => listed.iter().any(|listed| listed.key == ObjectKey::from(key)).to_string(),
                Err(fault) => fault,
            };
            self.note(format!("key listed/{}", short(key)), "true", listed);
        }
    }

    async fn listing(&mut self) {
        const MANY: usize = 1050;
        let bucket = self.fixture.plain.clone();
        for n in 0..MANY {
            self.fixture.put(&bucket, &format!("pages/{n:05}"), "STANDARD").await;
        }
        let listed = self.list(&bucket, "pages/", false).await;
        self.note("list/over pages", MANY.to_string(), listed.len().to_string());
        self.note("list/in order", "true", listed.is_sorted_by(|a, b| a.key < b.key).to_string());
        self.note(
            "list/size and class",
            "4 STANDARD",
            format!("{} {}", listed[0].size.unwrap_or(0), listed[0].class.as_str()),
        );
        // "body", whichever way it was put there.
        let etag = listed[0].etag.as_deref().unwrap_or_default().to_owned();
        self.note("list/etag", "841a2d689ad86bd1611447453c22c6fc", etag);
        self.note("list/no version", "None", format!("{:?}", listed[0].version));
        let versions = self.list(&bucket, "pages/", true).await;
        self.note("list/versions over pages", MANY.to_string(), versions.len().to_string());
        let nulls = versions.iter().filter(|l| l.version == Some(VersionId::null())).count();
        self.note("list/unversioned are null", MANY.to_string(), nulls.to_string());
        let behind = |key: &str| Some(ListPosition::After { key: ObjectKey::from(key), version: None });
        let current = self.list_from(&bucket, "pages/", false, behind("pages/00999~")).await;
        let first = current.first().map(|it| it.key.to_string());
        self.note("list/behind a key", "50 pages/01000", format!("{} {}", current.len(), first.unwrap_or_default()));
        let current = self.list_from(&bucket, "pages/", false, behind("pages/0")).await;
        self.note("list/over pages behind an invented key", MANY.to_string(), current.len().to_string());
        let versions = self.list_from(&bucket, "pages/", true, behind("pages/00999")).await;
        let first = versions.first().map(|it| it.key.to_string());
        let got = format!("{} {}", versions.len(), first.unwrap_or_default());
        self.note("list/versions behind a key", "50 pages/01000", got);
        self.note("list/nothing there", "0", self.list(&bucket, "nothing/", false).await.len().to_string());
        let request = ListRequest {
            bucket,
            prefix: ObjectKey::from("pa"),
            all_versions: false,
            group_by_directory: true,
            from: None,
        };
        let page = self.fixture.store.list(&request).await.expect("a page");
        self.note("list/directories", "[Key(pages/)]", format!("{:?}", page.common_prefixes));
        let nowhere = ListRequest { bucket: BucketName::new("no-such-bucket-batchplan"), ..request };
        let answer = self.fixture.store.list(&nowhere).await.map(|_| ());
        self.note("list/missing bucket", "404 NoSuchBucket", failure(answer));
    }

    async fn transfer(&mut self) {
        let (store, bucket) = (&self.fixture.store, &self.fixture.plain);
        let key = ObjectKey::from("report/file.csv");
        let content = || ObjectContent::Bytes(bytes::Bytes::from_static(b"hello"));
        let written = store.write(bucket, &key, content(), "XUFAKrxLKna5cZ2REBfFkg==").await;
        let wrong = store.write(bucket, &ObjectKey::from("other"), content(), "AAAAAAAAAAAAAAAAAAAAAA==").await;
        let mut opened = store.read(bucket, &key, None).await.expect("opened");
        let mut text = String::new();
        opened.body.read_to_string(&mut text).await.expect("read");
        let pinned = store.read(bucket, &key, Some(&opened.etag)).await.map(|_| ());
        let changed = store.read(bucket, &key, Some("5d41402abc4b2a76b9719d911017c593")).await.map(|_| ());
        let missing = store.read(bucket, &ObjectKey::from("missing"), None).await.map(|_| ());
        self.note("write/right md5", "ok", failure(written));
        self.note("write/wrong md5", "400 BadDigest", failure(wrong));
        self.note("read/content", "hello 5", format!("{text} {}", opened.size));
        self.note("read/etag", "5d41402abc4b2a76b9719d911017c592", opened.etag);
        self.note("read/same etag", "ok", failure(pinned));
        self.note("read/other etag", "412 PreconditionFailed", failure(changed));
        self.note("read/missing key", "404 NoSuchKey", failure(missing));
    }

    async fn asked(&mut self, name: &str, bucket: &BucketName, question: BucketSetting, aws: &str) {
        let got = match self.fixture.store.bucket_setting(bucket, question).await {
            Ok(BucketSettingValue::TagRules(rules)) => {
                let rules: Vec<_> = rules.iter().map(|rule| format!("{}={}", rule.id, rule.keys().join("+"))).collect();
                format!("[{}]", rules.join(" "))
            }
            Ok(BucketSettingValue::Versioning(versioning)) => format!("{versioning:?}"),
            Ok(BucketSettingValue::Ownership(ownership)) => format!("{ownership:?}"),
            Err(fault) => failure(Err(fault)),
        };
        self.note(name, aws, got);
    }

    async fn settings(&mut self) {
        let (plain, versioned) = (self.fixture.plain.clone(), self.fixture.versioned.clone());
        let nowhere = BucketName::new("no-such-bucket-batchplan");
        self.asked("setting/never versioned", &plain, BucketSetting::Versioning, "Never").await;
        self.asked("setting/versioned", &versioned, BucketSetting::Versioning, "Enabled").await;
        self.asked("setting/versioning of none", &nowhere, BucketSetting::Versioning, "404 NoSuchBucket").await;
        self.fixture.suspend_versions(&versioned).await;
        self.asked("setting/suspended", &versioned, BucketSetting::Versioning, "Suspended").await;
        self.asked("setting/no lifecycle", &plain, BucketSetting::TagRules, "[]").await;
        self.fixture.set_lifecycle(&plain).await;
        self.asked("setting/lifecycle", &plain, BucketSetting::TagRules, "[one=a two=b+c]").await;
        self.asked("setting/lifecycle of none", &nowhere, BucketSetting::TagRules, "404 NoSuchBucket").await;
        self.asked("setting/owned by writers", &plain, BucketSetting::Ownership, "ObjectWriter").await;
        if self.fixture.enforce_ownership(&plain).await {
            self.asked("setting/owned by the bucket", &plain, BucketSetting::Ownership, "BucketOwnerEnforced").await;
            let acl = self.fixture.object("acl");
            let refusal = "400 AccessControlListNotSupported";
            self.ask("setting/acl refused", &acl, ObjectRequest::PutAcl(ObjectAcl::Private), refusal).await;
            self.ask("setting/acl told", &acl, ObjectRequest::GetAcl, "200 private").await;
        }
        self.fixture.forget_ownership(&plain).await;
        self.asked("setting/owned by nobody said", &plain, BucketSetting::Ownership, "NotSet").await;
    }

    async fn strangers(&mut self) {
        let object = self.fixture.object("tagged");
        let got = shown(self.fixture.impostor.send_request(&object, &ObjectRequest::GetTags).await);
        self.note("stranger/wrong secret", "403 SignatureDoesNotMatch", got);
    }

    /// Every page.
    async fn list(&self, bucket: &BucketName, prefix: &str, all_versions: bool) -> Vec<ListedObject> {
        self.list_from(bucket, prefix, all_versions, None).await
    }

    /// Every page from there on.
    async fn list_from(
        &self,
        bucket: &BucketName,
        prefix: &str,
        all_versions: bool,
        from: Option<ListPosition>,
    ) -> Vec<ListedObject> {
        let listed = self.pages_from(bucket, prefix, all_versions, from).await;
        listed.unwrap_or_else(|why| panic!("list {prefix:?}: {why}"))
    }

    /// The same, or why there is no such listing.
    async fn pages_from(
        &self,
        bucket: &BucketName,
        prefix: &str,
        all_versions: bool,
        from: Option<ListPosition>,
    ) -> Result<Vec<ListedObject>, String> {
        let mut request = ListRequest {
            bucket: bucket.clone(),
            prefix: ObjectKey::from(prefix),
            all_versions,
            group_by_directory: false,
            from,
        };
        let (mut all, mut cursor) = (Vec::new(), ListCursor::new(all_versions, 10));
        loop {
            let page = self.fixture.store.list(&request).await.map_err(|fault| fault.to_string())?;
            let next = cursor.advance(request.from.as_ref(), &page)?;
            all.extend(page.entries);
            match next {
                Some(mark) => request.from = Some(mark),
                None => return Ok(all),
            }
        }
    }
}

fn failure(answer: Result<(), StoreError>) -> String {
    match answer {
        Ok(()) => "ok".to_owned(),
        Err(fault) => fault.status.map_or(fault.code.clone(), |status| format!("{status} {}", fault.code)),
    }
}

fn short(key: &str) -> String {
    if key.len() > 100 { format!("{} bytes", key.len()) } else { format!("{key:?}") }
}
