//! Reads many objects at once, and predicts the outcome of each, in the order of the manifest.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use super::cautions::Buckets;
use super::workload::name_bytes;
use super::{Facts, Onlooker, PreviewError, Previewer, Shown};
use crate::backoff::RetryPolicy;
use crate::descriptors;
use crate::diff::{Judge, Prospect, Tally, Trouble};
use crate::engine::{Allowance, Looked, Throttle, Worker};
use crate::manifest::{Frozen, ManifestError, Sampled, Told};
use crate::object::{Fact, ObjectId, ObjectState};
use crate::operation::Operations;
use crate::task::{Fault, Seq};

/// The number of rows to read at once, and of batches to read ahead.
const BATCH: usize = 256;
const AHEAD: usize = 4;

/// The objects to read.
pub(super) enum Source<'a> {
    /// The objects of the sample.
    Sample(Vec<Sampled>),
    /// Every object of the manifest, with what its source says about it.
    Every(&'a Frozen),
}

/// The results of a preview so far.
pub(super) struct Examined {
    pub(super) tally: Tally,
    pub(super) shown: Shown,
    pub(super) told: Facts,
    /// Bytes that the names of the objects take in a report.
    pub(super) names: u64,
    of: u64,
}

impl Examined {
    /// Creates empty results; `of` is the number of objects to read.
    pub(super) fn new(of: u64) -> Self {
        Self { tally: Tally::default(), shown: Shown::default(), told: Facts::default(), names: 0, of }
    }
}

/// Reads every object of the source.
pub(super) async fn run(
    previewer: &Previewer<'_>,
    judge: &Judge,
    (source, buckets): (Source<'_>, &Buckets),
    examined: &mut Examined,
    onlooker: &mut (dyn Onlooker + Send + Sync),
) -> Result<(), PreviewError> {
    let limits = &previewer.plan.limits;
    let concurrency = descriptors::fitting(limits.concurrency, 1);
    let throttle = Throttle::new(Allowance::new(concurrency, limits.requests_per_second));
    let (store, stop) = (previewer.store.clone(), previewer.stop.clone());
    let worker = Worker::new(store, Operations::new(Vec::new()), throttle, RetryPolicy::default(), stop);
    let wants_class = previewer.wants_class(judge);
    let look = async |sampled: Result<Sampled, ManifestError>| {
        let Sampled { object, mut told } = sampled?;
        told.state = judge.relevant(told.state);
        let looks = judge.looks(&told.state, wants_class);
        let (seen, trouble) = match worker.look_at(&object, &looks).await {
            Looked::Seen(seen) => (seen, None),
            Looked::Failed { seen, call, fault } if fault.status != Some(404) && !judge.hangs_on(&call) => (seen, None),
            Looked::Failed { seen, call, fault } => {
                (seen, Some(Trouble { call, fault: named(*fault, &object, buckets.lacks(&object.bucket)) }))
            }
            Looked::Refused(fault) => return Err(PreviewError::Refused(fault)),
            Looked::Stopped => return Err(PreviewError::Stopped),
        };
        let takes_acl = buckets.takes_acl(&object.bucket);
        let prospect = judge.judge(object, judge.relevant(together(&told, seen)), trouble.as_ref(), takes_acl);
        Ok((prospect, told))
    };
    let objects: BoxStream<'_, _> = match source {
        Source::Sample(sample) => stream::iter(sample).map(Ok).boxed(),
        Source::Every(frozen) => every(frozen)?,
    };
    let mut looked = std::pin::pin!(objects.map(look).buffered(concurrency as usize));
    while let Some(one) = looked.next().await {
        let (prospect, told) = one?;
        take(examined, &prospect, &told);
        onlooker.looked(&prospect, examined.of)?;
    }
    examined.shown.finish();
    Ok(())
}

/// Gives a fault the error code that the job's own requests would get. The response to a HEAD request has none.
fn named(fault: Fault, object: &ObjectId, no_bucket: bool) -> Fault {
    if fault.status != Some(404) || fault.code.starts_with("NoSuch") {
        return fault;
    }
    let code = match &object.version {
        _ if no_bucket => "NoSuchBucket",
        Some(_) => "NoSuchVersion",
        None => "NoSuchKey",
    };
    Fault { code: code.to_owned(), message: "there is no such object".to_owned(), ..fault }
}

/// Combines what was read from an object with what its source says about the rest.
fn together(told: &Told, seen: ObjectState) -> ObjectState {
    fn or<T: Clone>(seen: Fact<T>, told: &Fact<T>) -> Fact<T> {
        if seen.known().is_none() { told.clone() } else { seen }
    }
    let ObjectState { tags, acl, restoration, class } = seen;
    ObjectState { tags, acl: or(acl, &told.state.acl), restoration, class: or(class, &told.state.class) }
}

fn take(examined: &mut Examined, prospect: &Prospect, told: &Told) {
    examined.tally.add(prospect, told.size);
    examined.shown.add(prospect);
    examined.names += name_bytes(&prospect.object);
    examined.told.acls += u64::from(told.state.acl.known().is_some() && prospect.before.acl == told.state.acl);
    examined.told.classes += u64::from(told.state.class.known().is_some());
}

/// Streams every row of a manifest with what its source says about it. A thread reads a few batches ahead.
fn every(frozen: &Frozen) -> Result<BoxStream<'static, Result<Sampled, ManifestError>>, ManifestError> {
    let mut facts = frozen.facts()?;
    let tasks = frozen.tasks(Seq { part: 0, row: 0 }, BATCH);
    let (to, from) = mpsc::channel::<Result<Vec<Sampled>, ManifestError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        for batch in tasks {
            let batch = batch.and_then(|tasks| {
                let told = |task: crate::task::Task| Ok(Sampled { object: task.object, told: facts.next_row()? });
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
