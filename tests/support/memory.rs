//! A store in memory that keeps the promises of the port, and watches how it is used.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use batchplan::call::{Call, ContentMark, Learned, ObjectHeaders, Reply};
use batchplan::object::{Acl, Bucket, Fact, Key, ObjectId, ObjectState, Restoration, StorageClass, TagSet};
use batchplan::store::{
    BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Ownership, Store, Versioning,
};
use batchplan::task::{Fault, FaultClass};
use jiff::Timestamp;

/// Objects by name, and what was asked about them.
#[derive(Default)]
pub(crate) struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<ObjectId, ObjectState>,
    calls: Vec<(ObjectId, Call)>,
    in_flight: HashMap<Key, u32>,
    overlapped: bool,
    most_in_flight: u32,
}

impl MemoryStore {
    /// A store with objects named `prefix` and a number, in bucket `b`.
    pub(crate) fn with_objects(count: u32) -> Arc<Self> {
        let store = Self::default();
        for n in 0..count {
            store.put(&object(&format!("k{n}")), &[]);
        }
        Arc::new(store)
    }

    /// Makes an object with these tags.
    pub(crate) fn put(&self, id: &ObjectId, tags: &[(&str, &str)]) {
        let state = ObjectState {
            tags: Fact::Known(tags.iter().copied().collect()),
            acl: Fact::Known(Acl::Private),
            restoration: Fact::Known(Restoration::Absent),
            class: Fact::Known(StorageClass::new("DEEP_ARCHIVE")),
        };
        self.inner.lock().expect("nobody panicked with it").objects.insert(id.clone(), state);
    }

    pub(crate) fn state(&self, id: &ObjectId) -> Option<ObjectState> {
        self.inner.lock().expect("nobody panicked with it").objects.get(id).cloned()
    }

    pub(crate) fn set_restoration(&self, id: &ObjectId, restoration: Restoration) {
        self.inner.lock().expect("nobody panicked with it").objects.get_mut(id).expect("it is there").restoration =
            Fact::Known(restoration);
    }

    pub(crate) fn set_class(&self, id: &ObjectId, class: &str) {
        self.inner.lock().expect("nobody panicked with it").objects.get_mut(id).expect("it is there").class =
            Fact::Known(StorageClass::new(class));
    }

    /// The requests so far, in the order of their arrival.
    pub(crate) fn calls(&self) -> Vec<(ObjectId, Call)> {
        self.inner.lock().expect("nobody panicked with it").calls.clone()
    }

    /// Whether two requests about one key were ever under way at once.
    pub(crate) fn overlapped(&self) -> bool {
        self.inner.lock().expect("nobody panicked with it").overlapped
    }

    pub(crate) fn most_in_flight(&self) -> u32 {
        self.inner.lock().expect("nobody panicked with it").most_in_flight
    }

    fn enter(&self, object: &ObjectId, call: &Call) {
        let mut inner = self.inner.lock().expect("nobody panicked with it");
        inner.calls.push((object.clone(), call.clone()));
        let here = inner.in_flight.entry(object.key.clone()).or_default();
        *here += 1;
        let overlap = *here > 1;
        inner.overlapped |= overlap;
        let total = inner.in_flight.values().sum();
        inner.most_in_flight = inner.most_in_flight.max(total);
    }

    fn answer(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        let mut inner = self.inner.lock().expect("nobody panicked with it");
        *inner.in_flight.get_mut(&object.key).expect("it is there") -= 1;
        let Some(state) = inner.objects.get_mut(object) else {
            return Err(refused(404, "NoSuchKey", FaultClass::Rejected));
        };
        let (status, learned) = match call {
            Call::GetTags => (200, Learned::Tags(state.tags.known().cloned().expect("it is there"))),
            Call::PutTags(tags) => {
                state.tags = Fact::Known(tags.clone());
                (200, Learned::Nothing)
            }
            Call::DeleteTags => {
                state.tags = Fact::Known(TagSet::default());
                (204, Learned::Nothing)
            }
            Call::GetAcl => (200, Learned::Acl(*state.acl.known().expect("it is there"))),
            Call::PutAcl(acl) => {
                state.acl = Fact::Known(*acl);
                (200, Learned::Nothing)
            }
            Call::Restore(_) if state.restoration == Fact::Known(Restoration::InProgress) => {
                return Err(refused(409, "RestoreAlreadyInProgress", FaultClass::Conflict));
            }
            Call::Restore(_) => {
                state.restoration = Fact::Known(Restoration::InProgress);
                (202, Learned::Nothing)
            }
            Call::Head => {
                let class = state.class.known().cloned().expect("it is there");
                let restoration = *state.restoration.known().expect("it is there");
                (200, Learned::Head { class, restoration, content: ContentMark::default() })
            }
        };
        Ok(Reply::new(status, learned))
    }
}

/// An object of bucket `b`.
pub(crate) fn object(key: &str) -> ObjectId {
    ObjectId { bucket: Bucket::new("b"), key: Key::from(key), version: None }
}

/// A server's refusal.
pub(crate) fn refused(status: u16, code: &str, class: FaultClass) -> Fault {
    Fault {
        class,
        status: Some(status),
        code: code.to_owned(),
        message: "refused".to_owned(),
        request_id: "R1".to_owned(),
        ec: String::new(),
        endpoint: "PUT http://memory/".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        retry_after: None,
        headers: ObjectHeaders::default(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        self.enter(object, call);
        tokio::task::yield_now().await;
        self.answer(object, call)
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, Fault> {
        Ok(ListPage::default())
    }

    async fn bucket(&self, _: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        Ok(match question {
            BucketQuestion::TagRules => BucketFact::TagRules(Vec::new()),
            BucketQuestion::Versioning => BucketFact::Versioning(Versioning::Never),
            BucketQuestion::Ownership => BucketFact::Ownership(Ownership::NotSet),
        })
    }

    async fn read(&self, _: &Bucket, _: &Key, _: Option<&str>) -> Result<Opened, Fault> {
        Err(refused(404, "NoSuchKey", FaultClass::Rejected))
    }

    async fn write(&self, _: &Bucket, _: &Key, _: Content, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        let (method, resource) = call.request();
        format!("{method} memory:{}?{resource}", object.key)
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

/// A store that answers every restore with a conflict, and everything else as it is.
pub(crate) struct AlwaysConflict(pub(crate) Arc<MemoryStore>);

#[async_trait]
impl Store for AlwaysConflict {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        match call {
            Call::Restore(_) => Err(refused(409, "RestoreAlreadyInProgress", FaultClass::Conflict)),
            _ => self.0.call(object, call).await,
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.0.list(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.0.bucket(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.0.read(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.0.write(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.0.request_url(object, call)
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        self.0.refuses_key(key)
    }
}

/// A store whose classes are all alike "Archive" or all alike another one, and of which none takes a tier.
pub(crate) struct NoTiers(pub(crate) Arc<MemoryStore>);

#[async_trait]
impl Store for NoTiers {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        match call {
            Call::Restore(request) if request.tier.is_some() => {
                Err(refused(400, "InvalidArgument", FaultClass::Rejected))
            }
            _ => self.0.call(object, call).await,
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.0.list(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.0.bucket(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.0.read(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.0.write(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.0.request_url(object, call)
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        self.0.refuses_key(key)
    }

    fn untiered_class(&self) -> Option<&'static str> {
        Some("Archive")
    }
}
