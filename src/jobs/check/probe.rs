//! Write probes that leave an object unchanged: read what it has, write that back, and read it again.

use batchplan_store::object::{ObjectAcl, ObjectId, TagSet};
use batchplan_store::object_request::{ObjectRequest, ResponseData};

use super::{
    PermissionChecker, PermissionProblem, PermissionVerdict, ProbeWriter, RESTORE_NOT_TRIED, describe_permission,
    write_permissions,
};
use crate::engine::Worker;
use crate::operation::OperationSet;
use crate::plan::policy::RequestPermission;

impl PermissionChecker<'_> {
    /// Tries the writes of the operations on this object.
    pub(super) async fn probe_writes(&mut self, writer: &ProbeWriter, operations: &OperationSet, object: &ObjectId) {
        let needs = write_permissions(operations);
        let tags: Vec<RequestPermission> = needs
            .iter()
            .copied()
            .filter(|need| matches!(need, RequestPermission::PutTags | RequestPermission::DeleteTags))
            .collect();
        let reads: Vec<RequestPermission> =
            operations.read_steps().iter().map(|step| RequestPermission::of(&step.call)).collect();
        if !tags.is_empty() {
            self.probe_tags(writer, &tags, reads.contains(&RequestPermission::GetTags), object).await;
        }
        if needs.contains(&RequestPermission::PutAcl) {
            self.probe_acl(writer, reads.contains(&RequestPermission::GetAcl), object).await;
        }
        if needs.contains(&RequestPermission::Restore) {
            let action = self.required_action(RequestPermission::Restore, Some(object));
            self.report_finding(
                describe_permission(RequestPermission::Restore),
                action,
                PermissionVerdict::NotChecked,
                Some(RESTORE_NOT_TRIED.to_owned()),
            );
        }
    }

    async fn probe_tags(
        &mut self,
        writer: &ProbeWriter,
        needs: &[RequestPermission],
        plan_reads: bool,
        object: &ObjectId,
    ) {
        let before = match self.read_tags(&writer.worker, object).await {
            Ok(tags) => tags,
            Err(why) => {
                return self.report_unreadable_value(needs, RequestPermission::GetTags, plan_reads, object, why);
            }
        };
        let mut wrote = false;
        for need in needs.iter().copied() {
            let what = format!("{} of {object}", describe_permission(need));
            let action = self.required_action(need, Some(object));
            let call = match need {
                // Deleting the tags of an object without tags changes nothing.
                RequestPermission::DeleteTags if before.is_empty() => ObjectRequest::DeleteTags,
                RequestPermission::DeleteTags => {
                    let why = "the object has tags, which would be deleted: name an object without tags".to_owned();
                    self.report_finding(what, action, PermissionVerdict::NotChecked, Some(why));
                    continue;
                }
                _ => ObjectRequest::PutTags(before.clone()),
            };
            let answer = self.send(writer.reset_trust(), object, call).await;
            wrote |= self.report_result(what, action, answer).is_some();
        }
        if wrote {
            let after = self.read_tags(&writer.worker, object).await;
            let had = before.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
            let had = if had.is_empty() { "no tags".to_owned() } else { had };
            self.report_comparison(RequestPermission::GetTags, object, after.map(|after| after == before), &had);
        }
    }

    async fn probe_acl(&mut self, writer: &ProbeWriter, plan_reads: bool, object: &ObjectId) {
        let before = match self.read_acl(&writer.worker, object).await {
            Ok(acl) => acl,
            Err(why) => {
                return self.report_unreadable_value(
                    &[RequestPermission::PutAcl],
                    RequestPermission::GetAcl,
                    plan_reads,
                    object,
                    why,
                );
            }
        };
        let what = format!("{} of {object}", describe_permission(RequestPermission::PutAcl));
        let action = self.required_action(RequestPermission::PutAcl, Some(object));
        if before == ObjectAcl::Custom {
            let why =
                "its ACL is not a predefined one, so it could not be written back: name another object".to_owned();
            return self.report_finding(what, action, PermissionVerdict::NotChecked, Some(why));
        }
        let answer = self.send(writer.reset_trust(), object, ObjectRequest::PutAcl(before)).await;
        if self.report_result(what, action, answer).is_some() {
            let after = self.read_acl(&writer.worker, object).await;
            self.report_comparison(
                RequestPermission::GetAcl,
                object,
                after.map(|after| after == before),
                before.as_str(),
            );
        }
    }

    async fn read_tags(&mut self, worker: &Worker, object: &ObjectId) -> Result<TagSet, PermissionProblem> {
        match self.send(worker, object, ObjectRequest::GetTags).await? {
            ResponseData::Tags(tags) => Ok(tags),
            _ => Err(unexpected_response()),
        }
    }

    async fn read_acl(&mut self, worker: &Worker, object: &ObjectId) -> Result<ObjectAcl, PermissionProblem> {
        match self.send(worker, object, ObjectRequest::GetAcl).await? {
            ResponseData::Acl(acl) => Ok(acl),
            _ => Err(unexpected_response()),
        }
    }

    /// Reports the probes that could not be tried because the current value could not be read. A denied read is not
    /// reported as a missing permission if the plan itself does not need it.
    fn report_unreadable_value(
        &mut self,
        needs: &[RequestPermission],
        read: RequestPermission,
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
        self.report_finding(format!("{} of {object}", describe_permission(read)), action, verdict, Some(why));
        for need in needs.iter().copied() {
            let action = self.required_action(need, Some(object));
            let why = "its current value could not be read, so it could not be written back".to_owned();
            self.report_finding(
                format!("{} of {object}", describe_permission(need)),
                action,
                PermissionVerdict::NotChecked,
                Some(why),
            );
        }
    }

    /// Reports whether the object is unchanged. If it may have changed, reports what it had before.
    fn report_comparison(
        &mut self,
        need: RequestPermission,
        object: &ObjectId,
        same: Result<bool, PermissionProblem>,
        had: &str,
    ) {
        let what = format!("{} of {object} again", describe_permission(need));
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
