//! Previews what a plan would do, before it changes anything: resolves its manifest, and reads some or all of its
//! objects.
//!
//! | file | what it does |
//! |---|---|
//! | `examine` | reads many objects at once, in order |
//! | `shown` | selects the examples to show |
//! | `workload` | computes the requests and data volumes of the whole job |
//! | `cautions` | warnings to show before a plan is applied |
//! | `server` | checks whether the server supports what the plan needs |

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

/// Which objects a preview reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closeness {
    /// The number of objects in the random sample.
    pub sample: u32,
    /// The seed that selects the sample.
    pub seed: u64,
    /// Whether to read every object.
    pub full: bool,
    /// The key for the digest of all objects, if one is needed. The digest shows later whether the objects are still
    /// the same.
    pub digest: Option<[u8; 16]>,
}

/// Observes the progress of a preview.
pub trait Onlooker {
    /// Called after rows of the manifest were read, from any thread.
    fn prepares(&self, prepared: Prepared);

    /// Called after an object was read; `of` is the number of objects to read.
    ///
    /// # Errors
    /// Returns an error to end the preview.
    fn looked(&mut self, prospect: &Prospect, of: u64) -> io::Result<()>;
}

/// What a plan would do.
#[derive(Debug)]
pub struct Preview {
    /// The frozen manifest, in a folder that the caller provides.
    pub frozen: Frozen,
    /// The predicted outcomes of the objects that were read.
    pub tally: Tally,
    /// A few of these objects as examples.
    pub shown: Shown,
    /// Which objects were read.
    pub closeness: Closeness,
    /// What the manifest said without a request, and how recent that is.
    pub told: Facts,
    /// The requests that the job would send, and the data that it would restore.
    pub work: Workload,
    /// Warnings to show before the plan is applied.
    pub cautions: Vec<String>,
    /// Why the server is not trusted with the plan; `None` if it is trusted.
    pub refusal: Option<ServerRefusal>,
    /// How far the server was checked.
    pub server: ServerLook,
    /// The digest of all objects, if one was requested.
    pub digest: Option<String>,
    /// When the objects were read.
    pub at: Timestamp,
}

/// What was taken from the manifest instead of being requested from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The number of objects whose ACL the manifest gave.
    pub acls: u64,
    /// The number of objects whose storage class the manifest gave.
    pub classes: u64,
    /// When the inventory that gave them was begun; `None` for a listing, which is as recent as the preview.
    pub since: Option<Timestamp>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The manifest cannot be resolved.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The service rejected the credentials.
    #[error("the service refuses the credentials: {0}")]
    Refused(Box<Fault>),
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
            Self::Refused(fault) => super::advice(&fault.code, fault.status.unwrap_or_default()).map(str::to_owned),
            Self::Stopped | Self::Io(_) => None,
        }
    }
}

/// Makes the preview of a plan.
pub struct Previewer<'a> {
    /// The plan to preview.
    pub plan: &'a Plan,
    /// The plan's store, which can only be read.
    pub store: Arc<ReadOnly>,
    /// An empty folder that nothing else uses.
    pub folder: &'a Path,
    /// Which objects to read.
    pub closeness: Closeness,
    /// Cancel this token to stop the preview.
    pub stop: &'a CancellationToken,
}

impl Previewer<'_> {
    /// Resolves the manifest, and reads its objects. The memory use does not depend on their number.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved, the credentials are rejected, the preview is stopped, or
    /// the observer ends it.
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

    /// Previews a manifest that is already frozen, with a sample that is taken now. What the source said about single
    /// objects is no longer known, only the totals are.
    ///
    /// # Errors
    /// As for [`preview`](Self::preview).
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

    /// Returns whether the storage class of an object affects what its requests cost.
    fn wants_class(&self, judge: &Judge) -> bool {
        let tags_alone = self.plan.operations.iter().all(|it| it.aspect() == crate::operation::Aspect::Tags);
        match self.plan.store.provider {
            // Writing tags costs the same for every class; reading them does not.
            Provider::Aws => !tags_alone || judge.reads_tags(),
            Provider::Oss => true,
            Provider::S3 | Provider::Sandbox => {
                let priced = self.plan.prices.book.is_some() || self.plan.prices.file.is_some();
                priced && !tags_alone
            }
        }
    }
}
