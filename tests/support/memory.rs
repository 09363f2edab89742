//! A store in memory that keeps the promises of the port, and watches how it is used.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use batchplan_store::object::{
    ArchiveStatus, BucketName, MaybeKnown, ObjectAcl, ObjectId, ObjectKey, ObjectState, RestoreState, StorageClass,
    TagSet,
};
use batchplan_store::object_request::{ContentIdentity, ObjectHeaderSet, ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{
    BucketSetting, BucketSettingValue, BucketVersioning, ListPage, ListRequest, ObjectContent, OpenedObject,
    OwnershipSetting, Store,
};
use jiff::Timestamp;

/// Objects by name, and what was asked about them.
#[derive(Default)]
pub(crate) struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<ObjectId, ObjectState>,
    calls: Vec<(ObjectId, ObjectRequest)>,
    in_flight: HashMap<ObjectKey, u32>,
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
            tags: MaybeKnown::Known(tags.iter().copied().collect()),
            acl: MaybeKnown::Known(ObjectAcl::Private),
            restoration: MaybeKnown::Known(RestoreState::NotRestored),
            class: MaybeKnown::Known(StorageClass::new("DEEP_ARCHIVE")),
            archive_status: MaybeKnown::Known(ArchiveStatus::NotArchived),
        };
        self.inner.lock().expect("nobody panicked with it").objects.insert(id.clone(), state);
    }

    pub(crate) fn state(&self, id: &ObjectId) -> Option<ObjectState> {
        self.inner.lock().expect("nobody panicked with it").objects.get(id).cloned()
    }

    pub(crate) fn set_restoration(&self, id: &ObjectId, restoration: RestoreState) {
        self.inner.lock().expect("nobody panicked with it").objects.get_mut(id).expect("it is there").restoration =
            MaybeKnown::Known(restoration);
    }

    pub(crate) fn set_class(&self, id: &ObjectId, class: &str) {
        self.inner.lock().expect("nobody panicked with it").objects.get_mut(id).expect("it is there").class =
            MaybeKnown::Known(StorageClass::new(class));
    }

    /// The requests so far, in the order of their arrival.
    pub(crate) fn calls(&self) -> Vec<(ObjectId, ObjectRequest)> {
        self.inner.lock().expect("nobody panicked with it").calls.clone()
    }

    /// Whether two requests about one key were ever under way at once.
    pub(crate) fn overlapped(&self) -> bool {
        self.inner.lock().expect("nobody panicked with it").overlapped
    }

    pub(crate) fn most_in_flight(&self) -> u32 {
        self.inner.lock().expect("nobody panicked with it").most_in_flight
    }

    fn enter(&self, object: &ObjectId, call: &ObjectRequest) {
        let mut inner = self.inner.lock().expect("nobody panicked with it");
        inner.calls.push((object.clone(), call.clone()));
        let here = inner.in_flight.entry(object.key.clone()).or_default();
        *here += 1;
        let overlap = *here > 1;
        inner.overlapped |= overlap;
        let total = inner.in_flight.values().sum();
        inner.most_in_flight = inner.most_in_flight.max(total);
    }

    fn answer(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        let mut inner = self.inner.lock().expect("nobody panicked with it");
        *inner.in_flight.get_mut(&object.key).expect("it is there") -= 1;
        let Some(state) = inner.objects.get_mut(object) else {
            return Err(refused(404, "NoSuchKey", FaultClass::Rejected));
        };
        let (status, learned) = match call {
            ObjectRequest::GetTags => (200, ResponseData::Tags(state.tags.known().cloned().expect("it is there"))),
            ObjectRequest::PutTags(tags) => {
                state.tags = MaybeKnown::Known(tags.clone());
                (200, ResponseData::Empty)
            }
            ObjectRequest::DeleteTags => {
                state.tags = MaybeKnown::Known(TagSet::default());
                (204, ResponseData::Empty)
            }
            ObjectRequest::GetAcl => (200, ResponseData::Acl(state.acl.known().cloned().expect("it is there"))),
            ObjectRequest::PutAcl(acl) => {
                state.acl = MaybeKnown::Known(acl.clone());
                (200, ResponseData::Empty)
            }
            ObjectRequest::Restore(_) if state.restoration == MaybeKnown::Known(RestoreState::InProgress) => {
                return Err(refused(409, "RestoreAlreadyInProgress", FaultClass::Conflict));
            }
            ObjectRequest::Restore(_) => {
                state.restoration = MaybeKnown::Known(RestoreState::InProgress);
                (202, ResponseData::Empty)
            }
            ObjectRequest::Head => {
                let class = state.class.known().cloned().expect("it is there");
                let restoration = *state.restoration.known().expect("it is there");
                (
                    200,
                    ResponseData::Head {
                        class,
                        restoration,
                        archive_status: ArchiveStatus::NotArchived,
                        content: ContentIdentity::default(),
                    },
                )
            }
        };
        Ok(ObjectResponse::new(status, learned))
    }
}

/// An object of bucket `b`.
pub(crate) fn object(key: &str) -> ObjectId {
    ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from(key), version: None }
}

/// A server's refusal.
pub(crate) fn refused(status: u16, code: &str, class: FaultClass) -> StoreError {
    StoreError {
        class,
        status: Some(status),
        code: code.to_owned(),
        message: "refused".to_owned(),
        request_id: "R1".to_owned(),
        ec: String::new(),
        request_line: "PUT http://memory/".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        retry_after: None,
        headers: ObjectHeaderSet::default(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        self.enter(object, call);
        tokio::task::yield_now().await;
        self.answer(object, call)
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    async fn bucket_setting(&self, _: &BucketName, question: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        Ok(match question {
            BucketSetting::TagRules => BucketSettingValue::TagRules(Vec::new()),
            BucketSetting::Versioning => BucketSettingValue::Versioning(BucketVersioning::Never),
            BucketSetting::Ownership => BucketSettingValue::Ownership(OwnershipSetting::NotSet),
        })
    }

    async fn read(&self, _: &BucketName, _: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        Err(refused(404, "NoSuchKey", FaultClass::Rejected))
    }

    async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        let (method, resource) = call.method_and_subresource();
        format!("{method} memory:{}?{resource}", object.key)
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}

/// A store that answers every restore with a conflict, and everything else as it is.
pub(crate) struct AlwaysConflict(pub(crate) Arc<MemoryStore>);

#[async_trait]
impl Store for AlwaysConflict {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        match call {
            ObjectRequest::Restore(_) => Err(refused(409, "RestoreAlreadyInProgress", FaultClass::Conflict)),
            _ => self.0.send_request(object, call).await,
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.0.list(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.0.bucket_setting(bucket, question).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.0.read(bucket, key, if_match).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.0.write(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.0.request_line(object, call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.0.unsupported_key_reason(key)
    }
}

/// A store whose classes are all alike "Archive" or all alike another one, and of which none takes a tier.
pub(crate) struct NoTiers(pub(crate) Arc<MemoryStore>);

#[async_trait]
impl Store for NoTiers {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        match call {
            ObjectRequest::Restore(request) if request.tier.is_some() => {
                Err(refused(400, "InvalidArgument", FaultClass::Rejected))
            }
            _ => self.0.send_request(object, call).await,
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.0.list(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.0.bucket_setting(bucket, question).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.0.read(bucket, key, if_match).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.0.write(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.0.request_line(object, call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.0.unsupported_key_reason(key)
    }

    fn untiered_class(&self) -> Option<&'static str> {
        Some("Archive")
    }
}
