//! Previews what a plan would do, before it changes anything: resolves its manifest, reads some or all of its objects
//! in the order of the manifest, and selects examples. Also checks whether the server supports what the plan needs, as
//! far as reads can show, and whether a job with a frozen manifest may cost what it would cost.
//!
//! The requests and data volumes of the whole job follow from the objects that were read: exactly if all were read, by
//! scaling if they are a sample.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::error::hint_without_job;
use batchplan_store::object::{BucketName, ObjectId, ObjectState, RestoreRequest, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};
use batchplan_store::task::{StoreError, Task, TaskId, UNLISTABLE_KEY};
use batchplan_store::{ReadOnlyStore, Store};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::{JobError, describe_untrusted_server, untrusted_server_hint};
use super::recommendations::recommend;
use super::report_place::find_report_place;
use super::rule_check::{RuleCheck, lower};
use super::warnings::{PlanBuckets, all_warnings, exceeds_threshold};
use crate::diff::{
    Effect, FailureReason, Prediction, PredictionTotals, Predictor, ReadFailure, RequestCount, busiest_directory,
    compare_states,
};
use crate::engine::{
    JobQuota, ObjectReadOutcome, ReadCheckOutcome, ServerCheckFailure, Throttle, UndoneChangeError, UndoneChanges,
    Worker,
};
use crate::estimate::{
    BillableRequest, CostLimitCheck, JobWorkload, OverheadRequests, RestoreGroup, check_cost_limit, estimate,
    select_prices,
};
use crate::manifest::{
    ClassTotals, FreezeLimits, FreezeProgress, FrozenManifest, ManifestError, SampleOptions, SampleResult,
    SampledObject, SourceMetadata, SourcePin, StorageClassStats, UnlistableSample, freeze_and_sample, sample_frozen,
};
use crate::open_files;
use crate::operation::{ObjectAspect, OperationSet};
use crate::plan::Plan;
use crate::provider::{ClassPricing, ProviderRules};
use crate::report_format::{ReportFormat, ReportScope};

/// The number of objects to sample, with seed 0. `plan` reads the same sample, so both estimates are equal.
pub const SAMPLE_SIZE: u32 = 200;

/// The number of objects of a sample to read at once. With more, most requests would wait for a new connection, and their
/// latency would not be that of the job's requests.
const SAMPLE_CONCURRENCY: u32 = 32;

/// The number of examples of each kind.
const MAX_CHANGED: usize = 5;
const MAX_UNCHANGED: usize = 2;
const MAX_UNKNOWN: usize = 3;

/// The number of rows to read at once, and of batches to read ahead.
const BATCH_ROWS: usize = 256;
const BATCHES_AHEAD: usize = 4;

/// The number of buckets whose server is checked. Manifests with more buckets are rare.
const MAX_CHECKED_BUCKETS: usize = 100;

/// The number of objects to try in each bucket until one exists.
const MAX_OBJECTS_TRIED: usize = 50;

/// Which objects a preview reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviewOptions {
    /// The number of objects in the random sample.
    pub sample: u32,
    /// The seed that selects the sample.
    pub seed: u64,
    /// Whether to read every object.
    pub full: bool,
    /// Whether to verify the objects: to compare their state now with the one that the plan wants, instead of
    /// predicting what a job would do to them.
    pub verify: bool,
    /// The key for the digest of all objects, if one is needed. The digest shows later whether the objects are still
    /// the same.
    pub digest_key: Option<[u8; 16]>,
    /// The maximum number of objects, if it is lower than that of the plan.
    pub max_objects: Option<u64>,
}

/// Observes the progress of a preview.
pub trait PreviewObserver {
    /// Called after rows of the manifest were read, from any thread.
    fn on_rows_read(&self, prepared: FreezeProgress);

    /// Called after an object was read; `of` is the number of objects to read.
    ///
    /// # Errors
    /// Returns an error to end the preview.
    fn on_object_read(&mut self, prediction: &Prediction, of: u64) -> io::Result<()>;
}

/// What a plan would do.
#[derive(Debug)]
pub struct Preview {
    /// The frozen manifest, in a folder that the caller provides.
    pub frozen: FrozenManifest,
    /// The predicted outcomes of the objects that were read.
    pub tally: PredictionTotals,
    /// A few of these objects as examples.
    pub examples: ExampleSet,
    /// Which objects were read.
    pub options: PreviewOptions,
    /// What the manifest said without a request, and how recent that is.
    pub from_manifest: FactsFromManifest,
    /// The requests that the job would send, and the data that it would restore.
    pub workload: JobWorkload,
    /// Warnings to show before the plan is applied.
    pub warnings: Vec<String>,
    /// What to change in the plan, and why.
    pub recommendations: Vec<String>,
    /// Whether the job would probably fail, or be refused, for a reason among the warnings.
    pub would_fail: bool,
    /// Why the server is not trusted with the plan; `None` if it is trusted.
    pub refusal: Option<ServerCheckFailure>,
    /// How far the server was checked.
    pub server_check: ServerCheckStatus,
    /// The digest of all objects, if one was requested.
    pub digest: Option<String>,
    /// When the objects were read.
    pub read_at: Timestamp,
    /// The average latency of each kind of request that was sent to read them.
    pub latencies: BTreeMap<RequestKind, Duration>,
}

/// What was taken from the manifest instead of being requested from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactsFromManifest {
    /// The number of objects whose ACL the manifest gave.
    pub acls: u64,
    /// The number of objects whose storage class the manifest gave.
    pub classes: u64,
    /// When the inventory that gave them was begun; `None` for a listing, which is as recent as the preview.
    pub as_of: Option<Timestamp>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The manifest cannot be resolved.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The service rejected the credentials.
    #[error("the service rejected the credentials: {0}")]
    CredentialsRejected(Box<StoreError>),
    /// What an undo restores cannot be read.
    #[error(transparent)]
    Captures(UndoneChangeError),
    /// The preview was stopped.
    #[error("stopped: nothing was changed")]
    Stopped,
    /// The observer ended the preview.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PreviewError {
    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.help(),
            Self::CredentialsRejected(fault) => hint_without_job(&fault.code, fault.status),
            Self::Captures(_) | Self::Stopped | Self::Io(_) => None,
        }
    }
}

/// Makes the preview of a plan.
pub struct Previewer<'a> {
    /// The plan to preview.
    pub plan: &'a Plan,
    /// The plan's store, which can only be read.
    pub store: Arc<ReadOnlyStore>,
    /// An empty folder that nothing else uses.
    pub folder: &'a Path,
    /// Which objects to read.
    pub options: PreviewOptions,
    /// The captures that the plan restores, if it is an undo.
    pub undo: Option<Arc<UndoneChanges>>,
    /// Cancel this token to stop the preview.
    pub stop: &'a CancellationToken,
}

impl Previewer<'_> {
    /// Resolves the manifest, and reads its objects. The memory use does not depend on their number.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved, the credentials are rejected, the preview is stopped, or
    /// the observer ends it.
    pub async fn preview(&self, observer: &mut (dyn PreviewObserver + Send + Sync)) -> Result<Preview, PreviewError> {
        let limits = &self.plan.limits;
        let freeze_limits = FreezeLimits {
            max_disk: limits.max_disk,
            max_objects: lower(limits.max_objects, self.options.max_objects),
            concurrency: Some(limits.concurrency),
        };
        let PreviewOptions { sample, seed, full, digest_key: digest, .. } = self.options;
        let sampling = SampleOptions { size: sample as usize, seed, digest, all_metadata: full };
        let observe = |prepared| observer.on_rows_read(prepared);
        let store: Arc<dyn Store> = self.store.clone();
        let sample_result =
            freeze_and_sample(&self.plan.manifest, &store, self.folder, (freeze_limits, sampling), &observe, self.stop)
                .await;
        let (frozen, sample_result) = match sample_result {
            Err(ManifestError::Stopped) => return Err(PreviewError::Stopped),
            sample_result => sample_result?,
        };
        self.build_preview(frozen, sample_result, observer).await
    }

    /// Previews a manifest that is already frozen, with a sample that is taken now. What the source said about single
    /// objects is no longer known, only the totals are.
    ///
    /// # Errors
    /// As for [`preview`](Self::preview).
    pub async fn preview_frozen(
        &self,
        frozen: &FrozenManifest,
        observer: &mut (dyn PreviewObserver + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let PreviewOptions { sample, seed, .. } = self.options;
        let sampling = SampleOptions { size: sample as usize, seed, ..SampleOptions::default() };
        match sample_frozen(frozen, sampling, self.stop).await {
            Err(ManifestError::Stopped) => Err(PreviewError::Stopped),
            sample_result => self.build_preview(frozen.clone(), sample_result?, observer).await,
        }
    }

    async fn build_preview(
        &self,
        frozen: FrozenManifest,
        sample_result: SampleResult,
        observer: &mut (dyn PreviewObserver + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let full = self.options.full;
        let (at, asked) = (Timestamp::now(), self.store.request_counts());
        let named = sample_result.sample.iter().map(|it| &it.object.bucket);
        let buckets = PlanBuckets::query(self.plan, &*self.store, named, self.stop).await;
        let (server, refusal) = self.check_server(&sample_result.sample).await?;
        let create = if self.options.verify { Predictor::verifying } else { Predictor::new };
        let predictor = create(self.plan.operations(), ProviderRules::of(self.plan.store.provider).restore_service);
        let sampled = sample_result.sample.len() as u64;
        let busiest = busiest_directory(sample_result.sample.iter().map(|it| &it.object))
            .map(|(bucket, folder, count)| (bucket, folder, count, sampled));
        let class_stats = frozen.class_stats().cloned().unwrap_or_default();
        let mut totals = PreviewTotals::new(frozen.rows().min(if full { u64::MAX } else { sampled }));
        if !full {
            let UnlistableSample { count, first } = &sample_result.unlistable;
            totals.tally.add_unlistable(*count, first.iter().map(|(object, why)| (object, &**why)));
        }
        let source = if full { PreviewObjects::All(&frozen) } else { PreviewObjects::Sample(sample_result.sample) };
        let latencies = read_objects(self, &predictor, (source, &buckets), &mut totals, observer).await?;
        let since = match frozen.pin() {
            SourcePin::Inventory { created, .. } => *created,
            _ => None,
        };
        let rows = frozen.rows();
        let PreviewTotals { tally, examples, from_manifest, name_bytes, .. } = totals;
        let (mut warnings, mut recommendations, mut would_fail) = (Vec::new(), Vec::new(), false);
        if !self.options.verify {
            warnings = all_warnings(self.plan, &buckets, &class_stats, rows, &tally, busiest.as_ref());
            warnings.extend(unchecked_server_warning(self.plan, server).map(str::to_owned));
            let place = find_report_place(self.plan, &*self.store, self.stop).await;
            would_fail = place.is_err() || exceeds_threshold(self.plan, &tally, rows);
            warnings.extend(place.err().map(|place| format!("the report could not be published: {place}")));
            recommendations = recommend(self.plan, &buckets, &tally, rows);
        }
        Ok(Preview {
            workload: workload(self.plan, &class_stats, rows, &tally, asked, name_bytes),
            warnings,
            recommendations,
            would_fail,
            refusal,
            server_check: server,
            tally,
            examples,
            options: self.options,
            from_manifest: FactsFromManifest { as_of: since, ..from_manifest },
            digest: sample_result.digest,
            read_at: at,
            latencies,
            frozen,
        })
    }

    /// Returns whether the storage class of an object affects what its requests cost.
    fn needs_storage_class(&self, predictor: &Predictor) -> bool {
        let tags_alone = self.plan.operations.iter().all(|it| it.aspect() == ObjectAspect::Tags);
        match ProviderRules::of(self.plan.store.provider).class_pricing {
            ClassPricing::AllButTagWrites => !tags_alone || predictor.job_reads_tags(),
            ClassPricing::AllRequests => true,
            ClassPricing::OnlyPlanPrices => {
                let priced = self.plan.prices.book.is_some() || self.plan.prices.file.is_some();
                priced && (!tags_alone || predictor.job_reads_tags())
            }
        }
    }
}

/// A few objects of each kind. Objects that would fail are shown with their reasons instead.
#[derive(Clone, Debug, Default)]
pub struct ExampleSet {
    /// Objects that change, each in a different way if possible.
    pub changed: Vec<Prediction>,
    /// Objects that stay as they are.
    pub unchanged: Vec<Prediction>,
    /// Objects whose outcome is unknown.
    pub unknown: Vec<Prediction>,
    /// Objects whose change is like one that is already shown.
    similar: Vec<Prediction>,
    seen_changes: BTreeSet<Vec<(char, String)>>,
}

impl ExampleSet {
    fn add(&mut self, prediction: &Prediction) {
        match &prediction.effect {
            Effect::Changes(after) => {
                if self.changed.len() >= MAX_CHANGED {
                    return;
                }
                let signed =
                    compare_states(&prediction.before, after).into_iter().map(|line| (line.change.sign(), line.text));
                let change = signed.collect::<Vec<_>>();
                if self.seen_changes.insert(change) {
                    self.changed.push(prediction.clone());
                } else if self.similar.len() < MAX_CHANGED {
                    self.similar.push(prediction.clone());
                }
            }
            Effect::Unchanged if self.unchanged.len() < MAX_UNCHANGED => self.unchanged.push(prediction.clone()),
            Effect::Unknown(_) if self.unknown.len() < MAX_UNKNOWN => self.unknown.push(prediction.clone()),
            Effect::Unchanged | Effect::Unknown(_) | Effect::Fails(_) => {}
        }
    }

    /// Fills up with similar changes, to three examples.
    fn finish(&mut self) {
        let room = 3_usize.saturating_sub(self.changed.len());
        self.changed.extend(self.similar.drain(..).take(room));
        self.seen_changes.clear();
    }
}

/// A row of the manifest to preview.
struct PreviewRow {
    sampled: SampledObject,
    /// Why no request can name the object, if none can.
    unlistable: Option<Box<str>>,
}

impl From<SampledObject> for PreviewRow {
    fn from(sampled: SampledObject) -> Self {
        Self { sampled, unlistable: None }
    }
}

/// The objects to read.
enum PreviewObjects<'a> {
    /// The objects of the sample.
    Sample(Vec<SampledObject>),
    /// Every object of the manifest, with what its source says about it.
    All(&'a FrozenManifest),
}

/// The results of a preview so far.
struct PreviewTotals {
    tally: PredictionTotals,
    examples: ExampleSet,
    from_manifest: FactsFromManifest,
    /// Bytes that the names of the objects take in a report.
    name_bytes: u64,
    total: u64,
}

impl PreviewTotals {
    /// Creates empty results; `of` is the number of objects to read.
    fn new(total: u64) -> Self {
        Self {
            tally: PredictionTotals::default(),
            examples: ExampleSet::default(),
            from_manifest: FactsFromManifest::default(),
            name_bytes: 0,
            total,
        }
    }
}

/// Reads every object of the source. Returns the latencies of the requests.
async fn read_objects(
    previewer: &Previewer<'_>,
    predictor: &Predictor,
    (source, buckets): (PreviewObjects<'_>, &PlanBuckets),
    totals: &mut PreviewTotals,
    observer: &mut (dyn PreviewObserver + Send + Sync),
) -> Result<BTreeMap<RequestKind, Duration>, PreviewError> {
    let limits = &previewer.plan.limits;
    let most = if previewer.options.full { limits.concurrency } else { limits.concurrency.min(SAMPLE_CONCURRENCY) };
    let concurrency = open_files::fit_to_available(most, 1);
    let throttle = Throttle::new(JobQuota::new(concurrency, limits.requests_per_second));
    let (store, stop) = (previewer.store.clone(), previewer.stop.clone());
    let worker = Worker::new(store, OperationSet::new(Vec::new()), throttle, RetryPolicy::default(), stop)
        .measuring_latencies(concurrency as usize);
    let wants_class = !previewer.options.verify && previewer.needs_storage_class(predictor);
    let operations = previewer.plan.operations().names();
    let wants_version = !previewer.store.names_version_of_acl() && previewer.plan.operations().captures_acl_alone();
    let read_one = async |row: Result<PreviewRow, ManifestError>| {
        let PreviewRow { sampled: SampledObject { object, mut metadata, origin }, unlistable } = row?;
        if let Some(why) = unlistable {
            return Ok((predict_unlistable(object, &operations, &why), metadata));
        }
        metadata.state = predictor.usable_facts(&metadata.state);
        let reads = predictor.preview_reads(&metadata.state, wants_class);
        let (seen, read_failure) = match worker.read_object(&object, &reads).await {
            ObjectReadOutcome::Complete(seen) => (seen, None),
            ObjectReadOutcome::Failed { seen, call, fault }
                if fault.status != Some(404) && !fault.is_redirect() && !predictor.depends_on(&call) =>
            {
                (seen, None)
            }
            ObjectReadOutcome::Failed { seen, call, fault } => (
                seen,
                Some(ReadFailure { call, fault: with_error_code(*fault, &object, buckets.is_missing(&object.bucket)) }),
            ),
            ObjectReadOutcome::CredentialsRejected(fault) => return Err(PreviewError::CredentialsRejected(fault)),
            ObjectReadOutcome::Stopped => return Err(PreviewError::Stopped),
        };
        let acls = buckets.acl_acceptance(&object.bucket);
        let has_versions = object.version.is_none() && buckets.has_versions(&object.bucket);
        let before = predictor.relevant_state(&merge_state(&metadata, seen));
        let mut prediction = match previewer.undo.as_ref().zip(origin) {
            Some((changes, origin)) => {
                let change = changes.change(origin).map_err(PreviewError::Captures)?;
                predictor.predict_undo(object, before, read_failure.as_ref(), &change)
            }
            None => predictor.predict(object, before, read_failure.as_ref(), acls),
        };
        if wants_version && has_versions {
            add_version_read(&mut prediction);
        }
        Ok((prediction, metadata))
    };
    let objects: BoxStream<'_, _> = match source {
        PreviewObjects::Sample(sample) => stream::iter(sample).map(|sampled| Ok(sampled.into())).boxed(),
        PreviewObjects::All(frozen) => all_objects(frozen)?,
    };
    let mut predictions = std::pin::pin!(objects.map(read_one).buffered(concurrency as usize));
    while let Some(one) = predictions.next().await {
        let (prediction, metadata) = one?;
        record(totals, &prediction, &metadata);
        observer.on_object_read(&prediction, totals.total)?;
    }
    totals.examples.finish();
    Ok(worker.latencies())
}

/// Adds the HEAD with which the job finds out the version of an object that it captures, after its reads.
fn add_version_read(prediction: &mut Prediction) {
    let reads = prediction.accepted.iter().take_while(|call| !call.is_write()).count();
    if reads > 0 {
        prediction.accepted.insert(reads, ObjectRequest::Head);
    }
}

/// Predicts that the job fails on an object that no request can name, for this reason.
fn predict_unlistable(object: ObjectId, operations: &str, why: &str) -> Prediction {
    let (code, operation) = (UNLISTABLE_KEY.to_owned(), operations.to_owned());
    Prediction {
        object,
        before: ObjectState::default(),
        effect: Effect::Fails(FailureReason { code, http: 0, operation, message: why.to_owned() }),
        accepted: Vec::new(),
        refused: Vec::new(),
    }
}

/// Gives a fault the error code that the job's own requests would get. The response to a HEAD request has none.
fn with_error_code(fault: StoreError, object: &ObjectId, no_bucket: bool) -> StoreError {
    if fault.status != Some(404) || fault.code.starts_with("NoSuch") {
        return fault;
    }
    let code = match &object.version {
        _ if no_bucket => "NoSuchBucket",
        Some(_) => "NoSuchVersion",
        None => "NoSuchKey",
    };
    StoreError { code: code.to_owned(), message: "there is no such object".to_owned(), ..fault }
}

/// Combines what was read from an object with what its source says about the rest.
fn merge_state(metadata: &SourceMetadata, seen: ObjectState) -> ObjectState {
    let mut merged = seen;
    for rules in ObjectAspect::ALL.map(ObjectAspect::rules) {
        if !rules.is_known(&merged) {
            rules.copy(&metadata.state, &mut merged);
        }
    }
    if merged.class.known().is_none() {
        merged.class = metadata.state.class.clone();
    }
    merged
}

fn record(totals: &mut PreviewTotals, prediction: &Prediction, metadata: &SourceMetadata) {
    if let Effect::Fails(FailureReason { code, message, .. }) = &prediction.effect
        && code == UNLISTABLE_KEY
    {
        totals.tally.add_unlistable(1, [(&prediction.object, message.as_str())]);
        return;
    }
    totals.tally.add(prediction, metadata.size);
    totals.examples.add(prediction);
    totals.name_bytes += name_bytes(&prediction.object);
    totals.from_manifest.acls +=
        u64::from(metadata.state.acl.known().is_some() && prediction.before.acl == metadata.state.acl);
    totals.from_manifest.classes += u64::from(metadata.state.class.known().is_some());
}

/// Streams every row of a manifest with what its source says about it. A thread reads a few batches ahead.
fn all_objects(
    frozen: &FrozenManifest,
) -> Result<BoxStream<'static, Result<PreviewRow, ManifestError>>, ManifestError> {
    let mut facts = frozen.source_metadata()?;
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, BATCH_ROWS);
    let (to, from) = mpsc::channel::<Result<Vec<PreviewRow>, ManifestError>>(BATCHES_AHEAD);
    tokio::task::spawn_blocking(move || {
        for batch in tasks {
            let batch = batch.and_then(|tasks| {
                let with_metadata = |task: Task| {
                    let Task { object, origin, .. } = task;
                    let sampled = SampledObject { object, metadata: facts.next_row()?, origin };
                    Ok(PreviewRow { sampled, unlistable: task.unlistable })
                };
                tasks.into_iter().map(with_metadata).collect()
            });
            let last = batch.is_err();
            if to.blocking_send(batch).is_err() || last {
                return;
            }
        }
    });
    let batches = stream::unfold(from, async |mut from| from.recv().await.map(|batch| (batch, from)));
    let rows = batches.flat_map(|batch| {
        stream::iter(match batch {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    });
    Ok(rows.boxed())
}

/// Returns the bytes that the names of an object take in a report.
fn name_bytes(object: &ObjectId) -> u64 {
    let version = object.version.as_ref().map_or(0, |version| version.as_str().len());
    (object.bucket.as_str().len() + object.key.encoded_keeping_slashes().len() + version) as u64
}

/// How far the server was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCheckStatus {
    /// No check is needed: the server belongs to AWS or Alibaba Cloud, or is the embedded one.
    NotNeeded,
    /// The plan turns the check off.
    Off,
    /// None of the objects allowed a check.
    NotChecked,
    /// Reads show nothing wrong.
    Passed,
    /// The server is not trusted with the plan.
    Refused,
}

impl ServerCheckStatus {
    /// Returns the name that JSON output uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Off => "off",
            Self::NotChecked => "not_checked",
            Self::Passed => "passed",
            Self::Refused => "refused",
        }
    }
}

impl Previewer<'_> {
    /// Checks the server with objects of the sample, for each bucket and each aspect that the plan writes and that can
    /// be read. Stops at the first refusal.
    async fn check_server(
        &self,
        sample: &[SampledObject],
    ) -> Result<(ServerCheckStatus, Option<ServerCheckFailure>), PreviewError> {
        if !self.plan.needs_server_check() {
            let status =
                if self.plan.store.is_first_party() { ServerCheckStatus::NotNeeded } else { ServerCheckStatus::Off };
            return Ok((status, None));
        }
        let mut status = ServerCheckStatus::NotChecked;
        let mut buckets: BTreeMap<&BucketName, Vec<&ObjectId>> = BTreeMap::new();
        for SampledObject { object, .. } in sample {
            if buckets.len() < MAX_CHECKED_BUCKETS || buckets.contains_key(&object.bucket) {
                buckets.entry(&object.bucket).or_default().push(object);
            }
        }
        let throttle = Throttle::new(JobQuota::new(1, self.plan.limits.requests_per_second));
        let nothing = OperationSet::new(Vec::new());
        let worker = Worker::new(self.store.clone(), nothing, throttle, RetryPolicy::default(), self.stop.clone());
        let about = |aspect: &ObjectAspect| self.plan.operations.iter().any(|operation| operation.aspect() == *aspect);
        for objects in buckets.values() {
            for aspect in ObjectAspect::ALL.into_iter().filter(about) {
                for object in objects.iter().take(MAX_OBJECTS_TRIED) {
                    match worker.check_reads(object, aspect).await {
                        ReadCheckOutcome::ObjectMissing(_) => {}
                        // A restore has nothing that could be read.
                        ReadCheckOutcome::Proven if aspect.read_request().is_none() => break,
                        ReadCheckOutcome::Proven => {
                            status = ServerCheckStatus::Passed;
                            break;
                        }
                        // The same problem occurs again when the sample is read.
                        ReadCheckOutcome::RequestFailed(_) => break,
                        ReadCheckOutcome::ServerFailed(refusal) => {
                            return Ok((ServerCheckStatus::Refused, Some(*refusal)));
                        }
                        ReadCheckOutcome::CredentialsRejected(fault) => {
                            return Err(PreviewError::CredentialsRejected(fault));
                        }
                        ReadCheckOutcome::Stopped => return Err(PreviewError::Stopped),
                    }
                }
            }
        }
        Ok((status, None))
    }
}

/// Returns the warning about a server that reads could have checked, but did not.
fn unchecked_server_warning(plan: &Plan, status: ServerCheckStatus) -> Option<&'static str> {
    let could = plan.operations.iter().any(|operation| operation.aspect().read_request().is_some());
    (could && status == ServerCheckStatus::NotChecked).then_some(
        "the server could not be checked with the objects that were read; the job checks it before its first write",
    )
}

/// Reads a sample of a job's objects. Nothing is changed.
///
/// # Errors
/// Returns an error if the objects cannot be read.
pub async fn preview_sample(
    plan: &Plan,
    undo: Option<Arc<UndoneChanges>>,
    frozen: &FrozenManifest,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<Preview, JobError> {
    let store = Arc::new(ReadOnlyStore::new(Arc::clone(store)));
    let options = PreviewOptions {
        sample: SAMPLE_SIZE,
        seed: 0,
        full: false,
        verify: false,
        digest_key: None,
        max_objects: None,
    };
    let previewer = Previewer { plan, store, folder: Path::new(""), options, undo, stop };
    previewer.preview_frozen(frozen, &mut SilentPreviewObserver).await.map_err(|error| match error {
        PreviewError::Manifest(error) => JobError::Manifest(error),
        PreviewError::Stopped => JobError::Manifest(ManifestError::Stopped),
        PreviewError::CredentialsRejected(fault) => JobError::CredentialsRejected(fault),
        PreviewError::Captures(error) => JobError::Io(io::Error::other(error)),
        PreviewError::Io(error) => JobError::Io(error),
    })
}

/// Refuses a job that would cost more than its plan or the rules allow, estimated from a sample of its objects. Returns `false` if
/// the check was stopped.
///
/// # Errors
/// Returns an error if the cost exceeds the limit or is unknown, if the prices or the objects cannot be read, or if the
/// server is not trusted.
pub(super) async fn check_cost(
    plan: &Plan,
    rules: &RuleCheck,
    undo: Option<Arc<UndoneChanges>>,
    frozen: &FrozenManifest,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<bool, JobError> {
    if plan.limits.max_cost.is_none() && !rules.limits_cost() {
        return Ok(true);
    }
    let rates = select_prices(plan, None)?;
    let preview = match preview_sample(plan, undo, frozen, store, stop).await {
        Err(JobError::Manifest(ManifestError::Stopped)) => return Ok(false),
        preview => preview?,
    };
    if let Some(refusal) = &preview.refusal {
        return Err(untrusted_error(plan, refusal));
    }
    let estimate = estimate(&preview.workload, &rates);
    rules.check_cost(plan, &estimate)?;
    let limit = plan.limits.max_cost.map(|max| check_cost_limit(&estimate, &max));
    match limit.as_ref().and_then(CostLimitCheck::error) {
        Some(refusal) => Err(JobError::TooExpensive(Box::new(refusal.clone()))),
        None => Ok(true),
    }
}

/// Converts a preview's finding that the server is not trusted to the error that ends a command.
#[must_use]
pub fn untrusted_error(plan: &Plan, refusal: &ServerCheckFailure) -> JobError {
    JobError::Untrusted {
        job: None,
        why: describe_untrusted_server(plan, refusal),
        help: untrusted_server_hint(refusal),
    }
}

/// An observer that ignores progress, because reading a sample takes only a moment.
struct SilentPreviewObserver;

impl PreviewObserver for SilentPreviewObserver {
    fn on_rows_read(&self, _: FreezeProgress) {}

    fn on_object_read(&mut self, _: &Prediction, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a row in a report besides its names: status, code and separators.
const ROW_BYTES: u64 = 40;

/// Bytes that a failure adds to a row: JSON in the OSS format, only a message in the AWS format.
const OSS_FAILURE_BYTES: u64 = 400;
const AWS_FAILURE_BYTES: u64 = 100;

/// The size in bytes at which a report file is closed and uploaded.
const SEGMENT_BYTES: u64 = crate::report::ROTATE_AT;

/// Returns the requests and data volumes of the whole job. `asked` is the number of listing pages and of objects that
/// were read for the preview; the job reads the same. `names` is the bytes that the names of these objects take in a
/// report.
fn workload(
    plan: &Plan,
    class_stats: &StorageClassStats,
    rows: u64,
    tally: &PredictionTotals,
    asked: (u64, u64),
    names: u64,
) -> JobWorkload {
    let scale = SampleScale::new(class_stats, rows.saturating_sub(tally.unlistable.count), tally);
    let mut work = JobWorkload {
        objects: rows,
        operations: u32::try_from(plan.operations.len()).unwrap_or(u32::MAX),
        ..JobWorkload::default()
    };
    for (class, call, count) in scale.scale_requests(&tally.accepted) {
        work.add_requests(BillableRequest::of(&call), class.as_ref(), count);
        if let ObjectRequest::Restore(request) = call {
            add_restored_data(&mut work, class, request, count, &scale, tally);
        }
    }
    for (class, call, count) in scale.scale_requests(&tally.refused) {
        work.add_rejected_requests(BillableRequest::of(&call), class.as_ref(), count);
    }
    work.unpredictable_objects = scale.scale_count(tally.unknown);
    work.overhead = own_requests(plan, rows, tally, asked, names);
    work
}

/// Adds the data that restores of one class bring back.
fn add_restored_data(
    work: &mut JobWorkload,
    class: Option<StorageClass>,
    request: RestoreRequest,
    objects: u64,
    scale: &SampleScale<'_>,
    tally: &PredictionTotals,
) {
    // Nothing is known about single objects of a manifest that was frozen earlier.
    let frozen_earlier = tally.restored.get(&class).is_some_and(|(_, unknown)| *unknown > 0);
    let (bytes, unsized_objects) = match scale.class_totals.and_then(|classes| classes.get(&class)) {
        // The source gives totals of the whole class. The restored part of it is assumed to have the average size.
        Some(all) if tally.total() < scale.rows || frozen_earlier => {
            (proportion(all.bytes, objects, all.objects), proportion(all.unsized_objects, objects, all.objects))
        }
        _ => {
            let (bytes, unknown) = tally.restored.get(&class).copied().unwrap_or_default();
            (scale.scale_count(bytes), scale.scale_count(unknown))
        }
    };
    let place = RestoreGroup { class, tier: request.tier, days: request.days };
    let volume = work.restored.entry(place).or_default();
    volume.objects = volume.objects.saturating_add(objects);
    volume.bytes = volume.bytes.saturating_add(u128::from(bytes));
    volume.unsized_objects = volume.unsized_objects.saturating_add(unsized_objects);
}

/// Returns the requests and bytes that the program needs for itself.
fn own_requests(
    plan: &Plan,
    rows: u64,
    tally: &PredictionTotals,
    (lists, reads): (u64, u64),
    names: u64,
) -> OverheadRequests {
    let Some(_) = &plan.report.location else {
        return OverheadRequests { lists, reads, ..OverheadRequests::default() };
    };
    let objects_read = tally.total().max(1);
    let unlistable = tally.unlistable.count;
    let failed = proportion(tally.fails, rows.saturating_sub(unlistable), objects_read).saturating_add(unlistable);
    let listed = match plan.report.scope {
        ReportScope::AllTasks => rows,
        ReportScope::FailedTasksOnly => failed,
    };
    let failure = match plan.report.format {
        ReportFormat::Oss => OSS_FAILURE_BYTES,
        ReportFormat::Aws => AWS_FAILURE_BYTES,
    };
    let bytes = proportion(names, listed, objects_read) + listed * ROW_BYTES + failed * failure;
    // Successes and failures go to separate files, and `manifest.json` comes last.
    let kinds = u64::from(failed > 0) + u64::from(listed > failed);
    let uploads = bytes / SEGMENT_BYTES + kinds + 1;
    OverheadRequests { lists, reads, uploads, report_bytes: u128::from(bytes) }
}

/// Scales counts of the objects that were read to all objects.
struct SampleScale<'a> {
    rows: u64,
    sampled: u64,
    /// The number of objects of each class among those that were read.
    sampled_classes: &'a BTreeMap<Option<StorageClass>, u64>,
    /// The totals of each class, if the source gives the class of every object.
    class_totals: Option<&'a BTreeMap<Option<StorageClass>, ClassTotals>>,
}

impl<'a> SampleScale<'a> {
    fn new(class_stats: &'a StorageClassStats, rows: u64, tally: &'a PredictionTotals) -> Self {
        let class_totals =
            Some(&class_stats.classes).filter(|classes| !classes.is_empty() && !classes.contains_key(&None));
        Self { rows, sampled: tally.total(), sampled_classes: &tally.classes, class_totals }
    }

    /// Scales a count that does not depend on classes.
    fn scale_count(&self, count: u64) -> u64 {
        if self.sampled >= self.rows { count } else { proportion(count, self.rows, self.sampled) }
    }

    /// Scales each kind of request, with its class and its count.
    fn scale_requests(
        &self,
        counts: &BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>,
    ) -> Vec<(Option<StorageClass>, ObjectRequest, u64)> {
        let plain = |(key, sent): (&(RequestKind, Option<StorageClass>), &RequestCount)| {
            (key.1.clone(), sent.call.clone(), sent.count)
        };
        let Some(class_totals) = self.class_totals.filter(|_| self.sampled < self.rows) else {
            return counts
                .iter()
                .map(plain)
                .map(|(class, call, count)| (class, call, self.scale_count(count)))
                .collect();
        };
        let mut kinds: BTreeMap<RequestKind, (&ObjectRequest, u64)> = BTreeMap::new();
        for ((kind, _), sent) in counts {
            kinds.entry(*kind).or_insert((&sent.call, 0)).1 += sent.count;
        }
        let mut all = Vec::new();
        for (class, totals) in class_totals {
            for (kind, (call, overall)) in &kinds {
                let seen = self.sampled_classes.get(class).copied().unwrap_or(0);
                let own = counts.get(&(*kind, class.clone()));
                let count = if seen == 0 {
                    // The sample contains no object of this class. Assume that it is like the others.
                    proportion(*overall, totals.objects, self.sampled)
                } else {
                    proportion(own.map_or(0, |sent| sent.count), totals.objects, seen)
                };
                if count > 0 {
                    // The tier of a restore depends on the class.
                    let call = own.map_or(*call, |sent| &sent.call);
                    all.push((class.clone(), call.clone(), count));
                }
            }
        }
        all
    }
}

/// Returns `count * all / of`, rounded to the nearest integer.
fn proportion(count: u64, all: u64, of: u64) -> u64 {
    let of = u128::from(of.max(1));
    let exact = u128::from(count) * u128::from(all);
    let (whole, rest) = (exact / of, exact % of);
    u64::try_from(whole + u128::from(rest * 2 >= of)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{Effect, Prediction};
    use batchplan_store::object::{BucketName, MaybeKnown, ObjectAcl, ObjectId, ObjectKey, ObjectState};

    fn prediction(class: Option<&str>, sends: Vec<ObjectRequest>) -> Prediction {
        let class = class.map_or(MaybeKnown::Unknown, |class| MaybeKnown::Known(StorageClass::new(class)));
        let before = ObjectState { class, ..ObjectState::default() };
        let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None };
        Prediction { object, effect: Effect::Changes(before.clone()), before, accepted: sends, refused: Vec::new() }
    }

    fn class_stats(classes: &[(Option<&str>, u64, u64)]) -> StorageClassStats {
        let tally = |objects, bytes| ClassTotals { objects, bytes, unsized_objects: 0 };
        let classes =
            classes.iter().map(|(class, objects, bytes)| (class.map(StorageClass::new), tally(*objects, *bytes)));
        StorageClassStats { classes: classes.collect(), versioned_objects: 0 }
    }

    #[test]
    fn each_class_is_scaled_by_its_own() {
        let mut tally = PredictionTotals::default();
        for _ in 0..8 {
            tally.add(
                &prediction(Some("STANDARD"), vec![ObjectRequest::GetAcl, ObjectRequest::PutAcl(ObjectAcl::Private)]),
                Some(1),
            );
        }
        tally.add(&prediction(Some("GLACIER"), vec![ObjectRequest::GetAcl]), Some(1));
        tally.add(
            &prediction(Some("GLACIER"), vec![ObjectRequest::GetAcl, ObjectRequest::PutAcl(ObjectAcl::Private)]),
            Some(1),
        );
        let class_stats =
            class_stats(&[(Some("STANDARD"), 900, 0), (Some("GLACIER"), 80, 0), (Some("DEEP_ARCHIVE"), 20, 0)]);
        let scale = SampleScale::new(&class_stats, 1000, &tally);
        let mut work = JobWorkload::default();
        for (class, call, count) in scale.scale_requests(&tally.accepted) {
            work.add_requests(BillableRequest::of(&call), class.as_ref(), count);
        }
        let of = |kind: RequestKind, class: &str| work.requests[&(kind.into(), Some(StorageClass::new(class)))];
        assert_eq!((of(RequestKind::GetAcl, "STANDARD"), of(RequestKind::PutAcl, "STANDARD")), (900, 900));
        assert_eq!((of(RequestKind::GetAcl, "GLACIER"), of(RequestKind::PutAcl, "GLACIER")), (80, 40));
        assert_eq!((of(RequestKind::GetAcl, "DEEP_ARCHIVE"), of(RequestKind::PutAcl, "DEEP_ARCHIVE")), (20, 18));
    }

    #[test]
    fn restores_bring_back_the_bytes_of_their_class() {
        let request = RestoreRequest { days: Some(3), tier: None };
        let mut tally = PredictionTotals::default();
        tally.add(&prediction(Some("GLACIER"), vec![ObjectRequest::Restore(request)]), Some(10));
        tally.add(&prediction(Some("GLACIER"), vec![]), Some(30));
        let class_stats = class_stats(&[(Some("GLACIER"), 1000, 5000)]);
        let scale = SampleScale::new(&class_stats, 1000, &tally);
        let mut work = JobWorkload::default();
        add_restored_data(&mut work, Some(StorageClass::new("GLACIER")), request, 500, &scale, &tally);
        let volume = work.restored.values().next().expect("a volume");
        assert_eq!((volume.objects, volume.bytes, volume.unsized_objects), (500, 2500, 0));
    }

    #[test]
    fn shares_are_rounded_and_do_not_overflow() {
        assert_eq!(proportion(1, 10, 3), 3);
        assert_eq!(proportion(2, 10, 3), 7);
        assert_eq!(proportion(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(proportion(5, 7, 0), 35);
    }
}
