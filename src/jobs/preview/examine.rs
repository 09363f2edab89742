//! Looks at objects, many at once, and has each judged in the order of the manifest.

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

/// Rows that are read at once, and batches that wait.
const BATCH: usize = 256;
const AHEAD: usize = 4;

/// Which objects are looked at.
pub(super) enum Source<'a> {
    /// Each of the sample.
    Sample(Vec<Sampled>),
    /// Each of the manifest, with what its source told of it.
    Every(&'a Frozen),
}

/// What has come of it so far.
pub(super) struct Examined {
    pub(super) tally: Tally,
    pub(super) shown: Shown,
    pub(super) told: Facts,
    /// Bytes of their names in a report.
    pub(super) names: u64,
    of: u64,
}

impl Examined {
    /// Nothing yet, of so many.
    pub(super) fn new(of: u64) -> Self {
        Self { tally: Tally::default(), shown: Shown::default(), told: Facts::default(), names: 0, of }
    }
}

/// Looks at every object of the source.
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

/// A fault by the code that the job's own requests would be given: a HEAD is answered without any.
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

/// What is known of an object: what was seen, and what was told of what was not looked at.
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

/// Every row of a manifest with what was told of it, read by a thread that is a few batches ahead at most.
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
