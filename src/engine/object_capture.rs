//! Captures each object before its first write: reads what the job would not read otherwise, finds out the version, and
//! waits until the capture is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use batchplan_store::object::{BucketName, MaybeKnown, ObjectState, VersionId};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, TaskId};
use batchplan_store::timeouts::{OBJECT_REQUEST_TIMEOUT, scaled};
use batchplan_store::{BucketSetting, BucketSettingValue, BucketVersioning, Mutex};
use tokio::sync::OnceCell;
use tracing::debug;

use super::capture_queue::{CaptureDenial, CaptureQueue};
use super::request_sender::{ObjectContext, RequestAbort, RequestSender};
use crate::captures::{Capture, FormerState, FormerValue};
use crate::operation::{ObjectAspect, OperationSet, OperationStep};

/// The number of buckets of which it is remembered whether they have versions.
const MAX_BUCKETS: usize = 10_000;

/// Captures the objects of one job.
pub(super) struct ObjectCapture {
    queue: CaptureQueue,
    /// The reads that the job sends only to capture.
    reads: Vec<OperationStep>,
    aspects: Vec<ObjectAspect>,
    /// Whether captures of an earlier run may be missing.
    may_be_missing: bool,
    /// Whether any of `reads` has succeeded in this run.
    is_read_allowed: AtomicBool,
    /// Whether HEAD names a version, by bucket. Only of buckets whose own answers name none.
    versions: Mutex<HashMap<BucketName, Arc<OnceCell<bool>>>>,
    /// The state of the last object: most objects of a job are in the same one.
    last: Mutex<Arc<FormerState>>,
}

/// What was read of an object so far.
#[derive(Default)]
pub(super) struct ObjectReading {
    /// The state that was read.
    pub(super) state: ObjectState,
    /// The version that an answer named.
    pub(super) version: Option<VersionId>,
    /// The status of the last answer.
    pub(super) status: Option<u16>,
}

impl ObjectReading {
    /// Adds an answer.
    pub(super) fn add(&mut self, reply: ObjectResponse) {
        self.status = Some(reply.status);
        self.version = reply.version.or(self.version.take());
        self.state.apply(reply.data);
    }
}

impl ObjectCapture {
    /// Creates what captures the objects of a job. `may_be_missing` says whether captures of earlier runs may be missing.
    pub(super) fn new(queue: CaptureQueue, operations: &OperationSet, may_be_missing: bool) -> Self {
        Self {
            queue,
            reads: operations.capture_reads(),
            aspects: operations.captured_aspects().collect(),
            may_be_missing,
            is_read_allowed: AtomicBool::new(false),
            versions: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Reads what the job itself has not read of an object.
    ///
    /// If the first such read is denied, the job stops: it would fail on every object, and nothing was changed yet.
    pub(super) async fn read(
        &self,
        sender: &RequestSender,
        context: &ObjectContext<'_>,
        reading: &mut ObjectReading,
    ) -> Result<(), RequestAbort> {
        for step in &self.reads {
            match sender.read_checked(context, step).await {
                Ok(reply) => {
                    self.is_read_allowed.store(true, Ordering::Relaxed);
                    reading.add(reply);
                }
                Err(RequestAbort::Failed(failure))
                    if failure.error.status == Some(403) && !self.is_read_allowed.load(Ordering::Relaxed) =>
                {
                    let (object, request) = (context.object.clone(), step.call.clone());
                    return Err(RequestAbort::CaptureDenied(Box::new(CaptureDenial {
                        object,
                        request,
                        fault: failure.error,
                    })));
                }
                Err(abort) => return Err(abort),
            }
        }
        Ok(())
    }

    /// Waits until the state that was read is on disk. `may_have_been_written` says whether an earlier run of the job may
    /// have written the object.
    pub(super) async fn record(
        &self,
        sender: &RequestSender,
        context: &ObjectContext<'_>,
        (row, reading): (TaskId, ObjectReading),
        (operations, may_have_been_written): (&OperationSet, bool),
    ) -> Result<(), RequestAbort> {
        let version = match (&context.object.version, reading.version) {
            // The manifest has it.
            (Some(_), _) => None,
            (None, Some(version)) => Some(version),
            // An answer has named none, so the bucket has no versions.
            (None, None) if self.aspects.contains(&ObjectAspect::Tags) => None,
            (None, None) if sender.store.names_version_of_acl() => None,
            (None, None) => self.head_version(sender, context).await?,
        };
        let desired = (self.may_be_missing && may_have_been_written).then(|| operations.desired(&reading.state).ok());
        let former = former_state(&self.aspects, &reading.state, desired.flatten().as_ref());
        let capture = Capture { row, version, former: self.share(former) };
        self.queue.record(capture).await.map_err(RequestAbort::CaptureNotKept)
    }

    /// Returns the state, shared with the object before if that was in the same one.
    fn share(&self, former: FormerState) -> Arc<FormerState> {
        let mut last = self.last.lock();
        if **last != former {
            *last = Arc::new(former);
        }
        Arc::clone(&last)
    }

    /// Returns the version that HEAD names, if the bucket has versions. The bucket says so, or its first object if the
    /// credentials may not ask the bucket.
    async fn head_version(
        &self,
        sender: &RequestSender,
        context: &ObjectContext<'_>,
    ) -> Result<Option<VersionId>, RequestAbort> {
        let bucket = {
            let mut buckets = self.versions.lock();
            if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&context.object.bucket) {
                buckets.clear();
            }
            Arc::clone(buckets.entry(context.object.bucket.clone()).or_default())
        };
        let mut first = None;
        let has_versions = bucket
            .get_or_try_init(async || {
                if let Some(has_versions) = has_versions(sender, &context.object.bucket).await {
                    return Ok(has_versions);
                }
                let version = send_head(sender, context).await?;
                let has_versions = version.is_some();
                first = version;
                Ok::<_, RequestAbort>(has_versions)
            })
            .await?;
        match (has_versions, first) {
            (true, None) => send_head(sender, context).await,
            (_, first) => Ok(first),
        }
    }
}

/// Returns whether a bucket has versions, if it says so.
async fn has_versions(sender: &RequestSender, bucket: &BucketName) -> Option<bool> {
    let asking = sender.store.bucket_setting(bucket, BucketSetting::Versioning);
    match tokio::time::timeout(scaled(OBJECT_REQUEST_TIMEOUT), asking).await {
        Ok(Ok(BucketSettingValue::Versioning(versioning))) => Some(versioning != BucketVersioning::Never),
        _ => None,
    }
}

/// Returns the version that HEAD names. It is not known if HEAD is refused: undo then goes by the object's state alone.
async fn send_head(sender: &RequestSender, context: &ObjectContext<'_>) -> Result<Option<VersionId>, RequestAbort> {
    let step = OperationStep { call: ObjectRequest::Head, operation: String::new() };
    match sender.send(context, &step).await {
        Ok(reply) => Ok(reply.version),
        Err(RequestAbort::Failed(failure)) if failure.error.class == FaultClass::Rejected => {
            debug!(error = %failure.error, "the version of an object is not known");
            Ok(None)
        }
        Err(abort) => Err(abort),
    }
}

/// Returns the state to capture. An aspect is unknown if it already has its desired value, which an earlier run may have
/// written.
fn former_state(aspects: &[ObjectAspect], before: &ObjectState, desired: Option<&ObjectState>) -> FormerState {
    fn value<T: Clone + PartialEq>(before: &MaybeKnown<T>, desired: Option<&MaybeKnown<T>>) -> FormerValue<T> {
        match before.known() {
            Some(_) if desired == Some(before) => FormerValue::Unknown,
            Some(value) => FormerValue::Known(value.clone()),
            None => FormerValue::NotCaptured,
        }
    }
    let mut former = FormerState::default();
    for aspect in aspects {
        match aspect {
            ObjectAspect::Tags => former.tags = value(&before.tags, desired.map(|desired| &desired.tags)),
            ObjectAspect::Acl => former.acl = value(&before.acl, desired.map(|desired| &desired.acl)),
            // What a restore does cannot be undone.
            ObjectAspect::Restoration => {}
        }
    }
    former
}
