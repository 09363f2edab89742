//! A plan's preview as JSON. The command's help documents the format. New keys may be added at any time; a key is
//! removed or changed only with a new `version`.

use serde_json::{Value as Json, json};

use super::View;
use super::earlier::Names;
use super::numbers;
use crate::diff::{Fate, Group, Interval, Prospect};
use crate::estimate::{Line, Part, Quantity};
use crate::jobs::{advice, why_untrusted};
use crate::object::{Fact, ObjectId, ObjectState, Restoration, StorageClass, Tier, VersionId};

/// The version of the format.
const VERSION: u32 = 1;

/// Returns the whole preview.
pub(super) fn of(view: &View<'_>) -> Json {
    let preview = view.preview;
    let exact = numbers::is_exact(view);
    let counts = |found| {
        let Interval { low, likely, high } = numbers::of_all(view, found);
        json!({ "likely": likely, "low": low, "high": high })
    };
    let [changes, stays, fails, open] = numbers::fates(view).map(|(_, found)| counts(found));
    let sample = (!exact).then(|| json!({ "looked": preview.tally.looked(), "seed": preview.closeness.seed }));
    let shown = preview.shown.changed.iter().chain(&preview.shown.staying).chain(&preview.shown.open);
    json!({
        "version": VERSION,
        "plan": { "file": view.file, "name": view.plan.name, "hash": view.plan.hash() },
        "objects": preview.frozen.rows(),
        "exact": exact,
        "sample": sample,
        "counts": { "change": changes, "unchanged": stays, "fail": fails, "unknown": open },
        "failures": failures(view),
        "unknown": preview.tally.doubts.iter().map(|(why, group)| doubt(why, group)).collect::<Vec<_>>(),
        "examples": shown.map(object).collect::<Vec<_>>(),
        "facts": {
            "acls": preview.told.acls,
            "classes": preview.told.classes,
            "since": preview.told.since.map(|since| since.to_string()),
        },
        "requests": requests(view),
        "cost": cost(view),
        "duration": {
            "requests": view.hours.requests,
            "per_second": view.hours.per_second,
            "at_plan_seconds": view.hours.at_plan.as_secs(),
            "at_provider_seconds": view.hours.at_provider().map(|at| at.as_secs()),
        },
        "manifest": manifest(view),
        "plan_diff": view.earlier.map(|earlier| earlier.plan_diff.as_str()),
        "earlier": view.earlier.map(|earlier| json!({
            "job_id": earlier.job.as_str(),
            "status": earlier.status,
            "created": earlier.at.to_string(),
        })),
        "server_check": server_check(view),
        "warnings": warnings(view),
        "saved": view.saved,
    })
}

/// Returns one object and its predicted result.
pub(super) fn object(prospect: &Prospect) -> Json {
    let mut object = name(&prospect.object);
    object["before"] = state(&prospect.before);
    match &prospect.fate {
        Fate::Changes(after) => {
            object["action"] = json!("change");
            object["after"] = state(after);
        }
        Fate::Stays => {
            object["action"] = json!("unchanged");
            object["after"] = state(&prospect.before);
        }
        Fate::Fails(reason) => {
            object["action"] = json!("fail");
            object["after"] = Json::Null;
            object["code"] = json!(reason.code);
            object["http"] = json!(reason.http);
            object["operation"] = json!(reason.operation);
            object["message"] = json!(reason.message);
        }
        Fate::Open(why) => {
            object["action"] = json!("unknown");
            object["after"] = Json::Null;
            object["message"] = json!(why);
        }
    }
    object
}

fn name(object: &ObjectId) -> Json {
    json!({
        "bucket": object.bucket.as_str(),
        "key": object.key.encoded(),
        "version": object.version.as_ref().map(VersionId::as_str),
    })
}

/// Returns what is known of an object. Unknown values are null.
fn state(state: &ObjectState) -> Json {
    let tags = state.tags.known().map(|tags| tags.iter().collect::<std::collections::BTreeMap<_, _>>());
    let restored = match &state.restoration {
        Fact::Unknown => Json::Null,
        Fact::Known(Restoration::Absent) => json!("none"),
        Fact::Known(Restoration::InProgress) => json!("in progress"),
        Fact::Known(Restoration::Until(until)) => json!({ "until": until.to_string() }),
        Fact::Known(Restoration::Wanted(request)) => {
            json!({ "days": request.days, "tier": request.tier.map(Tier::as_str) })
        }
    };
    json!({
        "tags": tags,
        "acl": state.acl.known().map(|acl| acl.as_str()),
        "restored_copy": restored,
        "class": state.class.known().map(StorageClass::as_str),
    })
}

fn failures(view: &View<'_>) -> Vec<Json> {
    let reasons = view.preview.tally.reasons.iter();
    reasons
        .map(|((code, http, operation), group)| {
            json!({
                "code": code,
                "http": http,
                "operation": operation,
                "count": group.count,
                "message": group.message,
                "advice": advice(code, *http),
                "examples": group.examples.iter().map(name).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn doubt(why: &str, group: &Group) -> Json {
    json!({
        "reason": why,
        "count": group.count,
        "examples": group.examples.iter().map(name).collect::<Vec<_>>(),
    })
}

fn requests(view: &View<'_>) -> Vec<Json> {
    let work = &view.preview.work;
    let told = [(&work.requests, false), (&work.refused, true)].into_iter();
    told.flat_map(|(counts, refused)| counts.iter().map(move |(asked, count)| (asked, count, refused)))
        .map(|((kind, class), count, refused)| {
            let class = class.as_ref().map(StorageClass::as_str);
            json!({ "kind": kind.to_string(), "class": class, "count": count, "refused": refused })
        })
        .collect()
}

fn cost(view: &View<'_>) -> Json {
    let estimate = view.estimate;
    let entry = estimate.rates.entry();
    let line = |line: &Line| {
        let (quantity, unit, days) = match line.quantity {
            Quantity::Requests(count) => (u128::from(count), "requests", None),
            Quantity::Objects(count) => (u128::from(count), "objects", None),
            Quantity::Jobs(count) => (u128::from(count), "jobs", None),
            Quantity::Bytes(bytes) => (bytes, "bytes", None),
            Quantity::Kept { bytes, days } => (bytes, "bytes", Some(days)),
        };
        let price = line.price.as_ref().zip(entry);
        json!({
            "what": line.what,
            "for": match line.part {
                Part::Objects => "objects",
                Part::Own => "own",
                Part::Fee => "fee",
            },
            // `serde_json` has no larger integers, and no bucket has that many bytes.
            "quantity": u64::try_from(quantity).unwrap_or(u64::MAX),
            "unit": unit,
            "days": days,
            "price": price.map(|(price, entry)| price.amount(entry.currency).to_string()),
            "per": price.map(|(price, _)| price.unit().to_string()),
            "source": price.and_then(|(price, _)| price.source.clone()),
            "amount": line.amount.as_ref().ok().map(ToString::to_string),
            "why": line.amount.as_ref().err().map(ToString::to_string),
        })
    };
    json!({
        "book": entry.map(|entry| entry.name.as_str()),
        "dated": entry.map(|entry| entry.dated.to_string()),
        "currency": entry.map(|entry| entry.currency.as_str().to_owned()),
        "known": estimate.total.known.map(|known| known.to_string()),
        "whole": estimate.total.is_whole(),
        "lines": estimate.lines.iter().map(line).collect::<Vec<_>>(),
        "managed": estimate.managed.as_ref().map(|managed| json!({
            "service": managed.service,
            "fees": managed.fees.iter().map(line).collect::<Vec<_>>(),
            "known": managed.total.known.map(|known| known.to_string()),
            "whole": managed.total.is_whole(),
        })),
    })
}

fn manifest(view: &View<'_>) -> Json {
    let difference = view.earlier.and_then(|earlier| match &earlier.names {
        Names::Known(difference) => Some(difference),
        Names::Unknown(_) => None,
    });
    let examples = |some: &Vec<ObjectId>| some.iter().map(name).collect::<Vec<_>>();
    json!({
        "read": view.preview.frozen.rows_read(),
        "added": difference.map(|it| it.added),
        "gone": difference.map(|it| it.gone),
        "added_examples": difference.map(|it| examples(&it.added_examples)),
        "gone_examples": difference.map(|it| examples(&it.gone_examples)),
    })
}

/// Returns how far the server was checked, and what was found.
fn server_check(view: &View<'_>) -> Json {
    let refusal = view.preview.refusal.as_ref();
    json!({
        "state": view.preview.server.as_str(),
        "found": refusal.map(|refusal| refusal.kind.as_str()),
        "object": refusal.map(|refusal| name(&refusal.object)),
        "why": refusal.map(|refusal| why_untrusted(view.plan, refusal)),
    })
}

fn warnings(view: &View<'_>) -> Vec<String> {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    warnings.chain(view.preview.cautions.iter().cloned()).collect()
}
