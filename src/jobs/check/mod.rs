//! Checks whether the credentials may do what a plan needs, by sending requests. Nothing is changed unless the caller
//! asks for a write probe.
//!
//! The check reads the manifest up to its first existing object, and from that object what the operations read. Write
//! access cannot be tested without writing. It is tested only if the write leaves the object unchanged (`probe`), or if
//! the caller accepts what it leaves behind.

mod probe;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::backoff::RetryPolicy;
use crate::call::{Call, Learned};
use crate::engine::{Allowance, ReadCheck, RefusalKind, ServerCheck, ServerRefusal, Throttle, Unanswered, Worker};
use crate::manifest::{CsvPlace, Manifest, ManifestError, Source};
use crate::object::{Bucket, ObjectId};
use crate::operation::{Aspect, Operation, Operations};
use crate::plan::Plan;
use crate::plan::policy::{Language, Need, works_on_versions};
use crate::report::{PublishError, try_place};
use crate::store::{ReadOnly, Store};
use crate::task::{Fault, FaultClass};

/// The writes that the caller allows in order to check write access.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    /// Write this object's tags and ACL back unchanged, as far as the plan writes them.
    pub write: Option<ObjectId>,
    /// Write a small object to the report location. The object stays there.
    pub report: bool,
}

/// The result of checking one thing that the plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked, as a verb phrase such as `read the tags of bucket/key`.
    pub what: String,
    /// The action that a policy must allow for it, in the provider's language; `None` for local files.
    pub action: Option<&'static str>,
    /// Whether it is allowed.
    pub verdict: Verdict,
    /// The explanation, such as the server's error.
    pub why: Option<String>,
}

/// The outcome of checking one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request succeeded.
    Allowed,
    /// The request was denied because a policy does not allow the action.
    Denied,
    /// The request was rejected, and no permission would change that: the credentials are invalid, the bucket does not
    /// support the request, or the server is not trusted.
    Refused,
    /// The request failed for another reason, so the permission is unknown.
    Failed,
    /// The permission was not checked.
    NotChecked,
}

impl Verdict {
    /// Returns the verdict as it is shown to users: one or two words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NotChecked => "not checked",
        }
    }
}

/// Why no further requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Any further request would be rejected as well.
    Credentials,
    /// The store does not respond.
    Unreachable,
    /// The server does not do what it is asked.
    Untrusted,
}

/// The number of manifest objects to try until one exists.
const MOST_OBJECTS: usize = 10;

/// Checks a plan against its store, and reports each finding as it arrives. Returns the bucket of the first object, if
/// there is one.
///
/// Without probes, no request changes anything.
pub async fn check(
    plan: &Plan,
    store: &Arc<dyn Store>,
    probes: &Probes,
    tell: &mut dyn FnMut(&Finding),
) -> Option<Bucket> {
    let reading: Arc<dyn Store> = Arc::new(ReadOnly::new(Arc::clone(store)));
    let (operations, language) = (plan.operations(), Language::of(plan.store.provider));
    let of_versions = works_on_versions(plan);
    let mut checker = Checker { language, of_versions, over: None, tell };
    let first = checker.manifest(&plan.manifest, &reading).await;
    let reader = worker(plan, Arc::clone(&reading));
    let first = match first {
        Some(first) => checker.present(&reader, plan, &reading, first).await,
        None => None,
    };
    checker.reads(&reader, &operations, first.as_ref()).await;
    checker.server(&reader, plan, first.as_ref()).await;
    match &probes.write {
        Some(object) => checker.probe(&Writer::new(plan, store), &operations, object).await,
        None => checker.leave_writes(&operations),
    }
    checker.report(plan, store, probes.report).await;
    first.map(|object| object.bucket)
}

/// Returns a worker that sends requests as a job's worker does, one at a time.
fn worker(plan: &Plan, store: Arc<dyn Store>) -> Worker {
    let throttle = Throttle::new(Allowance::new(1, plan.limits.requests_per_second));
    Worker::new(store, plan.operations(), throttle, RetryPolicy::default(), CancellationToken::new())
}

/// Sends write probes. If the plan needs a server check, each write is checked like a job's first write.
struct Writer {
    worker: Worker,
    check: Option<Arc<ServerCheck>>,
}

impl Writer {
    fn new(plan: &Plan, store: &Arc<dyn Store>) -> Self {
        let worker = worker(plan, Arc::clone(store));
        if !plan.needs_server_check() {
            return Self { worker, check: None };
        }
        let check = Arc::new(ServerCheck::default());
        Self { worker: worker.checking(Arc::clone(&check)), check: Some(check) }
    }

    /// Returns the worker, with its trust in the server reset.
    fn afresh(&self) -> &Worker {
        if let Some(check) = &self.check {
            check.forget();
        }
        &self.worker
    }
}

struct Checker<'a> {
    language: Language,
    of_versions: bool,
    over: Option<Over>,
    tell: &'a mut dyn FnMut(&Finding),
}

/// Why a request was rejected or not sent: the verdict and its explanation.
type Unlearned = (Verdict, String);

impl Checker<'_> {
    fn told(
        &mut self,
        what: impl Into<String>,
        action: impl Into<Option<&'static str>>,
        verdict: Verdict,
        why: Option<String>,
    ) {
        (self.tell)(&Finding { what: what.into(), action: action.into(), verdict, why });
    }

    fn action(&self, need: Need, object: Option<&ObjectId>) -> &'static str {
        need.action(self.language, object.map_or(self.of_versions, |object| object.version.is_some()))
    }

    /// Reports the result of a request.
    fn came_of<T>(&mut self, what: String, action: &'static str, answer: Result<T, Unlearned>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.told(what, action, Verdict::Allowed, None);
                Some(answer)
            }
            Err((verdict, why)) => {
                self.told(what, action, verdict, Some(why));
                None
            }
        }
    }

    /// Sends a request, unless an earlier failure already decides its result.
    async fn ask(&mut self, worker: &Worker, object: &ObjectId, call: Call) -> Result<Learned, Unlearned> {
        self.unless_over()?;
        let reads = !call.writes();
        match worker.ask(object, call).await {
            Ok(reply) => Ok(reply.learned),
            Err(Unanswered::Fault(fault)) => Err(self.judged(&fault, reads)),
            Err(Unanswered::Untrusted(refusal)) => {
                self.over = Some(Over::Untrusted);
                let (verdict, why) = distrusted(&refusal);
                let RefusalKind::Denied(read) = &refusal.kind else { return Err((verdict, why)) };
                let need = Need::of(read);
                let what = format!("{} of {object}", doing(need));
                self.told(what, self.action(need, Some(object)), verdict, Some(why));
                Err((Verdict::NotChecked, "whether the server knows it could not be checked before".to_owned()))
            }
            Err(Unanswered::Stopped) => Err((Verdict::NotChecked, "it was stopped".to_owned())),
        }
    }

    fn unless_over(&self) -> Result<(), Unlearned> {
        let why = match self.over {
            None => return Ok(()),
            Some(Over::Credentials) => "the credentials are refused whatever they ask for",
            Some(Over::Unreachable) => "the store cannot be reached",
            Some(Over::Untrusted) => "nothing is written to this server",
        };
        Err((Verdict::NotChecked, why.to_owned()))
    }

    /// Classifies a fault by what it says about permissions. `reads` is true if the request was to read an object.
    fn judged(&mut self, fault: &Fault, reads: bool) -> Unlearned {
        match (fault.class, fault.status) {
            (FaultClass::Credentials, Some(_)) => {
                self.over = Some(Over::Credentials);
                (Verdict::Refused, format!("the credentials themselves are refused: {fault}"))
            }
            (_, None) => {
                self.over = Some(Over::Unreachable);
                (Verdict::Failed, fault.to_string())
            }
            (_, Some(403)) if reads && self.language == Language::Iam => {
                let or = "S3 says so too of an object that is not there, to whoever may not list its bucket";
                (Verdict::Denied, format!("{fault} ({or})"))
            }
            (_, Some(403)) => (Verdict::Denied, fault.to_string()),
            _ if fault.code == "AccessControlListNotSupported" => {
                let owned = "no permission changes that: the bucket's owner owns all that is in it, as BucketOwnerEnforced has it";
                (Verdict::Refused, format!("{fault} ({owned})"))
            }
            _ => (Verdict::Failed, fault.to_string()),
        }
    }

    /// Reads the manifest up to its first object.
    async fn manifest(&mut self, manifest: &Manifest, store: &Arc<dyn Store>) -> Option<ObjectId> {
        let what = format!("read the manifest: {}", manifest.source.name());
        let usual = match &manifest.source {
            Source::Prefix { .. } => Some(self.action(Need::List, None)),
            Source::Csv { place: CsvPlace::Local(_), .. }
            | Source::Report { place: CsvPlace::Local(_), .. }
            | Source::Retry { .. } => None,
            Source::Csv { .. } | Source::Report { .. } | Source::Inventory { .. } => {
                Some(Need::Read.action(self.language, false))
            }
        };
        let glanced = match manifest.glance(store, 1, &CancellationToken::new()).await {
            Ok(glanced) => glanced,
            Err(error) => {
                let (action, (verdict, why)) = self.unread(usual, &error);
                self.told(what, action, verdict, Some(why));
                return None;
            }
        };
        let first = glanced.objects.into_iter().next();
        let seen = match (&first, glanced.whole) {
            (Some(first), _) => format!("its first object is {first}"),
            (None, true) => format!("the filter takes none of its {} rows", glanced.read),
            (None, false) => format!("the filter takes none of its first {} rows", glanced.read),
        };
        self.told(what, usual, Verdict::Allowed, Some(seen));
        first
    }

    /// Returns the first manifest object that exists. Existence is checked only if the plan would notice a missing
    /// object.
    async fn present(
        &mut self,
        reader: &Worker,
        plan: &Plan,
        store: &Arc<dyn Store>,
        first: ObjectId,
    ) -> Option<ObjectId> {
        let Some(call) = first_read(plan) else { return Some(first) };
        let Some(fault) = missing(reader, &first, &call).await else { return Some(first) };
        let glanced = plan.manifest.glance(store, MOST_OBJECTS, &CancellationToken::new()).await;
        let objects = glanced.map(|glanced| glanced.objects).unwrap_or_default();
        let tried = objects.len().max(1);
        for (passed, object) in objects.into_iter().enumerate().skip(1) {
            if missing(reader, &object, &call).await.is_none() {
                let which = if passed == 1 { "the first is".to_owned() } else { format!("the first {passed} are") };
                let why = format!("{which} missing ({first} was answered with {fault}); {object} is looked at instead");
                self.told("find an object of the manifest", None, Verdict::Allowed, Some(why));
                return Some(object);
            }
        }
        let which =
            if tried == 1 { "its first object is".to_owned() } else { format!("its first {tried} objects are") };
        let why = format!("{which} missing: {first} was answered with {fault}");
        self.told("find an object of the manifest", None, Verdict::Failed, Some(why));
        None
    }

    fn unread(&mut self, usual: Option<&'static str>, error: &ManifestError) -> (Option<&'static str>, Unlearned) {
        let Some((fault, listing)) = error.refusal() else { return (usual, (Verdict::Failed, error.to_string())) };
        let action = if listing { self.action(Need::List, None) } else { Need::Read.action(self.language, false) };
        let (verdict, why) = self.judged(fault, !listing);
        // The error names the location that was not found; the fault does not.
        let why = if verdict == Verdict::Failed { error.to_string() } else { why };
        (Some(action), (verdict, why))
    }

    /// Reads from the first object what the operations read.
    async fn reads(&mut self, reader: &Worker, operations: &Operations, first: Option<&ObjectId>) {
        let restores = operations.iter().any(|operation| operation.aspect() == Aspect::Restoration);
        let mut calls: Vec<Call> = operations.reads().into_iter().map(|step| step.call).collect();
        calls.extend(restores.then_some(Call::Head));
        for call in calls {
            let need = Need::of(&call);
            let action = self.action(need, first);
            let Some(object) = first else {
                let why = "no object of the manifest is known".to_owned();
                self.told(doing(need), action, Verdict::NotChecked, Some(why));
                continue;
            };
            let what = format!("{} of {object}", doing(need));
            let answer = self.ask(reader, object, call).await;
            self.came_of(what, action, answer);
        }
    }

    /// Checks with the first object whether the server supports tags and ACLs, as far as reads can show.
    async fn server(&mut self, reader: &Worker, plan: &Plan, first: Option<&ObjectId>) {
        let about = |aspect: &Aspect| plan.operations.iter().any(|operation| operation.aspect() == *aspect);
        for aspect in Aspect::ALL.into_iter().filter(about) {
            let Some(mut read) = aspect.read() else { continue };
            if plan.store.is_first_party() {
                continue;
            }
            let mut what = format!("tell {} from the object itself", aspect.resource());
            let found = match first {
                _ if plan.skip_server_check => {
                    (Verdict::NotChecked, Some("`skip_server_check` turns it off: the server is trusted".to_owned()))
                }
                None => (Verdict::NotChecked, Some("no object of the manifest is known".to_owned())),
                Some(object) => {
                    what = format!("{what}: {object}");
                    match self.unless_over() {
                        Ok(()) => {
                            let found = reader.check_reads(object, aspect).await;
                            if let ReadCheck::Refused(refusal) = &found
                                && let RefusalKind::Denied(call) = &refusal.kind
                            {
                                read = call.clone();
                            }
                            self.read_check(found)
                        }
                        Err((verdict, why)) => (verdict, Some(why)),
                    }
                }
            };
            let action = (found.0 == Verdict::Denied).then(|| self.action(Need::of(&read), first));
            self.told(what, action, found.0, found.1);
        }
    }

    fn read_check(&mut self, found: ReadCheck) -> (Verdict, Option<String>) {
        match found {
            ReadCheck::Proven => (Verdict::Allowed, None),
            ReadCheck::Absent(fault) => (Verdict::NotChecked, Some(format!("the object is not there: {fault}"))),
            ReadCheck::Refused(refusal) => {
                let (verdict, why) = distrusted(&refusal);
                (verdict, Some(why))
            }
            ReadCheck::Failed(fault) | ReadCheck::Credentials(fault) => {
                let (verdict, why) = self.judged(&fault, true);
                (verdict, Some(why))
            }
            ReadCheck::Stopped => (Verdict::NotChecked, Some("it was stopped".to_owned())),
        }
    }

    /// Reports the writes that were not tried.
    fn leave_writes(&mut self, operations: &Operations) {
        for need in writes(operations) {
            let action = self.action(need, None);
            let why = match need {
                Need::Restore => RESTORE.to_owned(),
                _ => "`--write-probe KEY` tries it on an object that you name, and puts back what it finds".to_owned(),
            };
            self.told(doing(need), action, Verdict::NotChecked, Some(why));
        }
    }

    /// Writes a small object to the report location, if `wanted`.
    async fn report(&mut self, plan: &Plan, store: &Arc<dyn Store>, wanted: bool) {
        let Some(place) = &plan.report.place else { return };
        let what = format!("write the report: {}/{}", place.bucket, place.prefix);
        let action = Need::Write.action(self.language, false);
        if !wanted {
            let why = "`--report-probe` writes a small object there, which stays".to_owned();
            return self.told(what, action, Verdict::NotChecked, Some(why));
        }
        if let Err((verdict, why)) = self.unless_over() {
            return self.told(what, action, verdict, Some(why));
        }
        match try_place(&**store, place).await {
            Ok(key) => {
                let why = format!("wrote {}/{key}, which stays: a plan needs no right to delete", place.bucket);
                self.told(what, action, Verdict::Allowed, Some(why));
            }
            Err(PublishError::Store { fault, .. }) => {
                let (verdict, why) = self.judged(&fault, false);
                self.told(what, action, verdict, Some(why));
            }
            Err(error) => self.told(what, action, Verdict::Failed, Some(error.to_string())),
        }
    }
}

const RESTORE: &str = "it cannot be tried: a restore is billed";

/// Returns the permissions that the writes of the operations need, without duplicates.
fn writes(operations: &Operations) -> Vec<Need> {
    let mut needs = Vec::new();
    for operation in operations.iter() {
        needs.extend_from_slice(match operation {
            // An empty tag set is deleted, not written.
            Operation::PutTagging(tags) if tags.is_empty() => &[Need::DeleteTags],
            Operation::PutTagging(_) | Operation::AddTagging(_) => &[Need::PutTags],
            Operation::DeleteTagging(None) => &[Need::DeleteTags],
            Operation::DeleteTagging(Some(_)) => &[Need::PutTags, Need::DeleteTags],
            Operation::PutAcl(_) => &[Need::PutAcl],
            Operation::Restore(_) => &[Need::Restore],
        });
    }
    let each = [Need::PutTags, Need::DeleteTags, Need::PutAcl, Need::Restore];
    each.into_iter().filter(|need| needs.contains(need)).collect()
}

/// Returns the first read request that the plan, or the check of its server, sends for an object. `None` if the plan
/// only writes.
fn first_read(plan: &Plan) -> Option<Call> {
    let reads = plan.operations().reads().into_iter().map(|step| step.call).next();
    reads.or_else(|| {
        let checked = plan.needs_server_check();
        let of = |operation: &Operation| operation.aspect().read().filter(|_| checked);
        let restores = plan.operations.iter().any(|operation| operation.aspect() == Aspect::Restoration);
        plan.operations.iter().find_map(of).or_else(|| restores.then_some(Call::Head))
    })
}

/// Returns the fault if it says that the object is missing; `None` otherwise.
async fn missing(reader: &Worker, object: &ObjectId, call: &Call) -> Option<Box<Fault>> {
    match reader.ask(object, call.clone()).await {
        // A HEAD response has no body with an error code, so its status decides.
        Err(Unanswered::Fault(fault))
            if fault.status == Some(404) && (*call == Call::Head || fault.code.starts_with("NoSuch")) =>
        {
            Some(fault)
        }
        _ => None,
    }
}

/// Describes a permission as a verb phrase.
fn doing(need: Need) -> &'static str {
    match need {
        Need::List => "list",
        Need::Read => "read class and restoration",
        Need::Write => "write",
        Need::GetTags => "read the tags",
        Need::PutTags => "write tags",
        Need::DeleteTags => "delete tags",
        Need::GetAcl => "read the ACL",
        Need::PutAcl => "write the ACL",
        Need::Restore => "restore objects",
    }
}

/// Converts a failed server check to a verdict and its explanation.
fn distrusted(refusal: &ServerRefusal) -> Unlearned {
    let way = "`skip_server_check = true` in [store] turns the check off";
    match refusal.kind {
        RefusalKind::Denied(_) => (Verdict::Denied, format!("{refusal}; {way}")),
        RefusalKind::Unseen => (Verdict::Failed, format!("{refusal}; {way}")),
        RefusalKind::Silent => (Verdict::Failed, refusal.to_string()),
        _ => (Verdict::Refused, refusal.to_string()),
    }
}
