//! What a job has found out about its server: whether requests about an object's tags, ACL or restore work as such.

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::object_request::ContentIdentity;
use jiff::Timestamp;
use rusqlite::{Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::db::Journal;
use super::error::{ChecksumMismatchError, JournalError};
use super::row::{ChecksumProof, ChecksumValue, checksum, invalid_value, named_column, verify};
use crate::operation::ObjectAspect;

/// The number of proofs recorded for each job, one per scope. A resumed job proves further scopes again.
pub const MAX_SERVER_CHECKS: u32 = 4096;

/// The requests that one proof covers. A server may support some requests and apply others to the object itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustScope {
    /// The bucket of the objects.
    pub bucket: BucketName,
    /// The aspect of the objects: tags, ACL or restore.
    pub aspect: ObjectAspect,
    /// Whether the requests delete the aspect or set it.
    pub deletes: bool,
    /// Whether the requests name a version.
    pub of_version: bool,
}

impl TrustScope {
    /// Returns the `aspect` column: the scope without its bucket.
    fn to_column(&self) -> String {
        let (delete, version) =
            (if self.deletes { "/delete" } else { "" }, if self.of_version { "/version" } else { "" });
        format!("{}{delete}{version}", self.aspect.as_str())
    }

    fn from_column(bucket: &BucketName, text: &str) -> Option<Self> {
        let (rest, of_version) = text.strip_suffix("/version").map_or((text, false), |rest| (rest, true));
        let (name, deletes) = rest.strip_suffix("/delete").map_or((rest, false), |rest| (rest, true));
        let aspect = ObjectAspect::ALL.into_iter().find(|aspect| aspect.as_str() == name)?;
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
    pub before: ContentIdentity,
}

/// The JSON in the `detail` column.
#[derive(Default, Serialize, Deserialize)]
struct ServerCheckDetail {
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

    fn detail(&self) -> ServerCheckDetail {
        match self {
            Self::Proven => ServerCheckDetail::default(),
            Self::Refused(what) => ServerCheckDetail { what: Some(what.clone()), ..ServerCheckDetail::default() },
            Self::Unconfirmed(FirstWrite { object, before }) => ServerCheckDetail {
                what: None,
                key: Some(object.key.encoded()),
                version: object.version.as_ref().map(|id| id.as_str().to_owned()),
                etag: before.etag.as_deref().map(str::to_owned),
                size: before.size,
            },
        }
    }

    fn from_columns(verdict: &str, bucket: &BucketName, detail: ServerCheckDetail) -> Option<Self> {
        match verdict {
            "proven" => Some(Self::Proven),
            "refused" => Some(Self::Refused(detail.what?)),
            "unconfirmed" => {
                let key = ObjectKey::decode(detail.key?.as_bytes());
                let version = detail.version.as_deref().map(VersionId::new);
                let before = ContentIdentity { etag: detail.etag.map(Into::into), size: detail.size };
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
    pub async fn record_server_verdict(
        &self,
        job: i64,
        verdict: ServerVerdict,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.run(move |connection| {
            let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
            let detail = serde_json::to_string(&verdict.trust.detail()).map_err(unwritable)?;
            let ServerVerdict { scope, trust } = verdict;
            let (bucket, text) = (scope.bucket.as_str(), scope.to_column());
            let sum = server_verdict_checksum(job, [bucket, &text, trust.as_str(), &detail]);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let recorded: u32 =
                transaction.query_row("SELECT count(*) FROM server_check WHERE job = ?1", [job], |row| row.get(0))?;
            if trust != ServerTrust::Proven || recorded < MAX_SERVER_CHECKS {
                transaction.execute(
                    "INSERT OR REPLACE INTO server_check (job, bucket, aspect, verdict, detail, at, checksum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![job, bucket, text, trust.as_str(), detail, now.as_millisecond(), sum],
                )?;
            } else {
                delete_verdict(&transaction, job, &scope)?;
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
    pub async fn forget_server_verdict(&self, job: i64, scope: TrustScope) -> Result<(), JournalError> {
        self.run(move |connection| Ok(delete_verdict(connection, job, &scope).map(drop)?)).await
    }

    /// Returns the results of a job's server check.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn server_verdicts(&self, job: i64) -> Result<Vec<ServerVerdict>, JournalError> {
        self.run_blocking(move |connection| {
            let sql = "SELECT job, bucket, aspect, verdict, detail, checksum FROM server_check WHERE job = ?1
                       ORDER BY bucket, aspect";
            let mut statement = connection.prepare(sql)?;
            let verdicts = statement.query_map([job], read_verdict)?;
            Ok(verdicts.collect::<Result<_, _>>()?)
        })
    }
}

fn delete_verdict(connection: &rusqlite::Connection, job: i64, scope: &TrustScope) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM server_check WHERE job = ?1 AND bucket = ?2 AND aspect = ?3";
    connection.execute(sql, params![job, scope.bucket.as_str(), scope.to_column()])
}

fn read_verdict(row: &Row<'_>) -> rusqlite::Result<ServerVerdict> {
    let texts = ["bucket", "aspect", "verdict", "detail"].map(|column| row.get::<_, String>(column));
    let [bucket, aspect, verdict, detail] = texts;
    let (bucket, aspect, verdict, detail) = (bucket?, aspect?, verdict?, detail?);
    let ChecksumProof::Verified =
        verify(row, server_verdict_checksum(row.get("job")?, [&bucket, &aspect, &verdict, &detail]))?
    else {
        return Err(invalid_value(row, "checksum", ChecksumMismatchError));
    };
    let bucket = BucketName::new(&bucket);
    let scope = named_column(row, "aspect", |text| TrustScope::from_column(&bucket, text))?;
    let mut detail = Some(serde_json::from_str(&detail).map_err(|error| invalid_value(row, "detail", error))?);
    let trust = named_column(row, "verdict", |name| ServerTrust::from_columns(name, &bucket, detail.take()?))?;
    Ok(ServerVerdict { scope, trust })
}

/// Computes the checksum of a server verdict: bucket, aspect, verdict and detail.
fn server_verdict_checksum(job: i64, texts: [&str; 4]) -> i64 {
    let texts = texts.map(|text| ChecksumValue::Bytes(Some(text.as_bytes())));
    let values: Vec<_> = [ChecksumValue::Number(Some(job))].into_iter().chain(texts).collect();
    checksum("server_check", &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobStatus;
    use crate::journal::testing::{create_job, hour, journal, move_to, new_job};

    #[tokio::test]
    async fn verdicts_are_stored_replaced_and_deleted_with_their_job() {
        let (_folder, journal) = journal();
        let job = create_job(&journal, new_job("one"));
        let bucket = BucketName::new("b");
        let scope = |aspect| TrustScope { bucket: bucket.clone(), aspect, deletes: false, of_version: true };
        let verdict = |aspect, trust| ServerVerdict { scope: scope(aspect), trust };
        let object = ObjectId { bucket: bucket.clone(), key: ObjectKey::new(&b"a/\xff"[..]), version: None };
        let before = ContentIdentity { etag: Some("\"x\"".into()), size: Some(3) };
        let sent = ServerTrust::Unconfirmed(FirstWrite { object, before });
        for trust in [sent.clone(), ServerTrust::Refused("it did".to_owned()), ServerTrust::Proven, sent] {
            journal
                .record_server_verdict(job.number, verdict(ObjectAspect::Tags, trust.clone()), hour(1))
                .await
                .expect("recorded");
            assert_eq!(journal.server_verdicts(job.number).expect("read"), [verdict(ObjectAspect::Tags, trust)]);
        }
        let proven = verdict(ObjectAspect::Acl, ServerTrust::Proven);
        journal.record_server_verdict(job.number, proven.clone(), hour(1)).await.expect("recorded");
        // A scope with other requests has its own result.
        let other = TrustScope { deletes: true, ..scope(ObjectAspect::Tags) };
        journal.forget_server_verdict(job.number, other).await.expect("nothing to forget");
        assert_eq!(journal.server_verdicts(job.number).expect("read").len(), 2);
        journal.forget_server_verdict(job.number, scope(ObjectAspect::Tags)).await.expect("forgotten");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), [proven]);
        move_to(&journal, &job.id, JobStatus::Cleaning, hour(2));
        journal.remove_cleaned(&job.id).expect("removed");
        assert_eq!(journal.server_verdicts(job.number).expect("read"), []);
    }
}
