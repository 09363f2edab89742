//! A price book: what services ask for what, as dated figures with their sources.

use std::collections::BTreeMap;
use std::fmt;

use globset::GlobMatcher;
use jiff::civil::Date;

use crate::money::Currency;
use crate::object::{StorageClass, Tier};
use crate::store::Provider;

/// Something that may have a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A request that reads tags.
    GetTags,
    /// A request that replaces tags.
    PutTags,
    /// A request that removes tags.
    DeleteTags,
    /// A request that reads an ACL.
    GetAcl,
    /// A request that sets an ACL.
    PutAcl,
    /// A request to bring an object back.
    Restore,
    /// A request for an object's class and restoration.
    Head,
    /// A request for a page of a listing.
    List,
    /// A request that reads an object.
    GetObject,
    /// A request that writes an object.
    PutObject,
    /// Data that is brought back from an archive.
    Retrieval,
    /// The copy that a restore makes, for as long as it is kept.
    TemporaryCopy,
    /// Data that is kept.
    Storage,
    /// A job of the provider's managed service.
    ManagedJob,
    /// An object in a job of the provider's managed service.
    ManagedObject,
}

impl Item {
    /// All of them, by their names in price books.
    pub(super) const NAMES: &'static [(&'static str, Self)] = &[
        ("get_tags", Self::GetTags),
        ("put_tags", Self::PutTags),
        ("delete_tags", Self::DeleteTags),
        ("get_acl", Self::GetAcl),
        ("put_acl", Self::PutAcl),
        ("restore", Self::Restore),
        ("head", Self::Head),
        ("list", Self::List),
        ("get_object", Self::GetObject),
        ("put_object", Self::PutObject),
        ("retrieval", Self::Retrieval),
        ("temporary_copy", Self::TemporaryCopy),
        ("storage", Self::Storage),
        ("managed_job", Self::ManagedJob),
        ("managed_object", Self::ManagedObject),
    ];

    /// Whether it is a request, which rate limits count.
    pub(super) fn is_request(self) -> bool {
        self < Self::Retrieval
    }

    /// Whether it is priced by this unit.
    pub(super) fn is_by(self, unit: Unit) -> bool {
        match self {
            Self::Retrieval => unit == Unit::Gigabyte,
            Self::TemporaryCopy | Self::Storage => unit == Unit::GigabyteMonth,
            _ => matches!(unit, Unit::Each(_)),
        }
    }
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many requests, objects or jobs: a power of ten.
    Each(u32),
    /// 2^30 bytes.
    Gigabyte,
    /// 2^30 bytes, kept for thirty days.
    GigabyteMonth,
}

/// As in `per 1000`, `per GB`.
impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(count) => write!(f, "{count}"),
            Self::Gigabyte => f.write_str("GB"),
            Self::GigabyteMonth => f.write_str("GB-month"),
        }
    }
}

/// How well a figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was read in its source, and that is the provider's own or made of the provider's price list.
    Verified,
    /// Somebody else says so.
    Secondary,
}

impl Mark {
    /// Both, by their names in price books.
    pub(super) const NAMES: &'static [(&'static str, Self)] =
        &[("verified", Self::Verified), ("secondary", Self::Secondary)];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Secondary => "secondary",
        }
    }
}

/// A price with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// In trillionths of the currency's unit; at most six decimals of it.
    pub(super) parts: u128,
    /// For how much that is.
    pub(super) unit: Unit,
    /// Where it stands; `None` where the book does not say.
    pub source: Option<String>,
    /// How well it is known, where the book says so.
    pub mark: Option<Mark>,
}

impl Price {
    /// For how much it is.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }
}

/// Whether requests are billed that are refused with a status of 400 to 499.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whether they are.
    pub billed: bool,
    /// Where that stands; `None` where the book does not say.
    pub source: Option<String>,
}

/// Where a rate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Below one prefix of keys, as the service divides them.
    Prefix,
    /// In one account and region.
    Account,
}

impl Within {
    /// Both, by their names in price books.
    pub(super) const NAMES: &'static [(&'static str, Self)] = &[("prefix", Self::Prefix), ("account", Self::Account)];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Account => "account",
        }
    }
}

/// How many requests a second a service bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Which requests are counted; all of them where it is empty.
    pub of: Vec<Item>,
    /// For objects of which classes; all of them where it is empty.
    pub classes: Vec<StorageClass>,
    /// How many a second, from 1.
    pub per_second: u32,
    /// Where it holds.
    pub within: Within,
    /// When it holds, where it does not always.
    pub when: Option<String>,
    /// Where it stands; `None` where the book does not say.
    pub source: Option<String>,
    /// How well it is known, where the book says so.
    pub mark: Option<Mark>,
}

impl RateLimit {
    /// Whether it counts this.
    pub(super) fn counts(&self, item: Item, class: Option<&StorageClass>) -> bool {
        let named = self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(class));
        named && (self.of.is_empty() || self.of.contains(&item))
    }
}

/// Whose book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The one that comes with the program.
    Shipped,
    /// A file of the user, by its name.
    File(String),
}

/// What an item's price depends on. `None` is any.
type Key = (Item, Option<StorageClass>, Option<Tier>);

/// What one provider asks in some of its regions.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the book.
    pub name: String,
    /// Whose book it is in.
    pub origin: Origin,
    /// The day on which its figures were looked up.
    pub dated: Date,
    /// Whose prices.
    pub provider: Provider,
    /// In which currency.
    pub currency: Currency,
    /// The tier that a restore has which names none.
    pub default_tier: Option<Tier>,
    /// The class that manifests and reports are taken to have.
    pub own_class: Option<StorageClass>,
    /// Whether refused requests are billed; `None` is not known.
    pub refused: Option<Refused>,
    /// What the provider's managed service is called, where it has one.
    pub managed: Option<String>,
    /// How many requests a second it bears.
    pub limits: Vec<RateLimit>,
    pub(super) regions: Vec<GlobMatcher>,
    pub(super) except: Vec<GlobMatcher>,
    pub(super) prices: Vec<Price>,
    /// The place in `prices` of each.
    pub(super) index: BTreeMap<Key, usize>,
}

/// What a book says of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// It is this.
    Price(&'a Price),
    /// It is one of these, cheapest and dearest, by a class that is not known.
    Between(&'a Price, &'a Price),
    /// Nothing.
    Nothing,
}

impl Entry {
    /// Whether it holds in a region. A region that is not known is in none but `*`.
    pub(super) fn covers(&self, provider: Provider, region: Option<&str>) -> bool {
        let region = region.unwrap_or_default();
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(region));
        self.provider == provider && any(&self.regions) && !any(&self.except)
    }

    /// The price of an item: of this class sooner than of any, and of this tier sooner than of any.
    pub(super) fn find(&self, item: Item, class: Option<&StorageClass>, tier: Option<Tier>) -> Found<'_> {
        let tier = tier.or(self.default_tier);
        if let Some(class) = class {
            let priced = self.of_class(item, Some(class), tier).or_else(|| self.of_class(item, None, tier));
            return priced.map_or(Found::Nothing, Found::Price);
        }
        let mut classes: Vec<_> =
            self.index.keys().filter(|(of, ..)| *of == item).map(|(_, class, _)| class.as_ref()).collect();
        classes.dedup();
        let mut priced: Vec<_> = classes.iter().filter_map(|class| self.of_class(item, *class, tier)).collect();
        priced.sort_by_key(|price| price.rate());
        match (&classes[..], &priced[..]) {
            ([None], [price]) => Found::Price(price),
            (_, [cheapest, .., dearest]) => Found::Between(cheapest, dearest),
            (_, [price]) => Found::Between(price, price),
            (_, []) => Found::Nothing,
        }
    }

    fn of_class(&self, item: Item, class: Option<&StorageClass>, tier: Option<Tier>) -> Option<&Price> {
        let key = |tier| (item, class.cloned(), tier);
        let named = tier.and_then(|tier| self.index.get(&key(Some(tier))));
        named.or_else(|| self.index.get(&key(None))).and_then(|place| self.prices.get(*place))
    }
}

impl Price {
    /// What orders prices of one item, whatever they are for.
    fn rate(&self) -> u128 {
        match self.unit {
            Unit::Each(count) => self.parts / u128::from(count.max(1)),
            Unit::Gigabyte | Unit::GigabyteMonth => self.parts,
        }
    }
}

/// Entries, by their names.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    pub(super) entries: BTreeMap<String, Entry>,
}

impl PriceBook {
    /// The entries, in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// This book, and of another one what this has not. Entries of the same name are not mixed.
    #[must_use]
    pub fn over(mut self, other: Self) -> Self {
        for (name, entry) in other.entries {
            self.entries.entry(name).or_insert(entry);
        }
        self
    }
}
