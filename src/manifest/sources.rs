//! Reads the source of a manifest, whichever it is.

use super::error::{ManifestError, object_path};
use super::pins::SourcePin;
use super::prefix::ListingConcurrency;
use super::retrying_store::RetryingStore;
use super::row_visitor::RowVisitor;
use super::spec::{FileLocation, InventorySelector, ManifestSource};
use super::{changes, csv, inventory, prefix, report, retry};

/// Passes all rows of a source to the visitor.
pub(super) async fn read_source<V: RowVisitor>(
    source: &ManifestSource,
    retrying: &RetryingStore,
    listing: ListingConcurrency,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    Ok(match source {
        ManifestSource::Prefix { bucket, prefix, versions } => {
            (prefix::list(bucket, prefix, *versions, retrying, listing, visitor).await?, SourcePin::Listing)
        }
        ManifestSource::Csv { location, fields, plus_is_space } => {
            csv::read(location, fields, *plus_is_space, retrying, visitor).await?
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Changed(changes), dialect } => {
            Box::pin(changes::read(bucket, changes, *dialect, retrying, visitor)).await?
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Distinct { key, etag }, dialect } => {
            Box::pin(changes::read_distinct(bucket, (key, etag), *dialect, retrying, visitor)).await?
        }
        ManifestSource::Inventory { bucket, selector, dialect } => {
            inventory::read_inventory(bucket, selector, *dialect, retrying, visitor).await?
        }
        ManifestSource::Report { location, row_filter } => {
            report::read(location, row_filter, retrying, visitor).await?
        }
        ManifestSource::Retry { failed, unfinished } => {
            (retry::read(failed, unfinished.as_ref(), retrying, visitor).await?, SourcePin::Listing)
        }
    })
}

impl ManifestSource {
    /// Returns the name of the source for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Prefix { bucket, prefix, .. } => format!("the listing of {}", object_path(bucket, prefix)),
            Self::Csv { location, .. } | Self::Report { location, .. } => match location {
                FileLocation::Local(path) => path.display().to_string(),
                FileLocation::Object { bucket, key, .. } => object_path(bucket, key),
            },
            Self::Inventory { bucket, selector, .. } => match selector {
                InventorySelector::Exact { key, .. } | InventorySelector::Distinct { key, .. } => {
                    object_path(bucket, key)
                }
                InventorySelector::Changed(changes) => object_path(bucket, &changes.key),
                InventorySelector::Latest { prefix } => {
                    format!("the newest inventory in {}", object_path(bucket, prefix))
                }
            },
            Self::Retry { .. } => "the objects that the first job left".to_owned(),
        }
    }

    /// Returns an error if the source had no rows, which is likely a mistake. Reports and retries may be empty: all is
    /// done.
    pub(super) fn reject_empty(&self, rows_read: u64) -> Result<(), ManifestError> {
        if rows_read > 0 || matches!(self, Self::Report { .. } | Self::Retry { .. }) {
            return Ok(());
        }
        Err(ManifestError::Empty { place: self.name() })
    }
}
