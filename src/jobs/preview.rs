//! Previews what a plan would do, before it changes anything: resolves its manifest, and reads some or all of its
//! objects.
//!
//! | file | what it does |
//! |---|---|
//! | `object_reads` | reads many objects at once, in order |
//! | `examples` | selects the examples to show |
//! | `workload` | computes the requests and data volumes of the whole job |
//! | `warnings` | warnings to show before a plan is applied |
//! | `server_check` | checks whether the server supports what the plan needs |

mod examples;
mod object_reads;
mod server_check;
mod warnings;
mod workload;

use std::io;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::task::StoreError;
use batchplan_store::{ReadOnlyStore, Store};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::diff::{Prediction, PredictionTotals, Predictor, busiest_directory};
use crate::engine::ServerCheckFailure;
use crate::estimate::JobWorkload;
use crate::manifest::{
    FreezeLimits, FreezeProgress, FrozenManifest, ManifestError, SampleOptions, SampleResult, SourcePin,
    freeze_and_sample, sample_frozen,
};
use crate::plan::Plan;

use crate::provider::{ClassPricing, ProviderRules};
use object_reads::PreviewTotals;

pub use examples::ExampleSet;
pub use server_check::ServerCheckStatus;
pub use warnings::{PlanBuckets, plan_warnings as cautions, server_check_off_warning};

/// Which objects a preview reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviewOptions {
    /// The number of objects in the random sample.
    pub sample: u32,
    /// The seed that selects the sample.
    pub seed: u64,
    /// Whether to read every object.
    pub full: bool,
    /// The key for the digest of all objects, if one is needed. The digest shows later whether the objects are still
    /// the same.
    pub digest_key: Option<[u8; 16]>,
}

/// Observes the progress of a preview.
pub trait PreviewObserver {
    /// Called after rows of the manifest were read, from any thread.
    fn on_rows_read(&self, prepared: FreezeProgress);

    /// Called after an object was read; `of` is the number of objects to read.
    ///
    /// # Errors
    /// Returns an error to end the preview.
    fn on_object_read(&mut self, prospect: &Prediction, of: u64) -> io::Result<()>;
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
    /// Why the server is not trusted with the plan; `None` if it is trusted.
    pub refusal: Option<ServerCheckFailure>,
    /// How far the server was checked.
    pub server_check: ServerCheckStatus,
    /// The digest of all objects, if one was requested.
    pub digest: Option<String>,
    /// When the objects were read.
    pub read_at: Timestamp,
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
            Self::CredentialsRejected(fault) => {
                super::hint(&fault.code, fault.status.unwrap_or_default()).map(str::to_owned)
            }
            Self::Stopped | Self::Io(_) => None,
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
    /// Cancel this token to stop the preview.
    pub stop: &'a CancellationToken,
}

impl Previewer<'_> {
    /// Resolves the manifest, and reads its objects. The memory use does not depend on their number.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved, the credentials are rejected, the preview is stopped, or
    /// the observer ends it.
    pub async fn preview(&self, onlooker: &mut (dyn PreviewObserver + Send + Sync)) -> Result<Preview, PreviewError> {
        let limits = &self.plan.limits;
        let bounds = FreezeLimits {
            max_disk: limits.max_disk,
            max_objects: limits.max_objects,
            concurrency: Some(limits.concurrency),
        };
        let PreviewOptions { sample, seed, full, digest_key: digest } = self.options;
        let wish = SampleOptions { size: sample as usize, seed, digest, all_metadata: full };
        let observe = |prepared| onlooker.on_rows_read(prepared);
        let store: Arc<dyn Store> = self.store.clone();
        let surveyed =
            freeze_and_sample(&self.plan.manifest, &store, self.folder, (bounds, wish), &observe, self.stop).await;
        let (frozen, surveyed) = match surveyed {
            Err(ManifestError::Stopped) => return Err(PreviewError::Stopped),
            surveyed => surveyed?,
        };
        self.build_preview(frozen, surveyed, onlooker).await
    }

    /// Previews a manifest that is already frozen, with a sample that is taken now. What the source said about single
    /// objects is no longer known, only the totals are.
    ///
    /// # Errors
    /// As for [`preview`](Self::preview).
    pub async fn preview_frozen(
        &self,
        frozen: &FrozenManifest,
        onlooker: &mut (dyn PreviewObserver + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let PreviewOptions { sample, seed, .. } = self.options;
        let wish = SampleOptions { size: sample as usize, seed, ..SampleOptions::default() };
        match sample_frozen(frozen, wish, self.stop).await {
            Err(ManifestError::Stopped) => Err(PreviewError::Stopped),
            surveyed => self.build_preview(frozen.clone(), surveyed?, onlooker).await,
        }
    }

    async fn build_preview(
        &self,
        frozen: FrozenManifest,
        surveyed: SampleResult,
        onlooker: &mut (dyn PreviewObserver + Send + Sync),
    ) -> Result<Preview, PreviewError> {
        let full = self.options.full;
        let (at, asked) = (Timestamp::now(), self.store.request_counts());
        let named = surveyed.sample.iter().map(|it| &it.object.bucket);
        let buckets = PlanBuckets::query(self.plan, &*self.store, named, self.stop).await;
        let (server, refusal) = self.check_server(&surveyed.sample).await?;
        let judge = Predictor::new(self.plan.operations(), ProviderRules::of(self.plan.store.provider).restore_service);
        let sampled = surveyed.sample.len() as u64;
        let busiest = busiest_directory(surveyed.sample.iter().map(|it| &it.object))
            .map(|(bucket, folder, count)| (bucket, folder, count, sampled));
        let census = frozen.class_stats().cloned().unwrap_or_default();
        let mut examined = PreviewTotals::new(frozen.rows().min(if full { u64::MAX } else { sampled }));
        let source = if full {
            object_reads::PreviewObjects::All(&frozen)
        } else {
            object_reads::PreviewObjects::Sample(surveyed.sample)
        };
        object_reads::read_objects(self, &judge, (source, &buckets), &mut examined, onlooker).await?;
        let since = match frozen.pin() {
            SourcePin::Inventory { created, .. } => *created,
            _ => None,
        };
        let rows = frozen.rows();
        let PreviewTotals { tally, examples: shown, from_manifest: told, name_bytes, .. } = examined;
        let mut cautions = warnings::all_warnings(self.plan, &buckets, &census, rows, &tally, busiest.as_ref());
        cautions.extend(warnings::unchecked_server_warning(self.plan, server).map(str::to_owned));
        Ok(Preview {
            workload: workload::workload(self.plan, &census, rows, &tally, asked, name_bytes),
            warnings: cautions,
            refusal,
            server_check: server,
            tally,
            examples: shown,
            options: self.options,
            from_manifest: FactsFromManifest { as_of: since, ..told },
            digest: surveyed.digest,
            read_at: at,
            frozen,
        })
    }

    /// Returns whether the storage class of an object affects what its requests cost.
    fn needs_storage_class(&self, judge: &Predictor) -> bool {
        let tags_alone = self.plan.operations.iter().all(|it| it.aspect() == crate::operation::ObjectAspect::Tags);
        match ProviderRules::of(self.plan.store.provider).class_pricing {
            ClassPricing::AllButTagWrites => !tags_alone || judge.reads_tags(),
            ClassPricing::AllRequests => true,
            ClassPricing::OnlyPlanPrices => {
                let priced = self.plan.prices.book.is_some() || self.plan.prices.file.is_some();
                priced && !tags_alone
            }
        }
    }
}
