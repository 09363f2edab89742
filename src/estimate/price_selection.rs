//! Selects the prices for a plan: an entry of the built-in price book, or of the user's own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use batchplan_store::{RegionSource, StoreConfig, StoreProvider};

use super::price_book::{PriceBook, PriceBookEntry, PriceBookOrigin};
use crate::diagnostics::FileProblems;
use crate::plan::Plan;
use crate::provider::ProviderRules;
use crate::toml_reader::{MAX_DOCUMENT_BYTES, nearest, quote_for_message};

/// The prices for an estimate.
#[derive(Clone, Debug)]
pub enum StorePrices {
    /// The entry of the price book that applies.
    Known(Box<PriceBookEntry>),
    /// There are no prices: everything that would be billed is unknown.
    Unknown(NoPricesError),
}

impl StorePrices {
    /// Returns the entry, if there is one.
    #[must_use]
    pub fn entry(&self) -> Option<&PriceBookEntry> {
        match self {
            Self::Known(entry) => Some(entry),
            Self::Unknown(_) => None,
        }
    }
}

/// No entry of the price book covers the plan's store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no prices are known for {}", self.store_description())]
pub struct NoPricesError {
    /// The provider of the store.
    pub provider: StoreProvider,
    /// The region of the store; `None` if the plan does not say.
    pub region: Option<String>,
    /// The endpoint of the store, if it is not the provider's own: what the server costs is then unknown.
    pub foreign_endpoint: Option<String>,
    /// The names of the entries in the book.
    pub known: Vec<String>,
}

impl NoPricesError {
    fn store_description(&self) -> String {
        let rules = ProviderRules::of(self.provider);
        if let (None, Some(endpoint)) = (rules.unpriced, &self.foreign_endpoint) {
            return format!("{}: it is not an endpoint of {}", quote_for_message(endpoint), rules.service);
        }
        match (rules.unpriced, &self.region) {
            (Some(store), _) => store.to_owned(),
            (None, Some(region)) => format!("{} in {}", self.provider.as_str(), quote_for_message(region)),
            (None, None) => format!("{}: the plan names no region", self.provider.as_str()),
        }
    }

    /// Returns how to supply prices.
    #[must_use]
    pub fn help(&self) -> String {
        let book = match self.known.as_slice() {
            [] => String::new(),
            known => format!("to use the prices of {}, set `book` in the plan's [prices]; ", known.join(", ")),
        };
        let may_be_unnamed = self.provider.profile().region == RegionSource::Environment;
        let needs_region = may_be_unnamed && self.region.is_none() && self.foreign_endpoint.is_none();
        let region = if needs_region { "set `region` in the plan's [store]; " } else { "" };
        format!("{region}{book}to use your own price book, set `file` in [prices] or pass --prices FILE")
    }
}

/// The prices for a plan cannot be selected.
#[derive(Debug, thiserror::Error)]
pub enum PriceBookError {
    /// The file cannot be read.
    #[error("cannot read price book {}: {source}", quote_for_message(&path.to_string_lossy()))]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a valid price book; the problems say why.
    #[error("price book {} is not valid", .0.file_name())]
    Invalid(FileProblems),
    /// The plan names an entry that does not exist.
    #[error("no price book entry is named `{}`", quote_for_message(name))]
    NoSuchEntry {
        /// The name in the plan.
        name: String,
        /// The names of the entries in the book.
        known: Vec<String>,
    },
    /// Several entries of one book cover the plan's store.
    #[error("several price book entries cover this store: {}", names.join(", "))]
    Ambiguous {
        /// The names of these entries.
        names: Vec<String>,
    },
}

impl PriceBookError {
    /// Returns how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable { .. } => "check `file` in the plan's [prices], or --prices".to_owned(),
            Self::Invalid(_) => "fix the problems shown above".to_owned(),
            Self::NoSuchEntry { name, known } => {
                let all = format!("known entries: {}", known.join(", "));
                nearest(name, known.iter().map(String::as_str))
                    .map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"))
            }
            Self::Ambiguous { .. } => "choose one with `book = \"...\"` in the plan's [prices]".to_owned(),
        }
    }
}

/// Returns the prices for a plan: the entry that it names, or the entry for its store's provider and region.
///
/// A price book in `file`, or else the one that the plan names, takes precedence over the built-in one: for entries of
/// the same name, and in the search for the region. The region is the plan's. A caller that knows it from elsewhere
/// sets it in the plan first. The built-in prices are those of the services: a server at an endpoint of its own has
/// them only if the plan names the entry.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a valid price book, if there is no entry of the plan's name,
/// or if several entries of one book cover its store.
pub fn select_prices(plan: &Plan, file: Option<&Path>) -> Result<StorePrices, PriceBookError> {
    let own = file.or(plan.prices.file.as_deref()).map(read_file).transpose()?;
    let book = own.unwrap_or_default().with_fallback(PriceBook::built_in());
    book.select(&plan.store, plan.prices.book.as_deref())
}

impl PriceBook {
    /// Returns the entry of this name, or else the entry for the store's provider and region. The user's own entries
    /// take precedence over the built-in ones, which apply only to the services' own endpoints.
    ///
    /// # Errors
    /// Returns an error if there is no entry of the name, or if several entries cover the region.
    pub fn select(&self, store: &StoreConfig, name: Option<&str>) -> Result<StorePrices, PriceBookError> {
        let (provider, region) = (store.provider, store.region.as_deref());
        let known = || self.entries().map(|entry| entry.name.clone()).collect();
        if let Some(name) = name {
            let no_such = || PriceBookError::NoSuchEntry { name: name.to_owned(), known: known() };
            return self.get(name).cloned().map(|entry| StorePrices::Known(Box::new(entry))).ok_or_else(no_such);
        }
        let covering = |built_in: bool| -> Vec<&PriceBookEntry> {
            let covers = |entry: &&PriceBookEntry| {
                (entry.origin == PriceBookOrigin::BuiltIn) == built_in && entry.covers(provider, region)
            };
            self.entries().filter(covers).collect()
        };
        let own = covering(false);
        let foreign_endpoint = store.effective_endpoint().filter(|_| !store.is_first_party()).map(str::to_owned);
        let found = if own.is_empty() && foreign_endpoint.is_none() { covering(true) } else { own };
        match found.as_slice() {
            [] => {
                let region = region.map(str::to_owned);
                Ok(StorePrices::Unknown(NoPricesError { provider, region, foreign_endpoint, known: known() }))
            }
            [entry] => Ok(StorePrices::Known(Box::new((*entry).clone()))),
            several => {
                Err(PriceBookError::Ambiguous { names: several.iter().map(|entry| entry.name.clone()).collect() })
            }
        }
    }
}

/// Reads a file, but never more than the maximum size of a TOML file, because the path may be a device.
fn read_file(path: &Path) -> Result<PriceBook, PriceBookError> {
    let unreadable = |source| PriceBookError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    PriceBook::from_bytes(&path.to_string_lossy(), &bytes).map_err(PriceBookError::Invalid)
}
