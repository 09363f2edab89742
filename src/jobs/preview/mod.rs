//! What a plan would do, before it does anything: its manifest resolved, some or all of its objects looked at.
//!
//! | file | what it does |
//! |---|---|
//! | `examine` | looks at objects, many at once and in order |
//! | `shown` | which of them are worth showing |
//! | `workload` | what the whole job sends and holds |
//! | `cautions` | what deserves a second thought |
//! | `server` | whether the server knows what the plan asks of it |

mod cautions;
mod examine;
mod server;
mod shown;
mod workload;

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::diff::{Judge, Prospect, Service, Tally, busiest};
use crate::engine::ServerRefusal;
use crate::estimate::Workload;
use crate::manifest::{Bounds, Frozen, ManifestError, Pin, Prepared, Surveyed, Wish, sample_of, survey};
use crate::plan::Plan;
use crate::store::{Provider, ReadOnly, Store};
use crate::task::Fault;

use examine::Examined;

pub use cautions::{Buckets, of_plan as cautions, server_check_off};
pub use server::ServerLook;
pub use shown::Shown;

/// How closely a plan's objects are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closeness {
    /// Objects of the random sample.
    pub sample: u32,
    /// Which sample.
    pub seed: u64,
    /// Whether every object is looked at.
    pub full: bool,
    /// The key of the digest by which the same objects are known again, where that is wanted.
    pub digest: Option<[u8; 16]>,
}

/// Whoever looks on.
pub trait Onlooker {
    /// Rows of the manifest were read. Called from wherever they are.
    fn prepares(&self, prepared: Prepared);

    /// An object was looked at, as the next of so many.
    ///
    /// # Errors
    /// When it is of no use to go on.
    fn looked(&mut self, prospect: &Prospect, of: u64) -> io::Result<()>;
}

/// What a plan would do.
#[derive(Debug)]
pub struct Preview {
    /// The manifest as it was frozen, in a folder of the caller's.
    pub frozen: Frozen,
    /// What becomes of the objects that were looked at.
    pub tally: Tally,
    /// A few of them.
    pub shown: Shown,
    /// How closely they were looked at.
    pub closeness: Closeness,
    /// What the manifest told that needed no request, and since when that may be out of date.
    pub told: Facts,
    /// What the job would send and hold.
    pub work: Workload,
    /// What deserves a second thought.
    pub cautions: Vec<String>,
    /// Why the server is not trusted with the plan, where it is not.
    pub refusal: Option<ServerRefusal>,
    /// How far the server was checked.
    pub server: ServerLook,
    /// The digest, where it was wanted.
    pub digest: Option<String>,
    /// When the objects were looked at.
    pub at: Timestamp,
}

/// What was taken from the manifest instead of being asked of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// ACLs of so many objects.
    pub acls: u64,
    /// Storage classes of so many objects.
    pub classes: u64,
    /// When the inventory that tells them was begun; a listing is as old as the preview.
    pub since: Option<Timestamp>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The manifest cannot be resolved.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The service refuses the credentials.
    #[error("the service refuses the credentials: {0}")]
    Refused(Box<Fault>),
    /// It was stopped.
    #[error("stopped: nothing was changed")]
    Stopped,
    /// Whoever looked on had enough.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PreviewError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.help(),
            Self::Refused(fault) => super::advice(&fault.code, fault.status.unwrap_or_default()).map(str::to_owned),
            Self::Stopped | Self::Io(_) => None,
        }
    }
}

/// A plan, and where its preview is made.
pub struct Previewer<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its store.
    pub store: Arc<ReadOnly>,
    /// An empty folder that nobody else uses.
    pub folder: &'a Path,
    /// How closely it looks.
    pub closeness: Closeness,
    /// Cancelled to have it stop.
    pub stop: &'a CancellationToken,
}

impl Previewer<'_> {
    /// Resolves the manifest, and looks at its objects. Memory does not grow with them.
    ///
    /// # Errors
    /// When the manifest cannot be resolved, the credentials are refused, it is stopped, or the onlooker has enough.
    pub async fn preview(&self, onlooker: &mut (dyn Onlooker + Send + Sync)) -> Result<Preview, PreviewError> {
        let limits = &self.plan.limits;
        let bounds = Bounds {
            max_disk: limits.max_disk,
            max_objects: limits.max_objects,
            concurrency: Some(limits.concurrency),
        };
        let Closeness { sample, seed, full, digest } = self.closeness;
        let wish = Wish { sample: sample as usize, seed, digest, every: full };
        let observe = |prepared| onlooker.prepares(prepared);
        let store: Arc<dyn Store> = self.store.clone();
        let surveyed = survey(&self.plan.manifest, &store, self.folder, (bounds, wish), &observe, self.stop).await;
        let (frozen, surveyed) = match surveyed {
            Err(ManifestError::Stopped) => return Err(PreviewError::Stopped),
            surveyed => surveyed?,
        };
        self.look(frozen, surveyed, onlooker).await
    }

    /// Looks at the objects of a manifest that is frozen already, of which a sample is taken now. What its source told of them
    /// is not known any more, but for the sums.
    ///
    /// # Errors
    /// As [`preview`](Self::preview).
    pub async fn preview_of(
        &self,
        frozen: &Frozen,
        onlooker: &mut (dyn Onlooker + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let Closeness { sample, seed, .. } = self.closeness;
        let wish = Wish { sample: sample as usize, seed, ..Wish::default() };
        match sample_of(frozen, wish, self.stop).await {
            Err(ManifestError::Stopped) => Err(PreviewError::Stopped),
            surveyed => self.look(frozen.clone(), surveyed?, onlooker).await,
        }
    }

    async fn look(
        &self,
        frozen: Frozen,
        surveyed: Surveyed,
        onlooker: &mut (dyn Onlooker + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let full = self.closeness.full;
        let (at, asked) = (Timestamp::now(), self.store.asked());
        let named = surveyed.sample.iter().map(|it| &it.object.bucket);
        let buckets = Buckets::ask(self.plan, &*self.store, named, self.stop).await;
        let (server, refusal) = self.check_server(&surveyed.sample).await?;
        let judge = Judge::new(self.plan.operations(), Service::from(self.plan.store.provider));
        let sampled = surveyed.sample.len() as u64;
        let busiest = busiest(surveyed.sample.iter().map(|it| &it.object))
            .map(|(bucket, folder, count)| (bucket, folder, count, sampled));
        let census = frozen.census().cloned().unwrap_or_default();
        let mut examined = Examined::new(frozen.rows().min(if full { u64::MAX } else { sampled }));
        let source = if full { examine::Source::Every(&frozen) } else { examine::Source::Sample(surveyed.sample) };
        examine::run(self, &judge, (source, &buckets), &mut examined, onlooker).await?;
        let since = match frozen.pin() {
            Pin::Inventory { created, .. } => *created,
            _ => None,
        };
        let rows = frozen.rows();
        let Examined { tally, shown, told, names, .. } = examined;
        let mut cautions = cautions::all(self.plan, &buckets, &census, rows, &tally, busiest.as_ref());
        cautions.extend(cautions::unchecked(self.plan, server).map(str::to_owned));
        Ok(Preview {
            work: workload::workload(self.plan, &census, rows, &tally, asked, names),
            cautions,
            refusal,
            server,
            tally,
            shown,
            closeness: self.closeness,
            told: Facts { since, ..told },
            digest: surveyed.digest,
            at,
            frozen,
        })
    }

    /// Whether it matters of what class an object is: to what its requests cost.
    fn wants_class(&self, judge: &Judge) -> bool {
        let tags_alone = self.plan.operations.iter().all(|it| it.aspect() == crate::operation::Aspect::Tags);
        match self.plan.store.provider {
            // To write tags costs the same whatever they are about; to read them does not.
            Provider::Aws => !tags_alone || judge.reads_tags(),
            Provider::Oss => true,
            Provider::S3 | Provider::Sandbox => {
                let priced = self.plan.prices.book.is_some() || self.plan.prices.file.is_some();
                priced && !tags_alone
            }
        }
    }
}
