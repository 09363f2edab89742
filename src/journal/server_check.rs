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

/// Proofs that are kept for each job: one for each scope. Beyond that, a resumed job proves again.
pub const MAX_SERVER_CHECKS: u32 = 4096;

/// Which requests a proof is good for: a server may know some of them and take others for requests about the object itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustScope {
    /// Those in this bucket.
    pub bucket: Bucket,
    /// Those about this aspect of its objects.
    pub aspect: Aspect,
    /// Those that delete it, or those that set it.
    pub deletes: bool,
    /// Those that name a version, or those that do not.
    pub of_version: bool,
}

impl TrustScope {
    /// The `aspect` column: what there is to know of the scope besides its bucket.
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

/// What is known of a server, for the requests of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVerdict {
    /// Which requests.
    pub scope: TrustScope,
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

    /// Forgets what was found out about a job's server, for one scope.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn forget_server(&self, job: i64, scope: TrustScope) -> Result<(), JournalError> {
        self.ask(move |connection| Ok(forget(connection, job, &scope).map(drop)?)).await
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
        // That of other requests about the same is another proof.
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
