//! Which prices hold for a plan.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::book::{Entry, Origin, PriceBook};
use crate::diagnostics::Problems;
use crate::plan::{Plan, nearest, shown};
use crate::store::Provider;

/// The largest price book, in bytes.
pub const MAX_BOOK_BYTES: usize = 1 << 20;

/// The prices that an estimate is made with.
#[derive(Clone, Debug)]
pub enum Rates {
    /// These.
    Known(Box<Entry>),
    /// None: everything that would be billed is unknown.
    Unknown(NoPrices),
}

impl Rates {
    /// The entry, where there is one.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Known(entry) => Some(entry),
            Self::Unknown(_) => None,
        }
    }
}

/// No entry of the price book is for the plan's store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no prices are known for {}", self.place())]
pub struct NoPrices {
    /// Whose prices.
    pub provider: Provider,
    /// In which region; `None` where the plan does not say.
    pub region: Option<String>,
    /// The entries that there are.
    pub known: Vec<String>,
}

impl NoPrices {
    fn place(&self) -> String {
        match (self.provider, &self.region) {
            (Provider::Sandbox, _) => "the sandbox".to_owned(),
            (Provider::S3, _) => "this store: it is neither AWS S3 nor OSS".to_owned(),
            (provider, Some(region)) => format!("{} in {}", provider.as_str(), shown(region)),
            (provider, None) => format!("{}: the plan names no region", provider.as_str()),
        }
    }

    /// How to have some.
    #[must_use]
    pub fn help(&self) -> String {
        let book = match self.known.as_slice() {
            [] => String::new(),
            known => format!("`book` in the plan's [prices] takes those of {}; ", known.join(", ")),
        };
        let region = if self.provider == Provider::Aws && self.region.is_none() {
            "set `region` in the plan's [store]; "
        } else {
            ""
        };
        format!("{region}{book}`file` in [prices], or --prices FILE, takes a price book of your own")
    }
}

/// The prices of a plan cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file cannot be read.
    #[error("the price book {} cannot be read: {source}", shown(&path.to_string_lossy()))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no price book; its problems say why.
    #[error("the price book {} is not usable", .0.file_name())]
    Invalid(Problems),
    /// The plan names an entry that there is not.
    #[error("there are no prices named `{}`", shown(name))]
    NoSuchEntry {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Several entries of one book are for the plan's store.
    #[error("several prices are for this store: {}", names.join(", "))]
    Several {
        /// Their names.
        names: Vec<String>,
    },
}

impl BookError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable { .. } => "check `file` in the plan's [prices], or --prices".to_owned(),
            Self::Invalid(_) => "mend what is marked".to_owned(),
            Self::NoSuchEntry { name, known } => {
                let all = format!("known are {}", known.join(", "));
                nearest(name, known.iter().map(String::as_str))
                    .map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"))
            }
            Self::Several { .. } => "name one of them: `book = \"...\"` in the plan's [prices]".to_owned(),
        }
    }
}

/// The prices that hold for a plan: those that it names, or those of its store's provider and region. A price book in
/// `file` (or else in the one that the plan names) goes before the shipped one: entry by entry of the same name, and
/// in the search for the region. The region is the plan's: who knows it from elsewhere sets it there before.
///
/// # Errors
/// When the file cannot be read or is no price book, when there is no entry of the plan's name, or when several entries
/// of one book are for its store.
pub fn rates_for(plan: &Plan, file: Option<&Path>) -> Result<Rates, BookError> {
    let own = file.or(plan.prices.file.as_deref()).map(read_file).transpose()?;
    let book = own.unwrap_or_default().over(PriceBook::shipped());
    book.choose(plan.store.provider, plan.store.region.as_deref(), plan.prices.book.as_deref())
}

impl PriceBook {
    /// The entry of this name, or else the one for this provider and region; a user's own before the shipped ones.
    ///
    /// # Errors
    /// When there is no entry of the name, or several are for the region.
    pub fn choose(&self, provider: Provider, region: Option<&str>, name: Option<&str>) -> Result<Rates, BookError> {
        let known = || self.entries().map(|entry| entry.name.clone()).collect();
        if let Some(name) = name {
            let no_such = || BookError::NoSuchEntry { name: name.to_owned(), known: known() };
            return self.named(name).cloned().map(|entry| Rates::Known(Box::new(entry))).ok_or_else(no_such);
        }
        let covering = |shipped: bool| -> Vec<&Entry> {
            let here = |entry: &&Entry| (entry.origin == Origin::Shipped) == shipped && entry.covers(provider, region);
            self.entries().filter(here).collect()
        };
        let own = covering(false);
        let found = if own.is_empty() { covering(true) } else { own };
        match found.as_slice() {
            [] => Ok(Rates::Unknown(NoPrices { provider, region: region.map(str::to_owned), known: known() })),
            [entry] => Ok(Rates::Known(Box::new((*entry).clone()))),
            several => Err(BookError::Several { names: several.iter().map(|entry| entry.name.clone()).collect() }),
        }
    }
}

/// Reads a file, and never more of it than a price book can have: it may be a device.
fn read_file(path: &Path) -> Result<PriceBook, BookError> {
    let unreadable = |source| BookError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BOOK_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    PriceBook::from_bytes(&path.to_string_lossy(), &bytes).map_err(BookError::Invalid)
}
