//! Ids shortened for people to read and type.

use rusqlite::{Connection, OptionalExtension as _};

use super::db::{DatabaseCommandError, Journal};
use super::error::JournalError;
use crate::job::JobId;

impl Journal {
    /// Returns the shortest prefix of each id that no other job's id has, with at least `least` characters.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn short_ids(&self, ids: Vec<JobId>, least: usize) -> Result<Vec<String>, JournalError> {
        self.run_blocking(move |connection| {
            ids.iter().map(|id| shortest_prefix(connection, id.as_str(), least)).collect()
        })
    }
}

/// The id with the longest common prefix is next to it in sort order.
fn shortest_prefix(connection: &Connection, id: &str, least: usize) -> Result<String, DatabaseCommandError> {
    let mut length = least;
    for sql in ["SELECT max(id) FROM job WHERE id < ?1", "SELECT min(id) FROM job WHERE id > ?1"] {
        let mut statement = connection.prepare_cached(sql)?;
        let neighbour: Option<String> = statement.query_row([id], |row| row.get(0)).optional()?.flatten();
        length = length.max(neighbour.map_or(0, |neighbour| shared_length(id, &neighbour) + 1));
    }
    Ok(id.chars().take(length).collect())
}

fn shared_length(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::journal::{JobSource, NewJob};

    fn new(id: &JobId) -> NewJob {
        NewJob {
            id: id.clone(),
            identity: id.to_string(),
            token: None,
            name: "name".to_owned(),
            store_identity: String::new(),
            description: None,
            source: JobSource::Plan,
            plan_file: "/plan.toml".into(),
            plan_hash: "hash".to_owned(),
            plan_text: Vec::new(),
            confirmed: true,
            priority: 0,
            manifest_fingerprint: None,
            recurrence: None,
        }
    }

    /// Ids of 32 hexadecimal digits, like real ones, that differ only in their last digits.
    fn id(number: u32) -> JobId {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{number:032x}")).parse().expect("an id")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn each_finds_its_job_and_could_not_be_shorter(
            numbers in prop::collection::btree_set(0_u32..5000, 1..30),
            least in 1_usize..12,
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = Journal::open(folder.path()).expect("a journal");
            let ids: Vec<_> = numbers.into_iter().map(id).chain([JobId::random()]).collect();
            for id in &ids {
                let _ = journal.create(new(id), false, Timestamp::now()).expect("created");
            }
            let shorts = journal.short_ids(ids.clone(), least).expect("read");
            prop_assert_eq!(shorts.iter().collect::<BTreeSet<_>>().len(), ids.len());
            for (short, id) in shorts.iter().zip(&ids) {
                prop_assert!(short.len() >= least);
                prop_assert_eq!(&journal.find(short).expect("found").id, id);
                let shorter = &short[..short.len() - 1];
                let shared = matches!(journal.find(shorter), Err(JournalError::AmbiguousId { .. }));
                prop_assert!(short.len() == least || shared, "{short}");
            }
        }
    }
}
