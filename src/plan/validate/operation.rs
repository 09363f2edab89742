//! `[operation]`: the rules of each operation, with those for tags, and operations that contradict each other.

use std::collections::BTreeMap;

use batchplan_store::object::{MAX_TAGS, MaybeKnown, ObjectAcl, RestoreRequest, RestoreTier, StorageClass, TagSet};

use super::context::{PlanCheckContext, key_span, report_conflict};
use crate::diagnostics::FileProblem;
use crate::operation::Operation;
use crate::plan::tables::{AclTable, DeleteTagsTable, OperationTable, RestoreTable, TagsTable};
use crate::provider::{AspectSupport, ProviderRules, RestoreRefusal, RestoreService, RetrievalClass};
use crate::toml_reader::{DocumentReader, NamedVariants as _, SpannedValue, TextSpan, nearest, quote_for_message};

/// The maximum length of a tag key, in characters, on AWS and on OSS. Sources of all limits on tags: the tables in the
/// tagging pages of both.
const MAX_KEY_CHARS: usize = 128;

/// The maximum length of a tag value, in characters.
const MAX_VALUE_CHARS: usize = 256;

/// Checks the operations. They are returned in the order of the schema, so the order of tables in a plan means nothing.
/// `classes` are the storage classes that the filter selects; `None` if it does not filter by class.
pub(super) fn check(
    at: &SpannedValue<OperationTable>,
    classes: Option<&[SpannedValue<String>]>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Vec<Operation> {
    // In full, so that a key without an operation does not compile.
    let OperationTable {
        put_object_tagging,
        add_object_tagging,
        delete_object_tagging,
        put_object_acl,
        restore_object,
    } = &at.value;
    let is_empty = put_object_tagging.is_absent()
        && add_object_tagging.is_absent()
        && delete_object_tagging.is_absent()
        && put_object_acl.is_absent()
        && restore_object.is_absent();
    if is_empty && !reader.has_unknown_key("operation") {
        reader.push(
            FileProblem::new("the plan has no operation")
                .label(at.span.clone(), "no operation")
                .help("add one, such as [operation.put_object_tagging]"),
        );
    }
    check_contradictions(&at.value, reader);
    let put = put_object_tagging.value().and_then(|put| set_tags(put, context, reader));
    let add = add_object_tagging.value().and_then(|add| set_tags(add, context, reader));
    let delete = delete_object_tagging.value().map(|delete| delete_tags(delete, context, reader));
    let acl = put_object_acl.value().and_then(|table| acl(table, context, reader));
    let restore = restore_object.present().and_then(|at| restore(at, classes, context, reader));
    let operations = [
        (key_span(put_object_tagging), put.map(Operation::PutTagging)),
        (key_span(add_object_tagging), add.map(Operation::AddTagging)),
        (key_span(delete_object_tagging), delete.map(Operation::DeleteTagging)),
        (key_span(put_object_acl), acl.map(Operation::PutAcl)),
        (key_span(restore_object), restore.map(Operation::Restore)),
    ];
    for (key, operation) in &operations {
        if let (Some(rules), Some(key), Some(operation)) = (context.rules, key, operation) {
            check_support(rules, operation, key, reader);
        }
    }
    operations.into_iter().filter_map(|(_, operation)| operation).collect()
}

/// Reports an operation on an aspect that the provider's objects do not have.
fn check_support(rules: &ProviderRules, operation: &Operation, key: &TextSpan, reader: &mut DocumentReader) {
    if let AspectSupport::Missing(help) = rules.supports(operation.aspect()) {
        reader.push(
            FileProblem::new(format!("{} does not support `{}`", rules.service, operation.name()))
                .label(key.clone(), "not supported by this provider")
                .help(help),
        );
    }
}

fn check_contradictions(table: &OperationTable, reader: &mut DocumentReader) {
    let put = table.put_object_tagging.present();
    let add = table.add_object_tagging.present();
    let delete = table.delete_object_tagging.present();
    if let (Some(put), Some(add)) = (put, add) {
        let help = "put all tags into put_object_tagging: it replaces all others";
        report_conflict(put, add, "replacing and adding tags contradict each other", help, reader);
    }
    if let (Some(put), Some(delete)) = (put, delete) {
        let help = "remove [operation.delete_object_tagging]: replacing already removes all other tags";
        report_conflict(put, delete, "replacing and deleting tags contradict each other", help, reader);
    }
    if let (Some(add), Some(delete)) = (add, delete) {
        if delete.value.keys.is_absent() {
            let help = "use put_object_tagging to keep only these tags, or list the `keys` to delete";
            report_conflict(add, delete, "adding tags and deleting all of them contradict each other", help, reader);
        } else {
            check_added_and_deleted(&add.value, &delete.value, reader);
        }
    }
}

fn check_added_and_deleted(add: &TagsTable, delete: &DeleteTagsTable, reader: &mut DocumentReader) {
    let (Some(tags), Some(keys)) = (add.tags.value(), delete.keys.value()) else { return };
    let added: BTreeMap<_, _> = tags.iter().map(|(key, _)| (key.value.as_str(), key)).collect();
    for key in keys {
        if let Some(tag) = added.get(key.value.as_str()) {
            report_conflict(tag, key, "a tag is both added and deleted", "keep one of them", reader);
        }
    }
}

fn set_tags(table: &TagsTable, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> Option<TagSet> {
    table.tags.present().map(|at| check_tags(at, context, reader))
}

fn delete_tags(
    table: &DeleteTagsTable,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<Vec<String>> {
    let at = table.keys.present()?;
    let keys = &at.value;
    if keys.is_empty() {
        reader.push(
            FileProblem::new("there are no tags to delete")
                .label(at.span.clone(), "empty")
                .help("add at least one key, or remove `keys` to delete all tags"),
        );
    }
    let mut seen = BTreeMap::new();
    for key in keys {
        let text = &key.value;
        check_tag_key(text, &key.span, context, reader);
        if let Some(first) = seen.insert(text.as_str(), key) {
            report_conflict(first, key, "duplicate tag key", "remove one of them", reader);
        }
    }
    Some(keys.iter().map(|key| key.value.clone()).collect())
}

fn acl(table: &AclTable, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> Option<ObjectAcl> {
    let at = table.acl.present()?;
    let has_default = context.rules.is_none_or(|rules| rules.has_default_acl);
    let Some(acl) = ObjectAcl::NAMES.iter().find(|(name, _)| *name == at.value).map(|(_, acl)| acl.clone()) else {
        report_unknown_acl(at, has_default, reader);
        return None;
    };
    if acl == ObjectAcl::Default && !has_default {
        reader.push(
            FileProblem::new("only OSS has the ACL `default`")
                .label(at.span.clone(), "not supported by this provider")
                .help("use private, public-read or public-read-write"),
        );
    }
    let label = match acl {
        ObjectAcl::PublicRead => "anyone can read these objects",
        ObjectAcl::PublicReadWrite => "anyone can read and overwrite these objects",
        ObjectAcl::Private | ObjectAcl::Default | ObjectAcl::Custom(_) => return Some(acl),
    };
    reader.push(
        FileProblem::new("this makes objects public")
            .label(at.span.clone(), label)
            .help("ignore this if it is intended")
            .warning(),
    );
    Some(acl)
}

/// Reports a text that is no ACL, with those that the provider has.
fn report_unknown_acl(at: &SpannedValue<String>, has_default: bool, reader: &mut DocumentReader) {
    let offered = ObjectAcl::NAMES.iter().filter(|(_, acl)| has_default || *acl != ObjectAcl::Default);
    let names: Vec<_> = offered.map(|(name, _)| *name).collect();
    let choice = format!("valid values: {}", names.join(", "));
    let help = nearest(&at.value, names).map_or(choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
    reader.push(
        FileProblem::new(format!("`acl` cannot be `{}`", quote_for_message(&at.value)))
            .label(at.span.clone(), "not a valid value")
            .help(help),
    );
}

fn restore(
    at: &SpannedValue<RestoreTable>,
    classes: Option<&[SpannedValue<String>]>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<RestoreRequest> {
    let RestoreTable { days, tier } = &at.value;
    let request = match (days.present(), tier.present()) {
        // The reader has reported an invalid value.
        (None, _) if !days.is_absent() => return None,
        (_, None) if !tier.is_absent() => return None,
        (days, tier) => RestoreRequest { days: days.map(|at| at.value), tier: tier.map(|at| at.value) },
    };
    let Some(rules) = context.rules else { return Some(request) };
    match (days.present(), rules.restore_days) {
        (Some(days), Some(limit)) if days.value > limit.max => reader.push(
            FileProblem::new("`days` is out of range")
                .label(days.span.clone(), format!("too long for {}", rules.service))
                .help(limit.help),
        ),
        (Some(_), _) => {}
        (None, _) => check_missing_days(at, rules, classes.is_some(), reader),
    }
    let tier = tier.present().map(|at| at.span.clone());
    check_restored_classes(classes.unwrap_or_default(), rules, (request, tier.as_ref()), reader);
    Some(request)
}

/// Reports a restore without days, unless the filter's storage classes decide about it.
fn check_missing_days(
    at: &SpannedValue<RestoreTable>,
    rules: &ProviderRules,
    has_classes: bool,
    reader: &mut DocumentReader,
) {
    match rules.restore_service {
        RestoreService::Oss => reader.push(
            FileProblem::new("`days` is missing in [operation.restore_object]")
                .label(at.span.clone(), "needed here")
                .help("add `days = 1`"),
        ),
        RestoreService::Aws if !has_classes => reader.push(
            FileProblem::new("a restore without `days` is only for INTELLIGENT_TIERING")
                .label(at.span.clone(), "fails for objects of GLACIER and DEEP_ARCHIVE")
                .help("add `days`, or `storage_class = [\"INTELLIGENT_TIERING\"]` to [manifest.filter]")
                .warning(),
        ),
        // Ceph keeps what is restored without days.
        RestoreService::Aws | RestoreService::Other => {}
    }
}

/// Reports storage classes of the filter whose objects the service does not restore in this way. It is an error if there
/// is no other class. `tier` is the place of the tier in the plan.
fn check_restored_classes(
    classes: &[SpannedValue<String>],
    rules: &ProviderRules,
    (request, tier): (RestoreRequest, Option<&TextSpan>),
    reader: &mut DocumentReader,
) {
    let refusal = |at: &SpannedValue<String>, request| {
        rules.restore_service.refusal(&StorageClass::new(&at.value), &MaybeKnown::Unknown, request)
    };
    let refusals: Vec<_> = classes.iter().filter_map(|at| Some((at, refusal(at, request)?))).collect();
    let all_fail = refusals.len() == classes.len();
    for (at, RestoreRefusal { message, help, .. }) in refusals {
        let class = quote_for_message(&at.value);
        let mut problem = FileProblem::new(format!("the restore fails for objects of class {class}"))
            .label(at.span.clone(), message)
            .help(help);
        let without_tier = RestoreRequest { tier: None, ..request };
        if let Some(tier) = tier.filter(|_| refusal(at, without_tier).is_none()) {
            problem = problem.label(tier.clone(), "not with this tier");
        }
        reader.push(if all_fail { problem } else { problem.warning() });
    }
    let too_fast = |at: &&SpannedValue<String>| {
        let is_deep = RetrievalClass::of(&StorageClass::new(&at.value)) == RetrievalClass::Deep;
        is_deep && request.tier == Some(RestoreTier::Expedited) && rules.restore_service == RestoreService::Other
    };
    for at in classes.iter().filter(too_fast) {
        let class = quote_for_message(&at.value);
        let mut problem = FileProblem::new(format!("the restore may fail for objects of class {class}"))
            .label(at.span.clone(), "AWS S3 does not restore this class with tier Expedited")
            .help("use the tier Standard or Bulk, unless this server supports it");
        if let Some(tier) = tier {
            problem = problem.label(tier.clone(), "with this tier");
        }
        reader.push(problem.warning());
    }
}

/// Checks tags to set.
fn check_tags(
    at: &SpannedValue<Vec<(SpannedValue<String>, SpannedValue<String>)>>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> TagSet {
    let tags = &at.value;
    for (key, value) in tags {
        check_tag_key(&key.value, &key.span, context, reader);
        check_tag_value(value, context, reader);
    }
    if tags.is_empty() {
        reader.push(
            FileProblem::new("there are no tags to set")
                .label(at.span.clone(), "empty")
                .help("to remove all tags, use [operation.delete_object_tagging]"),
        );
    }
    if let Some((eleventh, _)) = tags.get(MAX_TAGS) {
        reader.push(
            FileProblem::new(format!("too many tags: {}", tags.len()))
                .label(eleventh.span.clone(), "the eleventh")
                .help(format!("an object can have at most {MAX_TAGS} tags")),
        );
    }
    let bytes: usize = tags.iter().map(|(key, value)| key.value.len() + value.value.len()).sum();
    if let Some((rules, max)) = context.rules.and_then(|rules| Some((rules, rules.tags.max_bytes?)))
        && bytes > max
    {
        reader.push(
            FileProblem::new("the tags are too large in total")
                .label(at.span.clone(), format!("{bytes} bytes of keys and values"))
                .help(format!("{} allows at most {max} bytes", rules.service)),
        );
    }
    tags.iter().map(|(key, value)| (key.value.as_str(), value.value.as_str())).collect()
}

/// Checks the key of a tag to set or remove.
fn check_tag_key(key: &str, span: &TextSpan, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) {
    let chars = key.chars().count();
    if !(1..=MAX_KEY_CHARS).contains(&chars) {
        reader.push(
            FileProblem::new("a tag key is empty or too long")
                .label(span.clone(), format!("{chars} characters"))
                .help(format!("use 1 to {MAX_KEY_CHARS} characters")),
        );
    }
    let reserved = key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    if reserved && context.rules.is_none_or(|rules| rules.tags.reserves_aws_keys) {
        report_unless_lenient(
            FileProblem::new("a tag key is reserved")
                .label(span.clone(), "starts with `aws:`")
                .help("only AWS can set and remove `aws:` tags"),
            context,
            reader,
        );
    }
    check_tag_characters(key, span, context, reader);
}

fn check_tag_value(value: &SpannedValue<String>, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) {
    let chars = value.value.chars().count();
    if chars > MAX_VALUE_CHARS {
        reader.push(
            FileProblem::new("a tag value is too long")
                .label(value.span.clone(), format!("{chars} characters"))
                .help(format!("use at most {MAX_VALUE_CHARS} characters")),
        );
    }
    check_tag_characters(&value.value, &value.span, context, reader);
}

fn check_tag_characters(text: &str, span: &TextSpan, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) {
    let Some(rules) = context.rules else { return };
    let allowed = rules.tags.symbols;
    let Some(odd) = text.chars().find(|c| !(c.is_alphabetic() || c.is_numeric() || *c == ' ' || allowed.contains(*c)))
    else {
        return;
    };
    let spaced: Vec<_> = allowed.chars().map(String::from).collect();
    report_unless_lenient(
        FileProblem::new("a tag contains an invalid character")
            .label(span.clone(), format!("`{}`", quote_for_message(&odd.to_string())))
            .help(format!("use only letters, digits, spaces and {}", spaced.join(" "))),
        context,
        reader,
    );
}

/// Reports a problem; only as a warning for S3-compatible servers, which may be less strict than S3.
fn report_unless_lenient(problem: FileProblem, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) {
    reader.push(if context.rules.is_some_and(|rules| rules.is_lenient) { problem.warning() } else { problem });
}

#[cfg(test)]
mod tests {
    use batchplan_store::StoreProvider;

    use super::*;
    use crate::operation::ObjectAspect;

    #[test]
    fn an_aspect_that_the_provider_does_not_have_is_reported() {
        let aspect_support = |aspect| match aspect {
            ObjectAspect::Restoration => AspectSupport::Missing("remove it"),
            _ => AspectSupport::Full,
        };
        let rules = ProviderRules { aspect_support, ..ProviderRules::of(StoreProvider::S3).clone() };
        let mut reader = DocumentReader::default();
        let restore = Operation::Restore(RestoreRequest { days: Some(1), tier: None });
        for operation in [Operation::PutAcl(ObjectAcl::Private), restore] {
            check_support(&rules, &operation, &(0..1), &mut reader);
        }
        let (problems, _) = reader.finish();
        let titles: Vec<_> = problems.iter().map(FileProblem::title).collect();
        assert_eq!(titles, ["this server does not support `restore_object`"]);
        assert!(!problems.iter().any(FileProblem::is_warning));
    }
}
