use proptest::prelude::*;

use super::toml_writer::quoted;
use super::*;
use crate::plan::Plan;
use crate::plan::xml::is_xml_char;
use crate::provider::BatchService;

const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

pub(super) fn read(text: &str) -> Plan {
    let (plan, problems) = crate::plan::read("plan", text, std::path::Path::new(""), NOW);
    let said: Vec<_> =
        problems.iter().map(|problem| (problem.title().to_owned(), problem.label_spans().to_vec())).collect();
    plan.unwrap_or_else(|| panic!("{said:?}\n{text}"))
}

/// The command line options for the import of a request.
fn given(service: BatchService) -> ImportOptions {
    let of_oss = |text: &str| (service == BatchService::Oss).then(|| text.to_owned());
    ImportOptions {
        name: Some("another".to_owned()),
        endpoint: of_oss("https://oss-cn-hangzhou.aliyuncs.com"),
        region: of_oss("cn-hangzhou"),
    }
}

/// Exports a plan and imports the request again.
fn exchanged(plan: &Plan, service: BatchService) -> Plan {
    let beside = ExportOptions { fresh_token: "fresh".to_owned(), ..ExportOptions::default() };
    let exported = export(plan, service, &beside).unwrap_or_else(|found| panic!("{found:?}"));
    let [document] = &exported.documents[..] else { panic!("one operation is one request") };
    let (text, problems) = import("request", document.as_bytes(), &given(service), NOW);
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    read(&text.unwrap_or_else(|| panic!("{said:?}\n{document}")))
}

/// Removes the characters that the format of a service cannot carry.
fn carried(text: String, service: BatchService) -> String {
    if service == BatchService::Oss { text.chars().filter(|c| is_xml_char(*c)).collect() } else { text }
}

#[test]
fn no_service_pays_as_a_requester() {
    let rest = "requester_pays = true\n[manifest.prefix]\nbucket = \"abc\"\n[operation.put_object_tagging]\ntags = { a = \"1\" }\n";
    for (store, service, title) in [
        ("provider = \"aws\"\n", BatchService::Aws, "S3 Batch Operations"),
        (
            "provider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\nregion = \"cn-hangzhou\"\n",
            BatchService::Oss,
            "OSS Batch Operations",
        ),
    ] {
        let plan = read(&format!("name = \"n\"\n[store]\n{store}{rest}"));
        let refused = export(&plan, service, &ExportOptions::default()).expect_err("refused");
        let titles: Vec<_> = refused.iter().map(|problem| problem.title().to_owned()).collect();
        assert!(titles.contains(&format!("{title} does not support `requester_pays` in [store]")), "{titles:?}");
    }
}

#[test]
fn export_names_what_it_leaves_out() {
    let text = |setting: &str| {
        format!(
            "name = \"n\"\n[store]\nprovider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n\
             region = \"cn-hangzhou\"\nrole_arn = \"acs:ram::1:role/r\"\n[manifest.prefix]\nbucket = \"abc\"\n{setting}\
             [operation.put_object_tagging]\ntags = {{ a = \"1\" }}\n"
        )
    };
    for (setting, omitted) in [("", &[][..]), ("on_unlistable = \"report\"\n", &["manifest.prefix.on_unlistable"][..])]
    {
        let beside = ExportOptions { fresh_token: "fresh".to_owned(), ..ExportOptions::default() };
        let exported = export(&read(&text(setting)), BatchService::Oss, &beside);
        assert_eq!(exported.unwrap_or_else(|found| panic!("{found:?}")).omitted, omitted);
    }
}

fn bucket() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9-]{1,20}[a-z0-9]"
}

fn manifest(service: BatchService) -> impl Strategy<Value = String> {
    let key = prop_oneof![any::<String>(), "[a-z/&<>\"' \r\n+%.é-]{0,20}"];
    let key = key.prop_map(move |text| carried(text, service));
    let columns = match service {
        BatchService::Oss => prop_oneof![Just(r#""Bucket", "Key""#), Just(r#""Bucket", "Key", "VersionId""#)].boxed(),
        BatchService::Aws => {
            prop_oneof![Just(r#""Key", "Bucket""#), Just(r#""Ignore", "Bucket", "Key", "Ignore""#)].boxed()
        }
    };
    (bucket(), key, columns, 0..3_u8).prop_map(|(bucket, key, columns, kind)| match kind {
        0 => format!("[manifest.prefix]\nbucket = \"{bucket}\"\nprefix = {}\n", quoted(&key)),
        1 => format!(
            "[manifest.csv]\nbucket = \"{bucket}\"\nobject = {}\netag = \"aB1\"\nfields = [{columns}]\n",
            quoted(&format!("{key}x"))
        ),
        _ => format!(
            "[manifest.inventory]\nbucket = \"{bucket}\"\nobject = {}\netag = \"0-2\"\n",
            quoted(&format!("{key}/manifest.json"))
        ),
    })
}

fn operation(service: BatchService) -> impl Strategy<Value = String> {
    let tags = proptest::collection::btree_map("[A-Za-z0-9 _.:/=+é-]{1,20}", "[A-Za-z0-9 _.:/=+é-]{0,20}", 1..10);
    let tagging = if service == BatchService::Oss { "add_object_tagging" } else { "put_object_tagging" };
    let tagging = prop_oneof![Just("put_object_tagging"), Just(tagging)];
    let set = (tagging, tags).prop_map(|(name, tags)| {
        let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        format!("[operation.{name}]\ntags = {{ {} }}\n", pairs.join(", "))
    });
    let acl = if service == BatchService::Oss { "default" } else { "private" };
    let acl = prop_oneof![Just(acl), Just("private"), Just("public-read"), Just("public-read-write")];
    let tier = prop_oneof![Just(""), Just("tier = \"Standard\"\n"), Just("tier = \"Bulk\"\n")];
    // Only S3 restores without days.
    let days = (1..=365_u32, proptest::bool::weighted(0.7))
        .prop_map(move |(days, kept)| (kept || service == BatchService::Oss).then_some(days));
    prop_oneof![
        set,
        Just("[operation.delete_object_tagging]\n".to_owned()),
        acl.prop_map(|acl| format!("[operation.put_object_acl]\nacl = \"{acl}\"\n")),
        (days, tier).prop_map(|(days, tier)| {
            let days = days.map_or_else(String::new, |days| format!("days = {days}\n"));
            format!("[operation.restore_object]\n{days}{tier}")
        }),
    ]
}

fn report(service: BatchService) -> impl Strategy<Value = String> {
    let prefix = "[a-z/&<> é]{0,20}";
    let scope = prop_oneof![Just(""), Just("scope = \"all-tasks\"\n"), Just("scope = \"failed-tasks-only\"\n")];
    let published = (bucket(), prefix, scope).prop_map(|(bucket, prefix, scope)| {
        format!("[report]\nbucket = \"{bucket}\"\nprefix = {}\n{scope}", quoted(&prefix))
    });
    // The report is not published, and AWS has no scope for such a report.
    let kept = if service == BatchService::Oss { "[report]\nenabled = false\nscope = \"all-tasks\"\n" } else { "" };
    prop_oneof![published, Just(String::new()), Just(kept.to_owned())]
}

/// The text of a plan that the service can run.
fn plan(service: BatchService) -> impl Strategy<Value = String> {
    let store = match service {
        BatchService::Oss => {
            "provider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\nregion = \"cn-hangzhou\"\n\
             role_arn = \"acs:ram::1234567890123456:role/BatchRole\"\n"
        }
        BatchService::Aws => "provider = \"aws\"\nrole_arn = \"arn:aws-cn:iam::123456789012:role/BatchRole\"\n",
    };
    let description = "[a-zA-Z&<>\"\\\\\n\té\u{1f600}][ -~\n\té]{0,40}";
    let job = (any::<bool>(), 0..=2_147_483_647_u32, "[ -~]{0,62}[!-~]");
    (description, manifest(service), operation(service), report(service), job).prop_map(
        move |(description, manifest, operation, report, (confirm, priority, token))| {
            format!(
                "name = \"n\"\ndescription = {}\n[store]\n{store}{manifest}{operation}{report}[job]\n\
                 confirmation_required = {confirm}\npriority = {priority}\nclient_request_token = {}\n",
                quoted(&description),
                quoted(&token)
            )
        },
    )
}

/// The number of ways in which [`changed`] changes a line.
const CHANGES: usize = 12;

/// Returns a request with some of its lines changed. The result may still be a valid request, or not.
fn changed(document: &str, changes: &[(proptest::sample::Index, usize)], service: BatchService) -> String {
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    for (line, way) in changes {
        if lines.is_empty() {
            break;
        }
        let at = line.index(lines.len());
        let values =
            ["", "Key,Bucket", "Bucket, Key", "\u{1f600}", "&#1;", "\\u0001", "true", "0", "Ignore", "private"];
        match way {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            way => {
                let line = &mut lines[at];
                let (open, close) = match service {
                    BatchService::Oss => ('>', '<'),
                    BatchService::Aws => ('"', '"'),
                };
                let end = line.rfind(close).unwrap_or(0);
                if let Some(start) = line[..end].rfind(open) {
                    line.replace_range(start + 1..end, values[way - 2]);
                }
            }
        }
    }
    lines.join("\n")
}

#[test]
fn rejects_requests_that_cannot_be_exported_again() {
    let oss = |fields: &str, description: &str| {
        format!(
            "<CreateJobRequest><ConfirmationRequired>true</ConfirmationRequired><Operation><DeleteObjectTagging/></Operation>\
             <Report><Enabled>false</Enabled></Report><Manifest><Location><ETag>a</ETag><Bucket>bkt</Bucket>\
             <Object>list.csv</Object></Location><Spec><Format>{}</Format><Fields>{fields}</Fields></Spec></Manifest>\
             <Description>{description}</Description><RoleArn>acs:ram::1234567890123456:role/Batch</RoleArn>\
             </CreateJobRequest>",
            crate::plan::xml::OSS_CSV
        )
    };
    let refused = |document: &str| {
        let (plan, problems) = import("request", document.as_bytes(), &given(BatchService::Oss), NOW);
        assert_eq!(plan.is_some(), !problems.has_errors(), "{document}");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(refused(&oss("Bucket,Key", "d")), [""; 0]);
    assert_eq!(refused(&oss("Bucket,Key,VersionId", "d")), [""; 0]);
    for fields in ["Key,Bucket", "Bucket,Key,Ignore", "Bucket,Ignore,Key"] {
        let said = refused(&oss(fields, "d"));
        assert_eq!(said, ["OSS Batch Operations does not support these `fields` in [manifest.csv]"], "{fields}");
    }
}

#[test]
fn limits_the_number_of_messages() {
    let flood = |piece: &str| piece.repeat(1_000_000 / piece.len());
    let request = |inner: &str| format!("<CreateJobRequest>{inner}</CreateJobRequest>");
    let tags = format!("<Operation><PutObjectTagging><TagSet>{}", flood("<Tag><Key>a</Key><Value/></Tag>"));
    for document in [
        request(&flood("<x/>")),
        request(&flood("<Priority/>")),
        request(&format!("{tags}</TagSet></PutObjectTagging></Operation>")),
        format!("{{{}}}", flood("\"x\":1,").trim_end_matches(',')),
        format!("{{\"Operation\":[{}]}}", flood("1,").trim_end_matches(',')),
        flood("["),
        flood("<x>"),
    ] {
        assert!(document.len() <= MAX_REQUEST_BYTES);
        let (plan, problems) = import("request", document.as_bytes(), &given(BatchService::Oss), NOW);
        assert!(plan.is_none());
        assert!((1..=100).contains(&problems.iter().count()), "{}", problems.iter().count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn export_and_import_round_trip(
        (service, text) in prop_oneof![Just(BatchService::Oss), Just(BatchService::Aws)]
            .prop_flat_map(|service| (Just(service), plan(service)))
    ) {
        let before = read(&text);
        let after = exchanged(&before, service);
        prop_assert_eq!(before.canonical().changes(after.canonical()), []);
        prop_assert_eq!(before.hash(), after.hash());
        prop_assert_eq!(before.job, after.job);
        prop_assert_eq!(before.description, after.description);
    }

    #[test]
    fn imported_plans_can_be_exported(
        (service, text) in prop_oneof![Just(BatchService::Oss), Just(BatchService::Aws)]
            .prop_flat_map(|service| (Just(service), plan(service))),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0..CHANGES), 0..4),
    ) {
        let beside = ExportOptions { fresh_token: "fresh".to_owned(), ..ExportOptions::default() };
        let exported = export(&read(&text), service, &beside).expect("a request");
        let document = changed(&exported.documents[0], &changes, service);
        let (imported, problems) = import("request", document.as_bytes(), &given(service), NOW);
        prop_assert_eq!(imported.is_some(), !problems.has_errors());
        if let Some(imported) = imported {
            let before = read(&imported);
            // The command line supplies what a plan may leave out.
            let beside = import::placeholder_options(&before);
            let again = export(&before, service, &beside);
            let again = again.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
            prop_assert!(again.is_ok(), "{:?}\n{}\n{}", again, document, imported);
            let exported = again.expect("looked at");
            let (back, problems) = import("request", exported.documents[0].as_bytes(), &given(service), NOW);
            let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
            prop_assert!(back.is_some(), "{:?}\n{}", said, exported.documents[0]);
            let supplied = beside.role_arn.is_some() || beside.etag.is_some() || !exported.omitted.is_empty();
            if !supplied {
                let after = read(&back.expect("looked at"));
                prop_assert_eq!(before.canonical().changes(after.canonical()), [], "{}", document);
            }
        }
    }

    #[test]
    fn import_never_panics(
        document in prop_oneof![
            any::<String>(),
            "[<>/a&;#!\\[\\]x ?\"=-]{0,60}",
            "\\{[{}\\[\\]\",:\\\\u0-9a-z ]{0,60}",
        ]
    ) {
        let (plan, problems) = import("request", document.as_bytes(), &given(BatchService::Oss), NOW);
        prop_assert_eq!(plan.is_some(), !problems.has_errors());
        for (span, _) in problems.iter().flat_map(crate::diagnostics::FileProblem::label_spans) {
            let text = document.strip_prefix('\u{feff}').unwrap_or(&document);
            prop_assert!(text.get(span.clone()).is_some(), "{:?} of {:?}", span, text);
        }
    }
}
