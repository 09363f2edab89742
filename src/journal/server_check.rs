//! What a job has found out about its server: whether requests about an object's tags, ACL or restore work as such.

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

/// The number of proofs recorded for each job, one per scope. A resumed job proves further scopes again.
pub const MAX_SERVER_CHECKS: u32 = 4096;

/// The requests that one proof covers. A server may support some requests and apply others to the object itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustScope {
    /// The bucket of the objects.
    pub bucket: Bucket,
    /// The aspect of the objects: tags, ACL or restore.
    pub aspect: Aspect,
    /// Whether the requests delete the aspect or set it.
    pub deletes: bool,
    /// Whether the requests name a version.
    pub of_version: bool,
}

impl TrustScope {
    /// Returns the `aspect` column: the scope without its bucket.
    fn text(&self) -> String {
        let (delete, version) =
            (if self.deletes { "/delete" } else { "" }, if self.of_version { "/version" } else { "" });
        format!("{}{delete}{version}", self.aspect.as_str())
    }

    fn read(bucket: &Bucket, text: &str) -> Option<Self> {
        let (rest, of_version) = text.strip_suffix("/version").map_or((text, false), |rest| (rest, true));
        let (name, deletes) = rest.strip_suffix("/delete").map_or((rest, false), |rest| (rest, true));
        let aspect = Aspect::ALL.into_iter().find(|aspect| aspect.as_str() == name)?;
        Some(Self { bucket: bucket.clone(), aspect, deletes, of_version })
    }
}

/// The result of the server check for the requests of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVerdict {
    /// The requests that the result applies to.
    pub scope: TrustScope,
    /// The result.
    pub trust: ServerTrust,
}

/// Whether a server is trusted with writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTrust {
    /// The server has shown that it does exactly what a request asks.
    Proven,
    /// The first write was about to be sent, and its result is not recorded.
    Unconfirmed(FirstWrite),
    /// A write has changed the object itself, or was not stored. Holds a description.
    Refused(String),
}

/// A write that was sent alone, and the object's content before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstWrite {
    /// The object that was written.
    pub object: ObjectId,
    /// The object's content before the write.
    pub before: ContentMark,
}

/// The JSON in the `detail` column.
#[derive(Default, Serialize, Deserialize)]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// The URL-encoded key of the object.
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
    /// Records the result of the server check for one scope, and replaces an earlier one. A proof is not recorded if
    /// there are already [`MAX_SERVER_CHECKS`] results.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub async fn record_server(&self, job: i64, verdict: ServerVerdict, now: Timestamp) -> Result<(), JournalError> {
        self.ask(move |connection| {
            let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
            let detail = serde_json::to_string(&verdict.trust.detail()).map_err(unwritable)?;
            let ServerVerdict { scope, trust } = verdict;
            let (bucket, text) = (scope.bucket.as_str(), scope.text());
            let sum = of_server_check(job, [bucket, &text, trust.as_str(), &detail]);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let kept: u32 =
                transaction.query_row("SELECT count(*) FROM server_check WHERE job = ?1", [job], |row| row.get(0))?;
            if trust != ServerTrust::Proven || kept < MAX_SERVER_CHECKS {
                transaction.execute(
                    "INSERT OR REPLACE INTO server_check (job, bucket, aspect, verdict, detail, at, checksum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![job, bucket, text, trust.as_str(), detail, now.as_millisecond(), sum],
                )?;
            } else {
                forget(&transaction, job, &scope)?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Deletes the result of the server check for one scope.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub async fn forget_server(&self, job: i64, scope: TrustScope) -> Result<(), JournalError> {
        self.ask(move |connection| Ok(forget(connection, job, &scope).map(drop)?)).await
    }

    /// Returns the results of a job's server check.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
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

fn forget(connection: &rusqlite::Connection, job: i64, scope: &TrustScope) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM server_check WHERE job = ?1 AND bucket = ?2 AND aspect = ?3";
    connection.execute(sql, params![job, scope.bucket.as_str(), scope.text()])
}

fn read(row: &Row<'_>) -> rusqlite::Result<ServerVerdict> {
    let texts = ["bucket", "aspect", "verdict", "detail"].map(|column| row.get::<_, String>(column));
    let [bucket, aspect, verdict, detail] = texts;
    let (bucket, aspect, verdict, detail) = (bucket?, aspect?, verdict?, detail?);
    let Proof::Proven = prove(row, of_server_check(row.get("job")?, [&bucket, &aspect, &verdict, &detail]))? else {
        return Err(unreadable(row, "checksum", Mismatch));
    };
    let bucket = Bucket::new(&bucket);
    let scope = named(row, "aspect", |text| TrustScope::read(&bucket, text))?;
    let mut detail = Some(serde_json::from_str(&detail).map_err(|error| unreadable(row, "detail", error))?);
    let trust = named(row, "verdict", |name| ServerTrust::read(name, &bucket, detail.take()?))?;
    Ok(ServerVerdict { scope, trust })
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
        let scope = |aspect| TrustScope { bucket: bucket.clone(), aspect, deletes: false, of_version: true };
        let verdict = |aspect, trust| ServerVerdict { scope: scope(aspect), trust };
        let object = ObjectId { bucket: bucket.clone(), key: Key::new(&b"a/\xff"[..]), version: None };
        let before = ContentMark { etag: Some("\"x\"".into()), size: Some(3) };
        let sent = ServerTrust::Unconfirmed(FirstWrite { object, before });
        for trust in [sent.clone(), ServerTrust::Refused("it did".to_owned()), ServerTrust::Proven, sent] {
            journal.record_server(job.number, verdict(Aspect::Tags, trust.clone()), hour(1)).await.expect("recorded");
            assert_eq!(journal.server_verdicts(job.number).expect("read"), [verdict(Aspect::Tags, trust)]);
        }
        let proven = verdict(Aspect::Acl, ServerTrust::Proven);
        journal.record_server(job.number, proven.clone(), hour(1)).await.expect("recorded");
        // A scope with other requests has its own result.
        let other = TrustScope { deletes: true, ..scope(Aspect::Tags) };
        journal.forget_server(job.number, other).await.expect("nothing to forget");
        assert_eq!(journal.server_verdicts(job.number).expect("read").len(), 2);
        journal.forget_server(job.number, scope(Aspect::Tags)).await.expect("forgotten");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), [proven]);
        bring(&journal, &job.id, JobStatus::Cleaning, hour(2));
        journal.remove(&job.id).expect("removed");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), []);
    }
}
