//! Many objects' fates, summed up in bounded memory.

use std::collections::BTreeMap;

use super::interval::Share;
use super::judge::{Fate, Prospect, Reason};
use crate::call::Call;
use crate::object::{Bucket, ObjectId, RestoreRequest, StorageClass};

/// Reasons that are told apart; there are a few dozen error codes at most.
const MAX_GROUPS: usize = 64;

/// Storage classes that are told apart; no service has half as many. Objects of further ones count as of no known class.
const MAX_CLASSES: usize = 64;

/// Examples of one reason.
const MAX_EXAMPLES: usize = 3;

/// What many objects' fates come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects that become others than they are.
    pub changes: u64,
    /// Objects that are as they should be.
    pub stays: u64,
    /// Objects that the job would fail on.
    pub fails: u64,
    /// Objects of which nobody can tell.
    pub open: u64,
    /// Why objects would fail, by error code, HTTP status and operation.
    pub reasons: BTreeMap<(String, u16, String), Group>,
    /// Why nobody can tell.
    pub doubts: BTreeMap<String, Group>,
    /// Requests that the job would send and have carried out, by what they are and the class of the object.
    pub sends: BTreeMap<(&'static str, Option<StorageClass>), Sent>,
    /// Requests that would be refused, likewise.
    pub refused: BTreeMap<(&'static str, Option<StorageClass>), Sent>,
    /// Objects by class.
    pub classes: BTreeMap<Option<StorageClass>, u64>,
    /// Bytes that restores would bring back, by class; and objects among them whose size is not known.
    pub restored: BTreeMap<Option<StorageClass>, (u64, u64)>,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// One of them.
    pub call: Call,
    /// How many there are.
    pub count: u64,
}

/// Objects with one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many there are.
    pub count: u64,
    /// The first one's message.
    pub message: String,
    /// A few of them.
    pub examples: Vec<ObjectId>,
}

impl Group {
    fn add(&mut self, object: &ObjectId, message: &str) {
        if self.count == 0 {
            message.clone_into(&mut self.message);
        }
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(object.clone());
        }
    }
}

/// A group by its name, or the one that takes what there is no room for.
fn group<K: Ord>(groups: &mut BTreeMap<K, Group>, name: K, others: impl FnOnce() -> K) -> &mut Group {
    let name = if groups.len() < MAX_GROUPS || groups.contains_key(&name) { name } else { others() };
    groups.entry(name).or_default()
}

impl Tally {
    /// Adds an object, and its bytes where they are known.
    pub fn add(&mut self, prospect: &Prospect, size: Option<u64>) {
        let object = &prospect.object;
        match &prospect.fate {
            Fate::Changes(_) => self.changes += 1,
            Fate::Stays => self.stays += 1,
            Fate::Fails(Reason { code, http, operation, message }) => {
                self.fails += 1;
                let others = || ("others".to_owned(), 0, String::new());
                group(&mut self.reasons, (code.clone(), *http, operation.clone()), others).add(object, message);
            }
            Fate::Open(why) => {
                self.open += 1;
                group(&mut self.doubts, why.clone(), || "others".to_owned()).add(object, why);
            }
        }
        let class = prospect.before.class.known().filter(|class| self.tells_apart(class)).cloned();
        *self.classes.entry(class.clone()).or_default() += 1;
        for call in &prospect.sends {
            count(&mut self.sends, call, class.as_ref());
            if matches!(call, Call::Restore(_)) {
                let (bytes, unknown) = self.restored.entry(class.clone()).or_default();
                *bytes = bytes.saturating_add(size.unwrap_or(0));
                *unknown += u64::from(size.is_none());
            }
        }
        for call in &prospect.refused {
            count(&mut self.refused, call, class.as_ref());
        }
    }

    /// Whether a class is counted by its name: a server that makes one up for each object does not make it grow.
    fn tells_apart(&self, class: &StorageClass) -> bool {
        self.classes.len() < MAX_CLASSES || self.classes.contains_key(&Some(class.clone()))
    }

    /// How many objects were looked at.
    #[must_use]
    pub fn looked(&self) -> u64 {
        self.changes + self.stays + self.fails + self.open
    }

    /// Whether anything would become another one, or may.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes + self.fails + self.open > 0
    }

    /// Of all objects, how many are like those that are counted here.
    #[must_use]
    pub fn share(&self, found: u64, all: u64) -> Share {
        Share { found, looked: self.looked(), all }
    }
}

fn count(into: &mut BTreeMap<(&'static str, Option<StorageClass>), Sent>, call: &Call, class: Option<&StorageClass>) {
    let sent = into.entry((kind(call), class.cloned())).or_insert_with(|| Sent { call: call.clone(), count: 0 });
    sent.count += 1;
}

/// What a request is called. Restores of one plan all ask for the same days and, with the exception of OSS's untiered class,
/// the same tier.
fn kind(call: &Call) -> &'static str {
    match call {
        Call::GetTags => "GetObjectTagging",
        Call::PutTags(_) => "PutObjectTagging",
        Call::DeleteTags => "DeleteObjectTagging",
        Call::GetAcl => "GetObjectAcl",
        Call::PutAcl(_) => "PutObjectAcl",
        Call::Restore(RestoreRequest { .. }) => "RestoreObject",
        Call::Head => "HeadObject",
    }
}

/// The directory that holds most of the objects of a sample, as a bucket and a prefix that ends with a slash, and how many
/// of them it holds.
#[must_use]
pub fn busiest<'a>(objects: impl Iterator<Item = &'a ObjectId>) -> Option<(Bucket, Vec<u8>, u64)> {
    let mut folders: BTreeMap<(&Bucket, &[u8]), u64> = BTreeMap::new();
    for object in objects {
        let key = object.key.as_bytes();
        let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        *folders.entry((&object.bucket, &key[..end])).or_default() += 1;
    }
    let most = folders.into_iter().max_by_key(|(_, count)| *count);
    most.map(|((bucket, folder), count)| (bucket.clone(), folder.to_vec(), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Fact, Key, ObjectState};

    #[test]
    fn a_server_that_makes_up_classes_and_codes_does_not_make_it_grow() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            let class = Fact::Known(StorageClass::new(&format!("CLASS-{number}")));
            let reason = Reason::new(&format!("Code{number}"), 400, "put_object_acl", "no");
            let object = ObjectId { bucket: Bucket::new("bkt"), key: Key::from("k"), version: None };
            let before = ObjectState { class, ..ObjectState::default() };
            let sends = vec![Call::GetAcl, Call::Head];
            tally.add(
                &Prospect { object, before, fate: Fate::Fails(reason), sends, refused: vec![Call::GetTags] },
                None,
            );
        }
        assert_eq!((tally.fails, tally.classes.values().sum::<u64>()), (1000, 1000));
        assert!(tally.classes.len() <= MAX_CLASSES + 1 && tally.reasons.len() <= MAX_GROUPS + 1);
        assert!(tally.sends.len() <= 2 * (MAX_CLASSES + 1) && tally.refused.len() <= MAX_CLASSES + 1);
        assert_eq!(tally.classes[&None], 1000 - MAX_CLASSES as u64);
    }
}
