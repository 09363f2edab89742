//! Reads many objects at once, and predicts the outcome of each, in the order of the manifest.

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::{ObjectId, ObjectState};
use batchplan_store::task::{StoreError, TaskId};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use super::warnings::PlanBuckets;
use super::workload::name_bytes;
use super::{ExampleSet, FactsFromManifest, PreviewError, PreviewObserver, Previewer};
use crate::descriptors;
use crate::diff::{Prediction, PredictionTotals, Predictor, ReadFailure};
use crate::engine::{JobQuota, ObjectReadOutcome, Throttle, Worker};
use crate::manifest::{FrozenManifest, ManifestError, SampledObject, SourceMetadata};
use crate::operation::{ObjectAspect, OperationSet};

/// The number of rows to read at once, and of batches to read ahead.
const BATCH_ROWS: usize = 256;
const BATCHES_AHEAD: usize = 4;

/// The objects to read.
pub(super) enum PreviewObjects<'a> {
    /// The objects of the sample.
    Sample(Vec<SampledObject>),
    /// Every object of the manifest, with what its source says about it.
    All(&'a FrozenManifest),
}

/// The results of a preview so far.
pub(super) struct PreviewTotals {
    pub(super) tally: PredictionTotals,
    pub(super) examples: ExampleSet,
    pub(super) from_manifest: FactsFromManifest,
    /// Bytes that the names of the objects take in a report.
    pub(super) name_bytes: u64,
    total: u64,
}

impl PreviewTotals {
    /// Creates empty results; `of` is the number of objects to read.
    pub(super) fn new(total: u64) -> Self {
        Self {
            tally: PredictionTotals::default(),
            examples: ExampleSet::default(),
            from_manifest: FactsFromManifest::default(),
            name_bytes: 0,
            total,
        }
    }
}

/// Reads every object of the source.
pub(super) async fn read_objects(
    previewer: &Previewer<'_>,
    judge: &Predictor,
    (source, buckets): (PreviewObjects<'_>, &PlanBuckets),
    examined: &mut PreviewTotals,
    onlooker: &mut (dyn PreviewObserver + Send + Sync),
) -> Result<(), PreviewError> {
    let limits = &previewer.plan.limits;
    let concurrency = descriptors::fit_to_available(limits.concurrency, 1);
    let throttle = Throttle::new(JobQuota::new(concurrency, limits.requests_per_second));
    let (store, stop) = (previewer.store.clone(), previewer.stop.clone());
    let worker = Worker::new(store, OperationSet::new(Vec::new()), throttle, RetryPolicy::default(), stop);
    let wants_class = previewer.needs_storage_class(judge);
    let look = async |sampled: Result<SampledObject, ManifestError>| {
        let SampledObject { object, metadata: mut told } = sampled?;
        told.state = judge.relevant_state(&told.state);
        let looks = judge.required_reads(&told.state, wants_class);
        let (seen, trouble) = match worker.read_object(&object, &looks).await {
            ObjectReadOutcome::Complete(seen) => (seen, None),
            ObjectReadOutcome::Failed { seen, call, fault }
                if fault.status != Some(404) && !judge.depends_on(&call) =>
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
        let takes_acl = buckets.takes_acl(&object.bucket);
        let prospect =
            judge.predict(object, judge.relevant_state(&merge_state(&told, seen)), trouble.as_ref(), takes_acl);
        Ok((prospect, told))
    };
    let objects: BoxStream<'_, _> = match source {
        PreviewObjects::Sample(sample) => stream::iter(sample).map(Ok).boxed(),
        PreviewObjects::All(frozen) => all_objects(frozen)?,
    };
    let mut looked = std::pin::pin!(objects.map(look).buffered(concurrency as usize));
    while let Some(one) = looked.next().await {
        let (prospect, told) = one?;
        record(examined, &prospect, &told);
        onlooker.on_object_read(&prospect, examined.total)?;
    }
    examined.examples.finish();
    Ok(())
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
fn merge_state(told: &SourceMetadata, seen: ObjectState) -> ObjectState {
    let mut merged = seen;
    for rules in ObjectAspect::ALL.map(ObjectAspect::rules) {
        if !rules.is_known(&merged) {
            rules.copy(&told.state, &mut merged);
        }
    }
    if merged.class.known().is_none() {
        merged.class = told.state.class.clone();
    }
    merged
}

fn record(examined: &mut PreviewTotals, prospect: &Prediction, told: &SourceMetadata) {
    examined.tally.add(prospect, told.size);
    examined.examples.add(prospect);
    examined.name_bytes += name_bytes(&prospect.object);
    examined.from_manifest.acls += u64::from(told.state.acl.known().is_some() && prospect.before.acl == told.state.acl);
    examined.from_manifest.classes += u64::from(told.state.class.known().is_some());
}

/// Streams every row of a manifest with what its source says about it. A thread reads a few batches ahead.
fn all_objects(
    frozen: &FrozenManifest,
) -> Result<BoxStream<'static, Result<SampledObject, ManifestError>>, ManifestError> {
    let mut facts = frozen.source_metadata()?;
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, BATCH_ROWS);
    let (to, from) = mpsc::channel::<Result<Vec<SampledObject>, ManifestError>>(BATCHES_AHEAD);
    tokio::task::spawn_blocking(move || {
        for batch in tasks {
            let batch = batch.and_then(|tasks| {
                let told = |task: batchplan_store::task::Task| {
                    Ok(SampledObject { object: task.object, metadata: facts.next_row()? })
                };
                tasks.into_iter().map(told).collect()
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
