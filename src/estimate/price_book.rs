//! The price book: the prices and rate limits of services, as dated figures with their sources. `file` reads it, and
//! `tables` defines the tables and keys of the file.

mod file;
mod tables;

use std::collections::BTreeMap;
use std::fmt;

use batchplan_store::StoreProvider;
use batchplan_store::object::{RestoreTier, StorageClass};
use batchplan_store::object_request::RequestKind;
use globset::GlobMatcher;
use jiff::civil::Date;

use crate::money::Currency;
use crate::toml_reader::{MAX_DOCUMENT_BYTES, NamedVariants, name_of};

/// The maximum size of a price book, in bytes.
pub const MAX_BOOK_BYTES: usize = MAX_DOCUMENT_BYTES;

/// A billable item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BillableItem {
    /// A request.
    Request(RequestKind),
    /// Data retrieved from an archive.
    Retrieval,
    /// The storage of a restored copy.
    TemporaryCopy,
    /// The storage of data.
    Storage,
    /// A job of the provider's managed service.
    ManagedJob,
    /// An object in a job of the managed service.
    ManagedObject,
}

impl BillableItem {
    /// Returns whether the item is a request, which rate limits count.
    fn is_request(self) -> bool {
        matches!(self, Self::Request(_))
    }

    /// Returns whether the item is priced by this unit.
    fn is_priced_per(self, unit: PriceUnit) -> bool {
        match self {
            Self::Retrieval => unit == PriceUnit::Gigabyte,
            Self::TemporaryCopy | Self::Storage => unit == PriceUnit::GigabyteMonth,
            Self::Request(_) | Self::ManagedJob | Self::ManagedObject => matches!(unit, PriceUnit::Each(_)),
        }
    }
}

/// The items by their names in price books.
impl NamedVariants for BillableItem {
    const NAMES: &'static [(&'static str, Self)] = &{
        let others = [
            ("retrieval", Self::Retrieval),
            ("temporary_copy", Self::TemporaryCopy),
            ("storage", Self::Storage),
            ("managed_job", Self::ManagedJob),
            ("managed_object", Self::ManagedObject),
        ];
        let requests = RequestKind::ALL;
        let mut names = [others[0]; RequestKind::ALL.len() + 5];
        let mut at = 0;
        while at < names.len() {
            names[at] = if at < requests.len() {
                (requests[at].as_str(), Self::Request(requests[at]))
            } else {
                others[at - requests.len()]
            };
            at += 1;
        }
        names
    };
}

/// The unit of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceUnit {
    /// This number of requests, objects or jobs: a power of ten.
    Each(u32),
    /// 2^30 bytes.
    Gigabyte,
    /// 2^30 bytes, stored for thirty days.
    GigabyteMonth,
}

/// Formats the unit as in `per 1000` or `per GB`.
impl fmt::Display for PriceUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(count) => write!(f, "{count}"),
            Self::Gigabyte => f.write_str("GB"),
            Self::GigabyteMonth => f.write_str("GB-month"),
        }
    }
}

/// How reliable a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceReliability {
    /// The figure was read in its source, which is the provider's own or is derived from the provider's price list.
    Verified,
    /// The figure is from a third party.
    Secondary,
}

impl NamedVariants for SourceReliability {
    const NAMES: &'static [(&'static str, Self)] = &[("verified", Self::Verified), ("secondary", Self::Secondary)];
}

impl SourceReliability {
    /// Returns the name in price books.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(self)
    }
}

/// A price with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPrice {
    /// The amount in trillionths of the currency's unit, with at most six decimals.
    pub(super) parts: u128,
    unit: PriceUnit,
    /// The source of the figure; `None` if the book does not say.
    pub source: Option<String>,
    /// How reliable the figure is, if the book says so.
    pub reliability: Option<SourceReliability>,
}

impl UnitPrice {
    /// Returns the unit of the price.
    #[must_use]
    pub fn unit(&self) -> PriceUnit {
        self.unit
    }
}

/// Whether requests that are rejected with a status of 400 to 499 are billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRequestBilling {
    /// True if they are billed.
    pub billed: bool,
    /// The source of this statement; `None` if the book does not say.
    pub source: Option<String>,
}

/// The scope of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitScope {
    /// One prefix of keys, as the service partitions them.
    Prefix,
    /// One account in one region.
    Account,
}

impl NamedVariants for RateLimitScope {
    const NAMES: &'static [(&'static str, Self)] = &[("prefix", Self::Prefix), ("account", Self::Account)];
}

impl RateLimitScope {
    /// Returns the name in price books.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(self)
    }
}

/// A limit on the number of requests per second that a service accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRateLimit {
    /// The requests that count; empty means all.
    pub requests: Vec<BillableItem>,
    /// The storage classes of the objects that count; empty means all.
    pub classes: Vec<StorageClass>,
    /// The maximum number of requests per second, from 1.
    pub per_second: u32,
    /// The scope of the limit.
    pub scope: RateLimitScope,
    /// The condition under which the limit applies; `None` if it always does.
    pub condition: Option<String>,
    /// The source of the figure; `None` if the book does not say.
    pub source: Option<String>,
    /// How reliable the figure is, if the book says so.
    pub reliability: Option<SourceReliability>,
}

impl ProviderRateLimit {
    /// Returns whether the limit counts a request.
    pub(super) fn counts(&self, item: BillableItem, class: Option<&StorageClass>) -> bool {
        let named = self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(class));
        named && (self.requests.is_empty() || self.requests.contains(&item))
    }
}

/// The origin of a price book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceBookOrigin {
    /// Built into the program.
    BuiltIn,
    /// A file of the user, with its name.
    File(String),
}

/// The key of a price: item, class and tier. `None` stands for any.
type PriceKey = (BillableItem, Option<StorageClass>, Option<RestoreTier>);

/// The prices and limits of one provider in some of its regions.
#[derive(Clone, Debug)]
pub struct PriceBookEntry {
    /// The name of the entry in the book.
    pub name: String,
    /// The origin of the book that holds the entry.
    pub origin: PriceBookOrigin,
    /// The day on which the figures were looked up.
    pub dated: Date,
    /// The provider that charges these prices.
    pub provider: StoreProvider,
    /// The currency of the prices.
    pub currency: Currency,
    /// The tier of a restore that names none.
    pub default_tier: Option<RestoreTier>,
    /// The storage class that manifests and reports are assumed to have.
    pub own_class: Option<StorageClass>,
    /// Whether rejected requests are billed; `None` if unknown.
    pub rejected_requests: Option<RejectedRequestBilling>,
    /// The name of the provider's managed service, if it has one.
    pub managed_service: Option<String>,
    /// The limits on requests per second.
    pub limits: Vec<ProviderRateLimit>,
    regions: Vec<GlobMatcher>,
    except: Vec<GlobMatcher>,
    prices: Vec<UnitPrice>,
    /// The index into `prices` for each key.
    index: BTreeMap<PriceKey, usize>,
}

/// The result of looking up a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PriceLookup<'a> {
    /// The price.
    Price(&'a UnitPrice),
    /// The cheapest and the most expensive of several prices, because the class is unknown.
    Range(&'a UnitPrice, &'a UnitPrice),
    /// The book has no price.
    Missing,
}

impl PriceBookEntry {
    /// Returns whether the entry covers a region. An unknown region is covered by `*` only.
    pub(super) fn covers(&self, provider: StoreProvider, region: Option<&str>) -> bool {
        let region = region.unwrap_or_default();
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(region));
        self.provider == provider && any(&self.regions) && !any(&self.except)
    }

    /// Returns the price of an item. A price for the class takes precedence over one for any class, and likewise for
    /// the tier.
    pub(super) fn price_of(
        &self,
        item: BillableItem,
        class: Option<&StorageClass>,
        tier: Option<RestoreTier>,
    ) -> PriceLookup<'_> {
        let tier = tier.or(self.default_tier);
        if let Some(class) = class {
            let priced =
                self.price_for_class(item, Some(class), tier).or_else(|| self.price_for_class(item, None, tier));
            return priced.map_or(PriceLookup::Missing, PriceLookup::Price);
        }
        let mut classes: Vec<_> =
            self.index.keys().filter(|(of, ..)| *of == item).map(|(_, class, _)| class.as_ref()).collect();
        classes.dedup();
        let mut priced: Vec<_> = classes.iter().filter_map(|class| self.price_for_class(item, *class, tier)).collect();
        priced.sort_by_key(|price| price.sort_key());
        match (&classes[..], &priced[..]) {
            ([None], [price]) => PriceLookup::Price(price),
            (_, [cheapest, .., dearest]) => PriceLookup::Range(cheapest, dearest),
            (_, [price]) => PriceLookup::Range(price, price),
            (_, []) => PriceLookup::Missing,
        }
    }

    fn price_for_class(
        &self,
        item: BillableItem,
        class: Option<&StorageClass>,
        tier: Option<RestoreTier>,
    ) -> Option<&UnitPrice> {
        let key = |tier| (item, class.cloned(), tier);
        let named = tier.and_then(|tier| self.index.get(&key(Some(tier))));
        named.or_else(|| self.index.get(&key(None))).and_then(|place| self.prices.get(*place))
    }
}

impl UnitPrice {
    /// Returns a number that orders the prices of one item, whatever their units.
    fn sort_key(&self) -> u128 {
        match self.unit {
            PriceUnit::Each(count) => self.parts / u128::from(count.max(1)),
            PriceUnit::Gigabyte | PriceUnit::GigabyteMonth => self.parts,
        }
    }
}

/// A price book: entries by name.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    entries: BTreeMap<String, PriceBookEntry>,
}

impl PriceBook {
    /// Returns the entries, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = &PriceBookEntry> {
        self.entries.values()
    }

    /// Returns the entry with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PriceBookEntry> {
        self.entries.get(name)
    }

    /// Adds the entries of `other` whose names this book does not have. Entries of the same name are not merged.
    #[must_use]
    pub fn with_fallback(mut self, other: Self) -> Self {
        for (name, entry) in other.entries {
            self.entries.entry(name).or_insert(entry);
        }
        self
    }
}
