//! Write probes that leave an object unchanged: read what it has, write that back, and read it again.

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};

use super::{PermissionChecker, PermissionProblem, PermissionVerdict, ProbeWriter, write_permissions};
use crate::engine::Worker;
use crate::operation::{AspectRules, ObjectAspect, OperationSet};

impl PermissionChecker<'_> {
    /// Tries the writes of the operations on this object.
    pub(super) async fn probe_writes(&mut self, writer: &ProbeWriter, operations: &OperationSet, object: &ObjectId) {
        let needs = write_permissions(operations);
        let reads: Vec<RequestKind> = operations.read_steps().iter().map(|step| step.call.kind()).collect();
        for aspect in operations.aspects() {
            let needs: Vec<_> =
                needs.iter().copied().filter(|need| ObjectAspect::of_kind(*need) == Some(aspect)).collect();
            match aspect.rules().probe_read() {
                Ok(read) => {
                    let plan_reads = reads.contains(&read.kind());
                    self.probe_aspect(writer, aspect.rules(), (&read, plan_reads), &needs, object).await;
                }
                Err(why) => {
                    for need in needs {
                        let action = self.required_action(need, Some(object));
                        let why = Some(why.to_owned());
                        self.report_finding(need.purpose(), action, PermissionVerdict::NotChecked, why);
                    }
                }
            }
        }
    }

    /// Writes back what one aspect of the object has, with each of the requests in `needs`. `plan_reads` is whether the
    /// plan itself sends the read.
    async fn probe_aspect(
        &mut self,
        writer: &ProbeWriter,
        rules: &dyn AspectRules,
        (read, plan_reads): (&ObjectRequest, bool),
        needs: &[RequestKind],
        object: &ObjectId,
    ) {
        let (before, had) = match self.read_value(&writer.worker, rules, read, object).await {
            Ok(value) => value,
            Err(why) => return self.report_unreadable_value(needs, read.kind(), plan_reads, object, why),
        };
        let mut wrote = false;
        for need in needs.iter().copied() {
            let what = format!("{} of {object}", need.purpose());
            let action = self.required_action(need, Some(object));
            match rules.write_back(need, &before) {
                Ok(call) => {
                    let answer = self.send(writer.reset_trust(), object, call).await;
                    wrote |= self.report_result(what, action, answer).is_some();
                }
                Err(why) => self.report_finding(what, action, PermissionVerdict::NotChecked, Some(why.to_owned())),
            }
        }
        if wrote {
            let after = self.read_value(&writer.worker, rules, read, object).await;
            self.report_comparison(read.kind(), object, after.map(|(after, _)| after == before), &had);
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
        let found = self.send(worker, object, read.clone()).await?;
        let described = rules.describe_response(&found).ok_or_else(unexpected_response)?;
        Ok((found, described))
    }

    /// Reports the probes that could not be tried because the current value could not be read. A denied read is not
    /// reported as a missing permission if the plan itself does not need it.
    fn report_unreadable_value(
        &mut self,
        needs: &[RequestKind],
        read: RequestKind,
        plan_reads: bool,
        object: &ObjectId,
        (verdict, why): PermissionProblem,
    ) {
        let needless = !plan_reads && verdict == PermissionVerdict::Denied;
        let (verdict, why) = if needless {
            (PermissionVerdict::NotChecked, format!("denied; only the probe needs it, not the plan: {why}"))
        } else {
            (verdict, why)
        };
        let action = self.required_action(read, Some(object));
        self.report_finding(format!("{} of {object}", read.purpose()), action, verdict, Some(why));
        for need in needs.iter().copied() {
            let action = self.required_action(need, Some(object));
            let why = "its current value could not be read, so it could not be written back".to_owned();
            self.report_finding(
                format!("{} of {object}", need.purpose()),
                action,
                PermissionVerdict::NotChecked,
                Some(why),
            );
        }
    }

    /// Reports whether the object is unchanged. If it may have changed, reports what it had before.
    fn report_comparison(
        &mut self,
        need: RequestKind,
        object: &ObjectId,
        same: Result<bool, PermissionProblem>,
        had: &str,
    ) {
        let what = format!("{} of {object} again", need.purpose());
        let action = self.required_action(need, Some(object));
        let (verdict, why) = match same {
            Ok(true) => (PermissionVerdict::Allowed, Some("unchanged".to_owned())),
            Ok(false) => {
                let why = "changed: another process changed it meanwhile, or the store did not keep it";
                (PermissionVerdict::Failed, Some(format!("{why}; previous value: {had}")))
            }
            Err((verdict, why)) => (verdict, Some(format!("{why}; previous value: {had}"))),
        };
        self.report_finding(what, action, verdict, why);
    }
}

fn unexpected_response() -> PermissionProblem {
    (PermissionVerdict::Failed, "the store sent an unexpected response".to_owned())
}
