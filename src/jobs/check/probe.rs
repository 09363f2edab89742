//! Write probes that leave an object unchanged: read what it has, write that back, and read it again.

use super::{Checker, RESTORE, Unlearned, Verdict, Writer, doing, writes};
use crate::call::{Call, Learned};
use crate::engine::Worker;
use crate::object::{Acl, ObjectId, TagSet};
use crate::operation::Operations;
use crate::plan::policy::Need;

impl Checker<'_> {
    /// Tries the writes of the operations on this object.
    pub(super) async fn probe(&mut self, writer: &Writer, operations: &Operations, object: &ObjectId) {
        let needs = writes(operations);
        let tags: Vec<Need> =
            needs.iter().copied().filter(|need| matches!(need, Need::PutTags | Need::DeleteTags)).collect();
        let reads: Vec<Need> = operations.reads().iter().map(|step| Need::of(&step.call)).collect();
        if !tags.is_empty() {
            self.probe_tags(writer, &tags, reads.contains(&Need::GetTags), object).await;
        }
        if needs.contains(&Need::PutAcl) {
            self.probe_acl(writer, reads.contains(&Need::GetAcl), object).await;
        }
        if needs.contains(&Need::Restore) {
            let action = self.action(Need::Restore, Some(object));
            self.told(doing(Need::Restore), action, Verdict::NotChecked, Some(RESTORE.to_owned()));
        }
    }

    async fn probe_tags(&mut self, writer: &Writer, needs: &[Need], plan_reads: bool, object: &ObjectId) {
        let before = match self.tags(&writer.worker, object).await {
            Ok(tags) => tags,
            Err(why) => return self.unread_before(needs, Need::GetTags, plan_reads, object, why),
        };
        let mut wrote = false;
        for need in needs.iter().copied() {
            let what = format!("{} of {object}", doing(need));
            let action = self.action(need, Some(object));
            let call = match need {
                // Deleting the tags of an object without tags changes nothing.
                Need::DeleteTags if before.is_empty() => Call::DeleteTags,
                Need::DeleteTags => {
                    let why = "it has tags, which would be lost: name an object without any".to_owned();
                    self.told(what, action, Verdict::NotChecked, Some(why));
                    continue;
                }
                _ => Call::PutTags(before.clone()),
            };
            let answer = self.ask(writer.afresh(), object, call).await;
            wrote |= self.came_of(what, action, answer).is_some();
        }
        if wrote {
            let after = self.tags(&writer.worker, object).await;
            let had = before.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
            let had = if had.is_empty() { "no tags".to_owned() } else { had };
            self.compare(Need::GetTags, object, after.map(|after| after == before), &had);
        }
    }

    async fn probe_acl(&mut self, writer: &Writer, plan_reads: bool, object: &ObjectId) {
        let before = match self.acl(&writer.worker, object).await {
            Ok(acl) => acl,
            Err(why) => return self.unread_before(&[Need::PutAcl], Need::GetAcl, plan_reads, object, why),
        };
        let what = format!("{} of {object}", doing(Need::PutAcl));
        let action = self.action(Need::PutAcl, Some(object));
        if before == Acl::Custom {
            let why =
                "its ACL is none of the predefined ones, and could not be put back: name another object".to_owned();
            return self.told(what, action, Verdict::NotChecked, Some(why));
        }
        let answer = self.ask(writer.afresh(), object, Call::PutAcl(before)).await;
        if self.came_of(what, action, answer).is_some() {
            let after = self.acl(&writer.worker, object).await;
            self.compare(Need::GetAcl, object, after.map(|after| after == before), before.as_str());
        }
    }

    async fn tags(&mut self, worker: &Worker, object: &ObjectId) -> Result<TagSet, Unlearned> {
        match self.ask(worker, object, Call::GetTags).await? {
            Learned::Tags(tags) => Ok(tags),
            _ => Err(another()),
        }
    }

    async fn acl(&mut self, worker: &Worker, object: &ObjectId) -> Result<Acl, Unlearned> {
        match self.ask(worker, object, Call::GetAcl).await? {
            Learned::Acl(acl) => Ok(acl),
            _ => Err(another()),
        }
    }

    /// Reports the probes that could not be tried because the current value could not be read. A denied read is not
    /// reported as a missing permission if the plan itself does not need it.
    fn unread_before(
        &mut self,
        needs: &[Need],
        read: Need,
        plan_reads: bool,
        object: &ObjectId,
        (verdict, why): Unlearned,
    ) {
        let needless = !plan_reads && verdict == Verdict::Denied;
        let (verdict, why) = if needless {
            (Verdict::NotChecked, format!("denied, and needed to put it back; the plan itself does not read it: {why}"))
        } else {
            (verdict, why)
        };
        let action = self.action(read, Some(object));
        self.told(format!("{} of {object}", doing(read)), action, verdict, Some(why));
        for need in needs.iter().copied() {
            let action = self.action(need, Some(object));
            let why = "what it has could not be read, and so not be put back".to_owned();
            self.told(format!("{} of {object}", doing(need)), action, Verdict::NotChecked, Some(why));
        }
    }

    /// Reports whether the object is unchanged. If it may have changed, reports what it had before.
    fn compare(&mut self, need: Need, object: &ObjectId, same: Result<bool, Unlearned>, had: &str) {
        let what = format!("{} of {object} again", doing(need));
        let action = self.action(need, Some(object));
        let (verdict, why) = match same {
            Ok(true) => (Verdict::Allowed, Some("as before".to_owned())),
            Ok(false) => {
                let why = "not as before: somebody else has changed it meanwhile, or the store has not kept it";
                (Verdict::Failed, Some(format!("{why}; it had {had}")))
            }
            Err((verdict, why)) => (verdict, Some(format!("{why}; it had {had}"))),
        };
        self.told(what, action, verdict, why);
    }
}

fn another() -> Unlearned {
    (Verdict::Failed, "the store answered something else than was asked for".to_owned())
}
