//! Checks whether the credentials may do what a plan needs, by sending requests. Nothing is changed unless the caller
//! asks for a write probe.
//!
//! The check reads the manifest up to its first existing object, and from that object what the operations read. Write
//! access cannot be tested without writing. It is tested only if the write leaves the object unchanged
//! (`probe_writes`), or if the caller accepts what it leaves behind.

use std::sync::Arc;

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::error::{is_about_signature, names_another_location};
use batchplan_store::object::{BucketName, ObjectId};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{ReadOnlyStore, Store};
use tokio_util::sync::CancellationToken;

use crate::engine::{
    JobQuota, ReadCheckOutcome, ServerCheck, ServerCheckFailure, ServerCheckFailureKind, SingleRequestError, Throttle,
    Worker,
};
use crate::manifest::{FileLocation, Manifest, ManifestError, ManifestSource};
use crate::operation::{AspectRules, ObjectAspect, Operation, OperationSet};
use crate::plan::Plan;
use crate::plan::policy::works_on_versions;
use crate::provider::{PolicyLanguage, ProviderRules};
use crate::report::{ReportPublishError, check_report_location};
use crate::thousands::counted;

/// The writes that the caller allows in order to check write access.
#[derive(Clone, Debug, Default)]
pub struct WriteProbes {
    /// Write this object's tags and ACL back unchanged, as far as the plan writes them.
    pub write: Option<ObjectId>,
    /// Write a small object to the report location. The object stays there.
    pub report: bool,
}

/// The result of checking one thing that the plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionFinding {
    /// What was checked, as a verb phrase such as `read the tags of bucket/key`.
    pub description: String,
    /// The action that a policy must allow for it, in the provider's language; `None` for local files.
    pub action: Option<&'static str>,
    /// Whether it is allowed.
    pub verdict: PermissionVerdict,
    /// The explanation, such as the server's error.
    pub explanation: Option<String>,
}

/// The outcome of checking one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionVerdict {
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

impl PermissionVerdict {
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
enum CheckStopReason {
    /// Any further request would be rejected as well.
    Credentials,
    /// The store does not respond.
    Unreachable,
    /// The server does not do what it is asked.
    Untrusted,
}

/// The number of manifest objects to try until one exists.
const MAX_OBJECTS_TRIED: usize = 10;

const NO_OBJECT_TO_CHECK_WITH: &str = "there is no object to check with";

/// Checks a plan against its store, and reports each finding as it arrives. Returns the bucket of the first object, if
/// there is one.
///
/// Without probes, no request changes anything.
pub async fn check(
    plan: &Plan,
    store: &Arc<dyn Store>,
    probes: &WriteProbes,
    on_finding: &mut dyn FnMut(&PermissionFinding),
) -> Option<BucketName> {
    let reading: Arc<dyn Store> = Arc::new(ReadOnlyStore::new(Arc::clone(store)));
    let (operations, language) = (plan.operations(), ProviderRules::of(plan.store.provider).policy_language);
    let uses_versions = works_on_versions(plan);
    let mut checker = PermissionChecker {
        language,
        uses_versions,
        stop_reason: None,
        no_object_reason: NO_OBJECT_TO_CHECK_WITH,
        on_finding,
    };
    let first = checker.check_manifest(&plan.manifest, &reading).await;
    let reader = new_worker(plan, Arc::clone(&reading));
    let first = match first {
        Some(first) => checker.find_existing_object(&reader, plan, &reading, first).await,
        None => None,
    };
    checker.check_operation_reads(&reader, &operations, first.as_ref()).await;
    checker.check_server(&reader, plan, first.as_ref()).await;
    checker.check_unread_aspects(&reader, plan, first.as_ref()).await;
    match &probes.write {
        Some(object) => checker.probe_writes(&ProbeWriter::new(plan, store), &operations, object).await,
        None => checker.report_untried_writes(&operations),
    }
    checker.check_report_location(plan, store, probes.report).await;
    first.map(|object| object.bucket)
}

/// Returns a worker that sends requests as a job's worker does, one at a time.
fn new_worker(plan: &Plan, store: Arc<dyn Store>) -> Worker {
    let throttle = Throttle::new(JobQuota::new(1, plan.limits.requests_per_second));
    Worker::new(store, plan.operations(), throttle, RetryPolicy::default(), CancellationToken::new())
}

/// Sends write probes. If the plan needs a server check, each write is checked like a job's first write.
struct ProbeWriter {
    worker: Worker,
    check: Option<Arc<ServerCheck>>,
}

impl ProbeWriter {
    fn new(plan: &Plan, store: &Arc<dyn Store>) -> Self {
        let worker = new_worker(plan, Arc::clone(store));
        if !plan.needs_server_check() {
            return Self { worker, check: None };
        }
        let check = Arc::new(ServerCheck::default());
        Self { worker: worker.with_server_check(Arc::clone(&check)), check: Some(check) }
    }

    /// Discards what earlier writes proved about the server, so that the next write is checked like a first one.
    fn reset_trust(&self) {
        if let Some(check) = &self.check {
            check.reset();
        }
    }
}

struct PermissionChecker<'a> {
    language: PolicyLanguage,
    uses_versions: bool,
    stop_reason: Option<CheckStopReason>,
    /// Why there is no object to check with, if there is none.
    no_object_reason: &'static str,
    on_finding: &'a mut dyn FnMut(&PermissionFinding),
}

/// Why a request was rejected or not sent: the verdict and its explanation.
type PermissionProblem = (PermissionVerdict, String);

impl PermissionChecker<'_> {
    fn report_finding(
        &mut self,
        description: impl Into<String>,
        action: impl Into<Option<&'static str>>,
        verdict: PermissionVerdict,
        explanation: Option<String>,
    ) {
        (self.on_finding)(&PermissionFinding {
            description: description.into(),
            action: action.into(),
            verdict,
            explanation,
        });
    }

    fn required_action(&self, kind: RequestKind, object: Option<&ObjectId>) -> &'static str {
        let has_version = object.map_or(self.uses_versions, |object| object.version.is_some());
        self.language.action_for(kind, has_version)
    }

    fn report_result<T>(
        &mut self,
        what: String,
        action: &'static str,
        result: Result<T, PermissionProblem>,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.report_finding(what, action, PermissionVerdict::Allowed, None);
                Some(value)
            }
            Err((verdict, why)) => {
                self.report_finding(what, action, verdict, Some(why));
                None
            }
        }
    }

    /// Sends a request, unless an earlier failure already decides its result.
    async fn send(
        &mut self,
        worker: &Worker,
        object: &ObjectId,
        request: ObjectRequest,
    ) -> Result<ResponseData, PermissionProblem> {
        self.ensure_not_stopped()?;
        let is_read = !request.is_write();
        match worker.send_single(object, request).await {
            Ok(reply) => Ok(reply.data),
            Err(SingleRequestError::Fault(fault)) => Err(self.record_fault(&fault, is_read)),
            Err(SingleRequestError::ServerUntrusted(failure)) => {
                self.stop_reason = Some(CheckStopReason::Untrusted);
                let (verdict, why) = classify_untrusted_server(&failure);
                let ServerCheckFailureKind::Denied(read) = &failure.kind else { return Err((verdict, why)) };
                let kind = read.kind();
                let what = format!("{} of {object}", kind.purpose());
                self.report_finding(what, self.required_action(kind, Some(object)), verdict, Some(why));
                Err((PermissionVerdict::NotChecked, "the server check before this write failed".to_owned()))
            }
            Err(SingleRequestError::Stopped) => {
                Err((PermissionVerdict::NotChecked, "the check was interrupted".to_owned()))
            }
        }
    }

    fn ensure_not_stopped(&self) -> Result<(), PermissionProblem> {
        let why = match self.stop_reason {
            None => return Ok(()),
            Some(CheckStopReason::Credentials) => "the server does not accept the credentials",
            Some(CheckStopReason::Unreachable) => "cannot reach the store",
            Some(CheckStopReason::Untrusted) => "this server failed an earlier check",
        };
        Err((PermissionVerdict::NotChecked, why.to_owned()))
    }

    /// Returns what a failed request says about permissions. Sets `stop_reason` if further requests would fail as well.
    /// `is_read` is true if the request was to read an object.
    fn record_fault(&mut self, fault: &StoreError, is_read: bool) -> PermissionProblem {
        match (fault.class, fault.status) {
            (FaultClass::Credentials, Some(_)) => {
                self.stop_reason = Some(CheckStopReason::Credentials);
                let what = if is_about_signature(&fault.code) { "signature" } else { "credentials" };
                (PermissionVerdict::Refused, format!("the server rejected the {what}: {fault}"))
            }
            // No permission changes that.
            _ if names_another_location(fault) => (PermissionVerdict::Failed, fault.to_string()),
            (_, None) => {
                self.stop_reason = Some(CheckStopReason::Unreachable);
                (PermissionVerdict::Failed, fault.to_string())
            }
            (_, Some(403)) if is_read && self.language == PolicyLanguage::Iam => {
                let other_cause = "S3 also returns this for a missing object if you may not list the bucket";
                (PermissionVerdict::Denied, format!("{fault} ({other_cause})"))
            }
            (_, Some(403)) => (PermissionVerdict::Denied, fault.to_string()),
            _ if fault.code == "AccessControlListNotSupported" => {
                let reason = "no permission changes that: the bucket has ACLs disabled by BucketOwnerEnforced";
                (PermissionVerdict::Refused, format!("{fault} ({reason})"))
            }
            _ if is_refused_for_all_objects(fault) => (PermissionVerdict::Refused, fault.to_string()),
            _ => (PermissionVerdict::Failed, fault.to_string()),
        }
    }

    /// Reads the manifest up to its first object.
    async fn check_manifest(&mut self, manifest: &Manifest, store: &Arc<dyn Store>) -> Option<ObjectId> {
        let what = format!("read the manifest: {}", manifest.source.name());
        let action = match &manifest.source {
            ManifestSource::Prefix { .. } => Some(self.required_action(RequestKind::List, None)),
            ManifestSource::Csv { location: FileLocation::Local(_), .. }
            | ManifestSource::Report { location: FileLocation::Local(_), .. }
            | ManifestSource::Retry { .. }
            | ManifestSource::Succeeded { .. }
            | ManifestSource::Undo(_) => None,
            ManifestSource::Csv { .. } | ManifestSource::Report { .. } | ManifestSource::Inventory { .. } => {
                Some(self.language.action_for(RequestKind::GetObject, false))
            }
        };
        let peeked = match manifest.peek(store, 1, &CancellationToken::new()).await {
            Ok(peeked) => peeked,
            Err(error) => {
                self.no_object_reason = "the manifest could not be read";
                let (action, (verdict, why)) = self.manifest_problem(action, &error);
                self.report_finding(what, action, verdict, Some(why));
                return None;
            }
        };
        let first = peeked.objects.into_iter().next();
        let why = match (&first, peeked.complete) {
            (Some(first), _) => format!("first object: {first}"),
            (None, true) if peeked.rows_read == 0 => "it has no rows".to_owned(),
            (None, true) => format!("the filter matches none of its {}", counted(peeked.rows_read, "row")),
            (None, false) => format!("the filter matches none of its first {} rows", peeked.rows_read),
        };
        self.report_finding(what, action, PermissionVerdict::Allowed, Some(why));
        first
    }

    /// Returns the first manifest object that exists. Existence is checked only if the plan would notice a missing
    /// object.
    async fn find_existing_object(
        &mut self,
        reader: &Worker,
        plan: &Plan,
        store: &Arc<dyn Store>,
        first: ObjectId,
    ) -> Option<ObjectId> {
        let Some(request) = first_read(plan) else { return Some(first) };
        let Some(fault) = missing_object_fault(reader, &first, &request).await else { return Some(first) };
        let peeked = plan.manifest.peek(store, MAX_OBJECTS_TRIED, &CancellationToken::new()).await;
        let objects = peeked.map(|peeked| peeked.objects).unwrap_or_default();
        let tried = objects.len().max(1);
        for (missing, object) in objects.into_iter().enumerate().skip(1) {
            if missing_object_fault(reader, &object, &request).await.is_none() {
                let why = format!("{} missing ({first}: {fault}); using {object} instead", first_objects_are(missing));
                self.report_finding("find an object of the manifest", None, PermissionVerdict::Allowed, Some(why));
                return Some(object);
            }
        }
        let why = format!("{} missing ({first}: {fault})", first_objects_are(tried));
        self.report_finding("find an object of the manifest", None, PermissionVerdict::Failed, Some(why));
        None
    }

    /// Returns the action that the request which failed needs, and what its failure says about permissions.
    /// `expected_action` is returned if no request was refused.
    fn manifest_problem(
        &mut self,
        expected_action: Option<&'static str>,
        error: &ManifestError,
    ) -> (Option<&'static str>, PermissionProblem) {
        let Some((fault, is_listing)) = error.refused_request() else {
            return (expected_action, (PermissionVerdict::Failed, error.to_string()));
        };
        let action = if is_listing {
            self.required_action(RequestKind::List, None)
        } else {
            self.language.action_for(RequestKind::GetObject, false)
        };
        let (verdict, why) = self.record_fault(fault, !is_listing);
        // The error names the location that was not found; the fault does not.
        let why = if verdict == PermissionVerdict::Failed { error.to_string() } else { why };
        (Some(action), (verdict, why))
    }

    /// Reads from the first object what the operations read.
    async fn check_operation_reads(&mut self, reader: &Worker, operations: &OperationSet, first: Option<&ObjectId>) {
        let mut requests: Vec<ObjectRequest> = operations.read_steps().into_iter().map(|step| step.call).collect();
        requests.extend(operations.reads_after_ambiguous_write());
        for request in requests {
            let kind = request.kind();
            let action = self.required_action(kind, first);
            let Some(object) = first else {
                let why = Some(self.no_object_reason.to_owned());
                self.report_finding(kind.purpose(), action, PermissionVerdict::NotChecked, why);
                continue;
            };
            let what = format!("{} of {object}", kind.purpose());
            let result = self.send(reader, object, request).await;
            self.report_result(what, action, result);
        }
    }

    /// Checks with the first object whether the server supports tags and ACLs, as far as reads can show.
    async fn check_server(&mut self, reader: &Worker, plan: &Plan, first: Option<&ObjectId>) {
        if plan.store.is_first_party() {
            return;
        }
        let is_used = |aspect: &ObjectAspect| plan.operations.iter().any(|operation| operation.aspect() == *aspect);
        for aspect in ObjectAspect::ALL.into_iter().filter(is_used) {
            let Some(read) = aspect.read_request() else { continue };
            let what = format!("server support for {}", aspect.sub_resource());
            if plan.skip_server_check {
                let why = Some("turned off by `skip_server_check`".to_owned());
                self.report_finding(what, None, PermissionVerdict::NotChecked, why);
            } else if let Some(object) = first {
                self.check_server_support(reader, format!("{what}: {object}"), aspect, read.kind(), object).await;
            } else {
                let why = Some(self.no_object_reason.to_owned());
                self.report_finding(what, None, PermissionVerdict::NotChecked, why);
            }
        }
    }

    /// Reads from the first object what the plan only writes, unless the check of the server has read it. The plan needs
    /// no permission for that, so an answer matters only if it shows that the writes would fail for every object.
    async fn check_unread_aspects(&mut self, reader: &Worker, plan: &Plan, first: Option<&ObjectId>) {
        let Some(object) = first.filter(|_| !plan.needs_server_check()) else { return };
        let operations = plan.operations();
        let reads: Vec<_> = operations.read_steps().into_iter().map(|step| step.call).collect();
        let unread = operations.aspects().filter_map(ObjectAspect::read_request).filter(|call| !reads.contains(call));
        for call in unread {
            if self.ensure_not_stopped().is_err() {
                return;
            }
            let what = format!("{} of {object}", call.kind().purpose());
            if let Err(SingleRequestError::Fault(fault)) = reader.send_single(object, call).await
                && is_refused_for_all_objects(&fault)
            {
                self.report_finding(what, None, PermissionVerdict::Refused, Some(fault.to_string()));
            }
        }
    }

    /// Checks with one object whether the server supports an aspect, whose value is read with requests of this kind.
    async fn check_server_support(
        &mut self,
        reader: &Worker,
        what: String,
        aspect: ObjectAspect,
        kind: RequestKind,
        object: &ObjectId,
    ) {
        if let Err((verdict, why)) = self.ensure_not_stopped() {
            return self.report_finding(what, None, verdict, Some(why));
        }
        let outcome = reader.check_reads(object, aspect).await;
        // The check also sends other requests than the one that reads the value.
        let denied_kind = match &outcome {
            ReadCheckOutcome::ServerFailed(failure) => match &failure.kind {
                ServerCheckFailureKind::Denied(request) => request.kind(),
                _ => kind,
            },
            _ => kind,
        };
        let (verdict, why) = self.classify_read_check(outcome);
        let action = (verdict == PermissionVerdict::Denied).then(|| self.required_action(denied_kind, Some(object)));
        self.report_finding(what, action, verdict, why);
    }

    /// Converts the outcome of a read check to a verdict and its explanation. Sets `stop_reason` like
    /// [`record_fault`](Self::record_fault).
    fn classify_read_check(&mut self, outcome: ReadCheckOutcome) -> (PermissionVerdict, Option<String>) {
        match outcome {
            ReadCheckOutcome::Proven => (PermissionVerdict::Allowed, None),
            ReadCheckOutcome::ObjectMissing(fault) => {
                (PermissionVerdict::NotChecked, Some(format!("the object does not exist: {fault}")))
            }
            ReadCheckOutcome::ServerFailed(failure) => {
                let (verdict, why) = classify_untrusted_server(&failure);
                (verdict, Some(why))
            }
            ReadCheckOutcome::RequestFailed(fault) | ReadCheckOutcome::CredentialsRejected(fault) => {
                let (verdict, why) = self.record_fault(&fault, true);
                (verdict, Some(why))
            }
            ReadCheckOutcome::Stopped => (PermissionVerdict::NotChecked, Some("the check was interrupted".to_owned())),
        }
    }

    /// Reports the writes that were not tried.
    fn report_untried_writes(&mut self, operations: &OperationSet) {
        for kind in write_kinds(operations) {
            let action = self.required_action(kind, None);
            let probe = "use `--write-probe KEY` to try it on an object without changing it";
            let aspect = ObjectAspect::of_kind(kind);
            let why = aspect.and_then(|aspect| aspect.rules().probe_read().err()).unwrap_or(probe).to_owned();
            self.report_finding(kind.purpose(), action, PermissionVerdict::NotChecked, Some(why));
        }
    }

    /// Writes a small object to the report location, if `probe` allows it.
    async fn check_report_location(&mut self, plan: &Plan, store: &Arc<dyn Store>, probe: bool) {
        let Some(location) = &plan.report.location else { return };
        let what = format!("write the report: {}/{}", location.bucket, location.prefix);
        let action = self.language.action_for(RequestKind::PutObject, false);
        if !probe {
            let why = "use `--report-probe` to write a small object there; it is not deleted".to_owned();
            return self.report_finding(what, action, PermissionVerdict::NotChecked, Some(why));
        }
        if let Err((verdict, why)) = self.ensure_not_stopped() {
            return self.report_finding(what, action, verdict, Some(why));
        }
        match check_report_location(&**store, location).await {
            Ok(key) => {
                let why = format!(
                    "wrote {}/{key}; it is not deleted, as a plan needs no permission to delete",
                    location.bucket
                );
                self.report_finding(what, action, PermissionVerdict::Allowed, Some(why));
            }
            Err(ReportPublishError::Store { fault, .. }) => {
                let (verdict, why) = self.record_fault(&fault, false);
                self.report_finding(what, action, verdict, Some(why));
            }
            Err(error) => self.report_finding(what, action, PermissionVerdict::Failed, Some(error.to_string())),
        }
    }
}

/// Write probes that leave an object unchanged: read what it has, write that back, and read it again.
impl PermissionChecker<'_> {
    /// Tries the writes of the operations on this object.
    async fn probe_writes(&mut self, writer: &ProbeWriter, operations: &OperationSet, object: &ObjectId) {
        let all_kinds = write_kinds(operations);
        let plan_reads: Vec<RequestKind> = operations.read_steps().iter().map(|step| step.call.kind()).collect();
        for aspect in operations.aspects() {
            let kinds: Vec<_> =
                all_kinds.iter().copied().filter(|kind| ObjectAspect::of_kind(*kind) == Some(aspect)).collect();
            match aspect.rules().probe_read() {
                Ok(read) => {
                    let is_plan_read = plan_reads.contains(&read.kind());
                    self.probe_aspect(writer, aspect.rules(), (&read, is_plan_read), &kinds, object).await;
                }
                Err(why) => {
                    for kind in kinds {
                        let action = self.required_action(kind, Some(object));
                        let why = Some(why.to_owned());
                        self.report_finding(kind.purpose(), action, PermissionVerdict::NotChecked, why);
                    }
                }
            }
        }
    }

    /// Writes back what one aspect of the object has, with a write of each of these kinds. `is_plan_read` is whether
    /// the plan itself sends the read.
    async fn probe_aspect(
        &mut self,
        writer: &ProbeWriter,
        rules: &dyn AspectRules,
        (read, is_plan_read): (&ObjectRequest, bool),
        kinds: &[RequestKind],
        object: &ObjectId,
    ) {
        let (before, previous) = match self.read_value(&writer.worker, rules, read, object).await {
            Ok(value) => value,
            Err(why) => return self.report_unreadable_value(kinds, read.kind(), is_plan_read, object, why),
        };
        let mut wrote = false;
        for kind in kinds.iter().copied() {
            let what = format!("{} of {object}", kind.purpose());
            let action = self.required_action(kind, Some(object));
            match rules.write_back(kind, &before) {
                Ok(request) => {
                    writer.reset_trust();
                    let result = self.send(&writer.worker, object, request).await;
                    wrote |= self.report_result(what, action, result).is_some();
                }
                Err(why) => self.report_finding(what, action, PermissionVerdict::NotChecked, Some(why.to_owned())),
            }
        }
        if wrote {
            let after = self.read_value(&writer.worker, rules, read, object).await;
            self.report_comparison(read.kind(), object, after.map(|(after, _)| after == before), &previous);
        }
    }

    /// Reads one aspect of the object, and describes it.
    async fn read_value(
        &mut self,
        worker: &Worker,
        rules: &dyn AspectRules,
        read: &ObjectRequest,
        object: &ObjectId,
    ) -> Result<(ResponseData, String), PermissionProblem> {
        let data = self.send(worker, object, read.clone()).await?;
        let description = rules.describe_response(&data).ok_or_else(unexpected_response)?;
        Ok((data, description))
    }

    /// Reports the probes that could not be tried because the current value could not be read. A denied read is not
    /// reported as a missing permission if the plan itself does not need it.
    fn report_unreadable_value(
        &mut self,
        kinds: &[RequestKind],
        read: RequestKind,
        is_plan_read: bool,
        object: &ObjectId,
        (verdict, why): PermissionProblem,
    ) {
        let is_only_for_probe = !is_plan_read && verdict == PermissionVerdict::Denied;
        let (verdict, why) = if is_only_for_probe {
            (PermissionVerdict::NotChecked, format!("denied; only the probe needs it, not the plan: {why}"))
        } else {
            (verdict, why)
        };
        let action = self.required_action(read, Some(object));
        self.report_finding(format!("{} of {object}", read.purpose()), action, verdict, Some(why));
        for kind in kinds.iter().copied() {
            let action = self.required_action(kind, Some(object));
            let why = "its current value could not be read, so it could not be written back".to_owned();
            self.report_finding(
                format!("{} of {object}", kind.purpose()),
                action,
                PermissionVerdict::NotChecked,
                Some(why),
            );
        }
    }

    /// Reports whether the object is unchanged. If it may have changed, reports what it had before.
    fn report_comparison(
        &mut self,
        kind: RequestKind,
        object: &ObjectId,
        is_unchanged: Result<bool, PermissionProblem>,
        previous: &str,
    ) {
        let what = format!("{} of {object} again", kind.purpose());
        let action = self.required_action(kind, Some(object));
        let (verdict, why) = match is_unchanged {
            Ok(true) => (PermissionVerdict::Allowed, Some("unchanged".to_owned())),
            Ok(false) => {
                let why = "changed: another process changed it meanwhile, or the store did not keep it";
                (PermissionVerdict::Failed, Some(format!("{why}; previous value: {previous}")))
            }
            Err((verdict, why)) => (verdict, Some(format!("{why}; previous value: {previous}"))),
        };
        self.report_finding(what, action, verdict, why);
    }
}

/// Returns the kinds of writes that the operations send, without duplicates.
fn write_kinds(operations: &OperationSet) -> Vec<RequestKind> {
    let writes: Vec<_> = operations.iter().flat_map(|operation| operation.details().writes).collect();
    RequestKind::ALL.into_iter().filter(|kind| writes.contains(&kind)).collect()
}

/// Returns the first read request that the plan, or the check of its server, sends for an object. `None` if the plan
/// only writes.
fn first_read(plan: &Plan) -> Option<ObjectRequest> {
    let operations = plan.operations();
    let reads = operations.read_steps().into_iter().map(|step| step.call).next();
    reads.or_else(|| {
        let is_checked = plan.needs_server_check();
        let server_check_read = |operation: &Operation| operation.aspect().read_request().filter(|_| is_checked);
        operations
            .iter()
            .find_map(server_check_read)
            .or_else(|| operations.reads_after_ambiguous_write().into_iter().next())
    })
}

/// Returns whether the same request would be refused for any object of the bucket.
fn is_refused_for_all_objects(fault: &StoreError) -> bool {
    fault.is_unsupported() || fault.is_redirect()
}

/// Returns the fault if it says that the object is missing; `None` otherwise.
async fn missing_object_fault(reader: &Worker, object: &ObjectId, request: &ObjectRequest) -> Option<Box<StoreError>> {
    match reader.send_single(object, request.clone()).await {
        // A HEAD response has no body with an error code, so its status decides. `NoSuchBucket` counts as well as
        // `NoSuchKey` and `NoSuchVersion`: the next row of a manifest may be in another bucket.
        Err(SingleRequestError::Fault(fault))
            if fault.status == Some(404) && (*request == ObjectRequest::Head || fault.code.starts_with("NoSuch")) =>
        {
            Some(fault)
        }
        _ => None,
    }
}

/// Converts a failed server check to a verdict and its explanation.
fn classify_untrusted_server(failure: &ServerCheckFailure) -> PermissionProblem {
    let remedy = "to turn the check off, set `skip_server_check = true` in [store]";
    match failure.kind {
        ServerCheckFailureKind::Denied(_) => (PermissionVerdict::Denied, format!("{failure}; {remedy}")),
        ServerCheckFailureKind::NotVerifiable => (PermissionVerdict::Failed, format!("{failure}; {remedy}")),
        ServerCheckFailureKind::NoUsableAnswer => (PermissionVerdict::Failed, failure.to_string()),
        _ => (PermissionVerdict::Refused, failure.to_string()),
    }
}

fn unexpected_response() -> PermissionProblem {
    (PermissionVerdict::Failed, "the store sent an unexpected response".to_owned())
}

/// Returns the beginning of a sentence about the first `count` objects of the manifest.
fn first_objects_are(count: usize) -> String {
    if count == 1 { "the first object is".to_owned() } else { format!("the first {count} objects are") }
}
