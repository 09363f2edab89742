use std::path::Path;

use super::*;

fn plan(rest: &str) -> Plan {
    let text = format!("name = \"p\"\n{rest}");
    let (plan, problems) = crate::plan::read("plan.toml", &text, Path::new("."), jiff::Timestamp::UNIX_EPOCH);
    plan.unwrap_or_else(|| panic!("{:?}", problems.iter().map(|one| one.title().to_owned()).collect::<Vec<_>>()))
}

const OSS: &str =
    "[store]\nprovider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\nregion = \"cn-hangzhou\"\n";
const AWS: &str = "[store]\nprovider = \"aws\"\nregion = \"eu-central-1\"\n";
const PUT: &str = "[operation.put_object_tagging]\ntags = { a = \"1\" }\n";

/// Returns the actions and resources of each statement.
fn spelled(policy: &Json) -> Vec<(Vec<String>, Vec<String>)> {
    let texts = |value: &Json| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    policy["Statement"].as_array().unwrap().iter().map(|it| (texts(&it["Action"]), texts(&it["Resource"]))).collect()
}

#[test]
fn allows_the_reads_of_the_server_check() {
    let bucket = "[manifest.prefix]\nbucket = \"bkt\"\n";
    let work = |store: &str, operation: &str| {
        let plan = plan(&format!("{store}{bucket}{operation}"));
        spelled(&permission_policy(&plan, PolicyLanguage::Iam, &[]).unwrap())[1].0.clone()
    };
    let other = "[store]\nprovider = \"s3\"\nendpoint = \"https://s3.example.org\"\n";
    let trusted = format!("{other}skip_server_check = true\n");
    let own = "[store]\nprovider = \"s3\"\nendpoint = \"https://s3.eu-central-1.amazonaws.com\"\n";
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    assert_eq!(work(other, PUT), ["s3:GetObjectTagging", "s3:GetObject", "s3:PutObjectTagging"]);
    assert_eq!(work(other, acl), ["s3:GetObjectAcl", "s3:GetObject", "s3:PutObjectAcl"]);
    for store in [&trusted, own, AWS] {
        assert_eq!(work(store, PUT), ["s3:GetObjectTagging", "s3:PutObjectTagging"]);
    }
}

#[test]
fn allows_the_reads_that_capture_objects() {
    let bucket = "[manifest.prefix]\nbucket = \"bkt\"\n";
    let work = |store: &str, operation: &str, capture: bool| {
        let plan = plan(&format!("{store}{bucket}{operation}[undo]\ncapture = {capture}\n"));
        let language = ProviderRules::of(plan.store.provider).policy_language;
        spelled(&permission_policy(&plan, language, &[]).unwrap())[1].0.clone()
    };
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    let restore = "[operation.restore_object]\ndays = 1\n";
    assert_eq!(work(AWS, PUT, true), ["s3:GetObjectTagging", "s3:PutObjectTagging"]);
    // HEAD tells the version.
    assert_eq!(work(AWS, acl, true), ["s3:GetObjectAcl", "s3:GetObject", "s3:PutObjectAcl"]);
    assert_eq!(work(OSS, acl, true), ["oss:GetObjectAcl", "oss:PutObjectAcl"]);
    assert_eq!(work(AWS, PUT, false), ["s3:PutObjectTagging"]);
    assert_eq!(work(AWS, restore, true), work(AWS, restore, false));
}

#[test]
fn allows_access_to_the_state_below_its_prefix() {
    let rest = "[manifest.prefix]\nbucket = \"bkt\"\n";
    let plan = plan(&format!("{AWS}{rest}{PUT}[state]\nurl = \"s3://kept/team\"\n"));
    let spelled = spelled(&permission_policy(&plan, PolicyLanguage::Iam, &[]).unwrap());
    let (actions, resources) = &spelled[3];
    assert_eq!(actions, &["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]);
    assert_eq!(resources, &["arn:aws:s3:::kept/team/*"]);
    assert_eq!(spelled[2], (vec!["s3:ListBucket".to_owned()], vec!["arn:aws:s3:::kept".to_owned()]));
    // The other service has its own policies.
    assert!(!permission_policy(&plan, PolicyLanguage::Ram, &[]).unwrap().to_string().contains("kept"));
}

#[test]
fn the_state_bucket_is_in_the_partition_of_its_own_region() {
    let resources = |store: &str, state: &str| {
        let rest = format!("[manifest.prefix]\nbucket = \"bkt\"\n{PUT}[state]\nurl = \"{state}\"\n");
        let policy = spelled(&permission_policy(&plan(&format!("{store}{rest}")), PolicyLanguage::Iam, &[]).unwrap());
        (policy[0].1.concat(), policy[3].1.concat())
    };
    let china = "[store]\nprovider = \"aws\"\nregion = \"cn-north-1\"\n";
    let objects_and_state = |objects: &str, state: &str| (objects.to_owned(), state.to_owned());
    let (global, chinese) = ("arn:aws:s3:::kept/*", "arn:aws-cn:s3:::kept/*");
    assert_eq!(resources(china, "s3://kept"), objects_and_state("arn:aws-cn:s3:::bkt", chinese));
    assert_eq!(resources(china, "s3://kept?region=eu-west-1"), objects_and_state("arn:aws-cn:s3:::bkt", global));
    assert_eq!(resources(AWS, "s3://kept?region=cn-north-1"), objects_and_state("arn:aws:s3:::bkt", chinese));
    assert_eq!(
        resources(china, "s3://kept?endpoint=https://s3.example.org"),
        objects_and_state("arn:aws-cn:s3:::bkt", global)
    );
}

#[test]
fn resources_are_in_the_partition_of_the_region() {
    for (region, partition) in [
        ("us-east-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-east-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
    ] {
        let store = format!("[store]\nprovider = \"aws\"\nregion = \"{region}\"\n");
        let plan = plan(&format!("{store}[manifest.prefix]\nbucket = \"bkt\"\n{PUT}"));
        let spelled = spelled(&permission_policy(&plan, PolicyLanguage::Iam, &[]).unwrap());
        assert_eq!(spelled[0].1, [format!("arn:{partition}:s3:::bkt")]);
    }
}

#[test]
fn an_access_point_has_no_policy_by_its_alias() {
    let alias = BucketName::new("reports-1a2b3c-s3alias");
    let prefix = plan(&format!("{AWS}[manifest.prefix]\nbucket = \"{alias}\"\n{PUT}"));
    let refused = permission_policy(&prefix, PolicyLanguage::Iam, &[]);
    assert_eq!(refused, Err(PolicyError::AccessPoint(alias.clone())));
    let csv = plan(&format!("{AWS}[manifest.csv]\npath = \"x.csv\"\n{PUT}"));
    assert!(permission_policy(&csv, PolicyLanguage::Iam, std::slice::from_ref(&alias)).is_err());
    let other = "[store]\nprovider = \"s3\"\nendpoint = \"https://s3.example.org\"\n";
    let other = plan(&format!("{other}[manifest.prefix]\nbucket = \"{alias}\"\n{PUT}"));
    assert!(permission_policy(&other, PolicyLanguage::Iam, &[]).is_ok(), "elsewhere it is a bucket's name");
}

#[test]
fn allows_only_the_prefix_and_the_report() {
    let plan = plan(&format!(
        "{OSS}[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"d/2024/\"\n{PUT}[report]\nbucket = \"rep\"\nprefix = \"reports/\"\n"
    ));
    let policy = permission_policy(&plan, PolicyLanguage::Ram, &[]).unwrap();
    assert_eq!(
        policy,
        json!({
            "Version": "1",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["oss:ListObjects"],
                    "Resource": ["acs:oss:*:*:bkt"],
                    "Condition": { "StringLike": { "oss:Prefix": ["d/2024/*"] } },
                },
                { "Effect": "Allow", "Action": ["oss:GetObjectTagging", "oss:PutObjectTagging"], "Resource": ["acs:oss:*:*:bkt/d/2024/*"] },
                {
                    "Effect": "Allow",
                    "Action": ["oss:PutObject", "oss:AbortMultipartUpload"],
                    "Resource": ["acs:oss:*:*:rep/reports/*"],
                },
            ],
        })
    );
}

#[test]
fn versions_have_their_own_actions() {
    let plan = plan(&format!(
        "{AWS}[manifest.prefix]\nbucket = \"bkt\"\nversions = \"all\"\n[operation.add_object_tagging]\ntags = {{ a = \"1\" }}\n"
    ));
    let policy = permission_policy(&plan, PolicyLanguage::Iam, &[]).unwrap();
    assert_eq!(policy["Statement"][0]["Action"], json!(["s3:ListBucketVersions"]));
    assert_eq!(policy["Statement"][0].get("Condition"), None);
    assert_eq!(policy["Statement"][1]["Action"], json!(["s3:GetObjectVersionTagging", "s3:PutObjectVersionTagging"]));
}

#[test]
fn requires_buckets_that_only_the_manifest_names() {
    let csv =
        "[manifest.csv]\nbucket = \"man\"\nobject = \"lists/a*.csv\"\nfields = [\"Bucket\", \"Key\", \"VersionId\"]\n";
    let plan = plan(&format!("{AWS}{csv}[operation.restore_object]\ndays = 1\n"));
    assert_eq!(permission_policy(&plan, PolicyLanguage::Iam, &[]), Err(PolicyError::BucketsUnknown));
    let policy = permission_policy(&plan, PolicyLanguage::Iam, &[BucketName::new("x"), BucketName::new("y")]).unwrap();
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        spelled(&policy),
        [
            (words(&["s3:GetObject"]), words(&["arn:aws:s3:::man/lists/a${*}.csv"])),
            (
                words(&["s3:GetObject", "s3:GetObjectVersion", "s3:RestoreObject"]),
                words(&["arn:aws:s3:::x/*", "arn:aws:s3:::y/*"])
            ),
        ]
    );
}

#[test]
fn recurring_plans_read_reports_that_are_not_kept_locally() {
    let inventory = "[manifest.inventory]\nbucket = \"man\"\nlatest = \"daily/\"\n";
    let report = "[report]\nbucket = \"audit\"\nprefix = \"r/\"\n";
    let sids = |rest: &str| {
        let plan = plan(&format!("{AWS}{inventory}{PUT}{report}{rest}"));
        let policy = permission_policy(&plan, PolicyLanguage::Iam, &[BucketName::new("b")]).expect("a policy");
        policy["Statement"].to_string().matches("ReadReport").count()
    };
    assert_eq!(sids("keep_local = false\n[recurring]\nonly_changed = true\n"), 1);
    assert_eq!(sids("keep_local = false\n[recurring]\n"), 1);
    assert_eq!(sids("keep_local = false\n"), 1, "a retry reads it");
    assert_eq!(sids("[recurring]\nonly_changed = true\n"), 0);
}

#[test]
fn an_inventory_is_read_with_its_data_files() {
    let inventory =
        "[manifest.inventory]\nbucket = \"man\"\nobject = \"inv/b/daily/2026-01-31T00-00Z/manifest.json\"\n";
    let plan = plan(&format!("{AWS}{inventory}{PUT}[job]\nskip_unchanged = true\n"));
    let policy = spelled(&permission_policy(&plan, PolicyLanguage::Iam, &[BucketName::new("bkt")]).unwrap());
    assert_eq!(policy[0].1, ["arn:aws:s3:::man/inv/b/daily/*"]);
    let both = ["GetObjectTagging", "GetObjectVersionTagging", "PutObjectTagging", "PutObjectVersionTagging"];
    assert_eq!(policy[1].0, both.map(|name| format!("s3:{name}")));
    assert_eq!(ancestor_folder(&ObjectKey::from("manifest.json"), 2), ObjectKey::from(""));
}

#[test]
fn trust_policy_names_the_service_or_the_given_principal() {
    assert_eq!(
        trust_policy(PolicyLanguage::Ram, None)["Statement"][0]["Principal"],
        json!({ "Service": ["oss.aliyuncs.com"] })
    );
    let named = trust_policy(PolicyLanguage::Iam, Some("arn:aws:iam::111122223333:root"));
    assert_eq!(named["Statement"][0]["Principal"], json!({ "AWS": ["arn:aws:iam::111122223333:root"] }));
    assert_eq!(partition(Some("cn-north-1")), "aws-cn");
}
