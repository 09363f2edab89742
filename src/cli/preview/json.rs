//! A plan's preview as JSON. The command's help documents the format. New keys may be added at any time; a key is
//! removed or changed only with a new `version`.

use batchplan_store::object::{ObjectId, ObjectState, StorageClass, VersionId};
use serde_json::{Value as Json, json};

use super::{ObjectListDiff, PreviewView, extrapolate, is_exact, predicted_counts};
use crate::diff::{ConfidenceInterval, Effect, Prediction, ReasonGroup};
use crate::estimate::{BilledQuantity, CostCategory, CostLine};
use crate::jobs::{describe_untrusted_server, hint};
use crate::operation::ObjectAspect;

/// The version of the format.
const VERSION: u32 = 1;

/// Returns the whole preview.
pub(crate) fn render(view: &PreviewView<'_>) -> Json {
    let preview = view.preview;
    let exact = is_exact(view);
    let counts = |found| {
        let ConfidenceInterval { low, likely, high } = extrapolate(view, found);
        json!({ "likely": likely, "low": low, "high": high })
    };
    let [changes, stays, fails, open] = predicted_counts(view).map(|(_, found)| counts(found));
    let sample = (!exact).then(|| json!({ "looked": preview.tally.total(), "seed": preview.options.seed }));
    let shown = preview.examples.changed.iter().chain(&preview.examples.unchanged).chain(&preview.examples.unknown);
    json!({
        "version": VERSION,
        "plan": { "file": view.file, "name": view.plan.name, "hash": view.plan.hash() },
        "objects": preview.frozen.rows(),
        "exact": exact,
        "sample": sample,
        "counts": { "change": changes, "unchanged": stays, "fail": fails, "unknown": open },
        "failures": failures(view),
        "unknown": preview.tally.unknown_reasons.iter().map(|(why, group)| unknown_group(why, group)).collect::<Vec<_>>(),
        "examples": shown.map(object).collect::<Vec<_>>(),
        "facts": {
            "acls": preview.from_manifest.acls,
            "classes": preview.from_manifest.classes,
            "since": preview.from_manifest.as_of.map(|since| since.to_string()),
        },
        "requests": requests(view),
        "cost": cost(view),
        "duration": {
            "requests": view.duration.requests,
            "per_second": view.duration.per_second,
            "at_plan_seconds": view.duration.at_plan_rate.as_secs(),
            "at_provider_seconds": view.duration.at_provider_limits().map(|at| at.as_secs()),
        },
        "manifest": manifest(view),
        "plan_diff": view.previous.map(|earlier| earlier.plan_diff.as_str()),
        "earlier": view.previous.map(|earlier| json!({
            "job_id": earlier.job.as_str(),
            "status": earlier.status,
            "created": earlier.created.to_string(),
        })),
        "server_check": server_check(view),
        "warnings": warnings(view),
        "saved": view.saved_to,
    })
}

/// Returns one object and its predicted result.
pub(crate) fn object(prospect: &Prediction) -> Json {
    let mut object = object_name(&prospect.object);
    object["before"] = object_state(&prospect.before);
    match &prospect.effect {
        Effect::Changes(after) => {
            object["action"] = json!("change");
            object["after"] = object_state(after);
        }
        Effect::Unchanged => {
            object["action"] = json!("unchanged");
            object["after"] = object_state(&prospect.before);
        }
        Effect::Fails(reason) => {
            object["action"] = json!("fail");
            object["after"] = Json::Null;
            object["code"] = json!(reason.code);
            object["http"] = json!(reason.http);
            object["operation"] = json!(reason.operation);
            object["message"] = json!(reason.message);
        }
        Effect::Unknown(why) => {
            object["action"] = json!("unknown");
            object["after"] = Json::Null;
            object["message"] = json!(why);
        }
    }
    object
}

fn object_name(object: &ObjectId) -> Json {
    json!({
        "bucket": object.bucket.as_str(),
        "key": object.key.encoded(),
        "version": object.version.as_ref().map(VersionId::as_str),
    })
}

/// Returns what is known of an object. Unknown values are null.
fn object_state(state: &ObjectState) -> Json {
    let aspects = ObjectAspect::ALL.map(|aspect| aspect.rules().json(state));
    let class = ("class", json!(state.class.known().map(StorageClass::as_str)));
    aspects.into_iter().chain([class]).collect()
}

fn failures(view: &PreviewView<'_>) -> Vec<Json> {
    let reasons = view.preview.tally.failure_reasons.iter();
    reasons
        .map(|((code, http, operation), group)| {
            json!({
                "code": code,
                "http": http,
                "operation": operation,
                "count": group.count,
                "message": group.message,
                "advice": hint(code, *http),
                "examples": group.examples.iter().map(object_name).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn unknown_group(why: &str, group: &ReasonGroup) -> Json {
    json!({
        "reason": why,
        "count": group.count,
        "examples": group.examples.iter().map(object_name).collect::<Vec<_>>(),
    })
}

fn requests(view: &PreviewView<'_>) -> Vec<Json> {
    let work = &view.preview.workload;
    let told = [(&work.requests, false), (&work.rejected, true)].into_iter();
    told.flat_map(|(counts, refused)| counts.iter().map(move |(asked, count)| (asked, count, refused)))
        .map(|((kind, class), count, refused)| {
            let class = class.as_ref().map(StorageClass::as_str);
            json!({ "kind": kind.to_string(), "class": class, "count": count, "refused": refused })
        })
        .collect()
}

fn cost(view: &PreviewView<'_>) -> Json {
    let estimate = view.estimate;
    let entry = estimate.prices.entry();
    let line = |line: &CostLine| {
        let (quantity, unit, days) = match line.quantity {
            BilledQuantity::Requests(count) => (u128::from(count), "requests", None),
            BilledQuantity::Objects(count) => (u128::from(count), "objects", None),
            BilledQuantity::Jobs(count) => (u128::from(count), "jobs", None),
            BilledQuantity::Bytes(bytes) => (bytes, "bytes", None),
            BilledQuantity::Stored { bytes, days } => (bytes, "bytes", Some(days)),
        };
        let price = line.price.as_ref().zip(entry);
        json!({
            "what": line.description,
            "for": match line.category {
                CostCategory::Objects => "objects",
                CostCategory::Overhead => "own",
                CostCategory::Fee => "fee",
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
        "whole": estimate.total.is_complete(),
        "lines": estimate.lines.iter().map(line).collect::<Vec<_>>(),
        "managed": estimate.managed_service.as_ref().map(|managed| json!({
            "service": managed.service,
            "fees": managed.fees.iter().map(line).collect::<Vec<_>>(),
            "known": managed.total.known.map(|known| known.to_string()),
            "whole": managed.total.is_complete(),
        })),
    })
}

fn manifest(view: &PreviewView<'_>) -> Json {
    let difference = view.previous.and_then(|earlier| match &earlier.objects {
        ObjectListDiff::Known(difference) => Some(difference),
        ObjectListDiff::Unknown(_) => None,
    });
    let examples = |some: &Vec<ObjectId>| some.iter().map(object_name).collect::<Vec<_>>();
    json!({
        "read": view.preview.frozen.rows_read(),
        "added": difference.map(|it| it.added),
        "gone": difference.map(|it| it.removed),
        "added_examples": difference.map(|it| examples(&it.added_examples)),
        "gone_examples": difference.map(|it| examples(&it.removed_examples)),
    })
}

/// Returns how far the server was checked, and what was found.
fn server_check(view: &PreviewView<'_>) -> Json {
    let refusal = view.preview.refusal.as_ref();
    json!({
        "state": view.preview.server_check.as_str(),
        "found": refusal.map(|refusal| refusal.kind.as_str()),
        "object": refusal.map(|refusal| object_name(&refusal.object)),
        "why": refusal.map(|refusal| describe_untrusted_server(view.plan, refusal)),
    })
}

fn warnings(view: &PreviewView<'_>) -> Vec<String> {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    warnings.chain(view.preview.warnings.iter().cloned()).collect()
}
