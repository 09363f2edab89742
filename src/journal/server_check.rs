//! What a job has found out about its server: whether it tells an object's tags, ACL or restore from the object itself.

use jiff::Timestamp;
use rusqlite::{Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::checksum::{Mismatch, Proof, of_server_check, prove};
use super::db::Journal;
use super::error::JournalError;
use super::record::{named, unreadable};
use crate::call::ContentMark;
use crate::object::{Bucket, Key, ObjectId, VersionId};
use crate::operation::Aspect;

/// Proofs that are kept for each job: one for each bucket and aspect. Beyond that, a resumed job proves again.
pub const MAX_SERVER_CHECKS: u32 = 4096;

/// What is known of a server, for one bucket and one aspect of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVerdict {
    /// The bucket.
    pub bucket: Bucket,
    /// The aspect.
    pub aspect: Aspect,
    /// What was found.
    pub trust: ServerTrust,
}

/// Whether a server is trusted with requests that write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTrust {
    /// It has shown that it does what is asked, and nothing else.
    Proven,
    /// The first write was about to be sent, and what came of it is not recorded.
    Unconfirmed(FirstWrite),
    /// A write has changed the object itself, or was not carried out. In words.
    Refused(String),
}

/// A write that was sent alone, and what the object was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstWrite {
    /// The object.
    pub object: ObjectId,
    /// Its content.
    pub before: ContentMark,
}

/// The `detail` column.
#[derive(Default, Serialize, Deserialize)]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// The object's key, URL-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl ServerTrust {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Refused(_) => "refused",
        }
    }

    fn detail(&self) -> Detail {
        match self {
            Self::Proven => Detail::default(),
            Self::Refused(what) => Detail { what: Some(what.clone()), ..Detail::default() },
            Self::Unconfirmed(FirstWrite { object, before }) => Detail {
                what: None,
                key: Some(object.key.encoded()),
                version: object.version.as_ref().map(|id| id.as_str().to_owned()),
                etag: before.etag.as_deref().map(str::to_owned),
                size: before.size,
            },
        }
    }

    fn read(verdict: &str, bucket: &Bucket, detail: Detail) -> Option<Self> {
        match verdict {
            "proven" => Some(Self::Proven),
            "refused" => Some(Self::Refused(detail.what?)),
            "unconfirmed" => {
                let key = Key::decode(detail.key?.as_bytes());
                let version = detail.version.as_deref().map(VersionId::new);
                let before = ContentMark { etag: detail.etag.map(Into::into), size: detail.size };
                Some(Self::Unconfirmed(FirstWrite {
                    object: ObjectId { bucket: bucket.clone(), key, version },
                    before,
                }))
            }
            _ => None,
        }
    }
}

impl Journal {
    /// Records what was found out about a job's server, in place of what was known of the bucket and the aspect before.
    /// A proof that finds no more room is not kept.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn record_server(&self, job: i64, verdict: ServerVerdict, now: Timestamp) -> Result<(), JournalError> {
        self.ask(move |connection| {
            let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
            let detail = serde_json::to_string(&verdict.trust.detail()).map_err(unwritable)?;
            let ServerVerdict { bucket, aspect, trust } = verdict;
            let sum = of_server_check(job, [bucket.as_str(), aspect.as_str(), trust.as_str(), &detail]);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let kept: u32 =
                transaction.query_row("SELECT count(*) FROM server_check WHERE job = ?1", [job], |row| row.get(0))?;
            if trust != ServerTrust::Proven || kept < MAX_SERVER_CHECKS {
                transaction.execute(
                    "INSERT OR REPLACE INTO server_check (job, bucket, aspect, verdict, detail, at, checksum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![job, bucket.as_str(), aspect.as_str(), trust.as_str(), detail, now.as_millisecond(), sum],
                )?;
            } else {
                forget(&transaction, job, &bucket, aspect)?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Forgets what was found out about a job's server, for one bucket and one aspect.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn forget_server(&self, job: i64, bucket: Bucket, aspect: Aspect) -> Result<(), JournalError> {
        self.ask(move |connection| Ok(forget(connection, job, &bucket, aspect).map(drop)?)).await
    }

    /// What a job has found out about its server.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn server_verdicts(&self, job: i64) -> Result<Vec<ServerVerdict>, JournalError> {
        self.wait(move |connection| {
            let sql = "SELECT job, bucket, aspect, verdict, detail, checksum FROM server_check WHERE job = ?1
                       ORDER BY bucket, aspect";
            let mut statement = connection.prepare(sql)?;
            let verdicts = statement.query_map([job], read)?;
            Ok(verdicts.collect::<Result<_, _>>()?)
        })
    }
}

fn forget(connection: &rusqlite::Connection, job: i64, bucket: &Bucket, aspect: Aspect) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM server_check WHERE job = ?1 AND bucket = ?2 AND aspect = ?3";
    connection.execute(sql, params![job, bucket.as_str(), aspect.as_str()])
}

fn read(row: &Row<'_>) -> rusqlite::Result<ServerVerdict> {
    let texts = ["bucket", "aspect", "verdict", "detail"].map(|column| row.get::<_, String>(column));
    let [bucket, aspect, verdict, detail] = texts;
    let (bucket, aspect, verdict, detail) = (bucket?, aspect?, verdict?, detail?);
    let Proof::Proven = prove(row, of_server_check(row.get("job")?, [&bucket, &aspect, &verdict, &detail]))? else {
        return Err(unreadable(row, "checksum", Mismatch));
    };
    let bucket = Bucket::new(&bucket);
    let aspect = named(row, "aspect", |name| Aspect::ALL.into_iter().find(|aspect| aspect.as_str() == name))?;
    let mut detail = Some(serde_json::from_str(&detail).map_err(|error| unreadable(row, "detail", error))?);
    let trust = named(row, "verdict", |name| ServerTrust::read(name, &bucket, detail.take()?))?;
    Ok(ServerVerdict { bucket, aspect, trust })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobStatus;
    use crate::journal::testing::{bring, created, hour, journal, new};

    #[tokio::test]
    async fn what_was_found_is_read_back_replaced_and_goes_with_its_job() {
        let (_folder, journal) = journal();
        let job = created(&journal, new("one"));
        let bucket = Bucket::new("b");
        let verdict = |aspect, trust| ServerVerdict { bucket: bucket.clone(), aspect, trust };
        let object = ObjectId { bucket: bucket.clone(), key: Key::new(&b"a/\xff"[..]), version: None };
        let before = ContentMark { etag: Some("\"x\"".into()), size: Some(3) };
        let sent = ServerTrust::Unconfirmed(FirstWrite { object, before });
        for trust in [sent.clone(), ServerTrust::Refused("it did".to_owned()), ServerTrust::Proven, sent] {
            journal.record_server(job.number, verdict(Aspect::Tags, trust.clone()), hour(1)).await.expect("recorded");
            assert_eq!(journal.server_verdicts(job.number).expect("read"), [verdict(Aspect::Tags, trust)]);
        }
        let proven = verdict(Aspect::Acl, ServerTrust::Proven);
        journal.record_server(job.number, proven.clone(), hour(1)).await.expect("recorded");
        journal.forget_server(job.number, bucket.clone(), Aspect::Tags).await.expect("forgotten");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), [proven]);
        bring(&journal, &job.id, JobStatus::Cleaning, hour(2));
        journal.remove(&job.id).expect("removed");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), []);
    }
}
