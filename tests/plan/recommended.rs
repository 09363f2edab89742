//! What `plan` recommends to change, and what it says instead of the next command where the job would fail.

use std::fmt::Write as _;

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, Tag, VersioningConfiguration,
};

use crate::scene::{Dialect, Scene, client};

const PREFIX: &str = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"\"\n";
const TAG: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// The lines of `plan` that begin so.
fn lines(scene: &Scene, start: &str) -> Vec<String> {
    let ran = scene.look(&[]).ended(0);
    ran.stdout.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

/// Asks the sandbox behind the gate, with a client that is not ours.
fn ask<T>(scene: &Scene, question: impl AsyncFnOnce(aws_sdk_s3::Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(question(client(&scene.gate.behind())))
}

#[test]
fn objects_that_are_mostly_right_are_better_read_first() {
    let table = (0..200).fold("bucket,key,tags\n".to_owned(), |mut table, number| {
        let _ = writeln!(table, "bkt,{number:03},{}", if number % 4 == 0 { "t=2" } else { "t=1" });
        table
    });
    let scene = Scene::filled(Dialect::Aws, &table, |_| {});
    let said = "recommended: `skip_unchanged = true` in [job]: about 75 % of the objects are already as the plan wants them; \
                the job then reads each object and writes only the others";
    scene.plan(&format!("{PREFIX}{TAG}"));
    assert_eq!(lines(&scene, "recommended: "), [said]);
    let json = scene.look(&["--json"]).ended(0).json();
    assert_eq!(json["recommendations"][0], said.replace("recommended: ", ""));
    assert_eq!(json["would_fail"], false);
    let markdown = scene.look(&["--format", "markdown"]).ended(0).stdout;
    assert!(markdown.contains("\n> **Recommended:** `` `skip_unchanged = true` in [job]: about 75 %"), "{markdown}");

    for other in [
        format!("{PREFIX}{TAG}[job]\nskip_unchanged = true\n"),
        // These are read anyway.
        format!("{PREFIX}{}", TAG.replace("put_", "add_")),
        // Most of these change.
        format!("{PREFIX}{}", TAG.replace('1', "2")),
    ] {
        scene.plan(&other);
        assert_eq!(lines(&scene, "recommended: "), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn the_classes_that_can_be_restored_are_recommended_where_others_fail() {
    let table = "bucket,key,storage_class\nbkt,a,GLACIER\nbkt,b,GLACIER\nbkt,c,GLACIER\nbkt,d,GLACIER\nbkt,e,DEEP_ARCHIVE\n\
                 bkt,f,STANDARD\n";
    let scene = Scene::filled(Dialect::Aws, table, |_| {});
    let restore = "[operation.restore_object]\ndays = 1\n";
    scene.plan(&format!("{PREFIX}{restore}"));
    assert_eq!(
        lines(&scene, "recommended: "),
        [
            "recommended: `storage_class = [\"DEEP_ARCHIVE\", \"GLACIER\"]` in [manifest.filter]: the restore fails for objects \
          of STANDARD"
        ]
    );
    scene.plan(&format!("{PREFIX}[manifest.filter]\nstorage_class = [\"DEEP_ARCHIVE\", \"GLACIER\"]\n{restore}"));
    assert_eq!(lines(&scene, "recommended: "), Vec::<String>::new());
}

#[test]
fn old_versions_are_to_be_locked_down_as_well() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key,acl\nbkt,a,public-read\nbkt,b,private\n", |_| {});
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    scene.plan(&format!("{PREFIX}{acl}"));
    assert_eq!(lines(&scene, "recommended: "), Vec::<String>::new(), "it keeps no versions");
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    ask(&scene, async |client| {
        client.put_bucket_versioning().bucket("bkt").versioning_configuration(versioning).send().await.expect("set");
    });
    assert_eq!(
        lines(&scene, "recommended: "),
        [
            "recommended: `versions = \"all\"` in [manifest.prefix]: bkt keeps old versions, which keep their ACL, so everyone who \
          may read them now still may"
        ]
    );
    scene.plan(&format!("{PREFIX}{acl}").replace("prefix = \"\"", "prefix = \"\"\nversions = \"all\""));
    assert_eq!(lines(&scene, "recommended: "), Vec::<String>::new());
    scene.plan(&format!("{PREFIX}{TAG}"));
    assert_eq!(lines(&scene, "recommended: "), Vec::<String>::new());
}

#[test]
fn where_the_job_would_fail_apply_is_not_the_next_step() {
    let fails = "\nThe job would fail, see the warnings above: change the plan, and run this command again.\n";
    let scene = Scene::filled(Dialect::Aws, "bucket,key\nbkt,a\n", |_| {});
    for (rest, warning) in [
        (
            format!("{TAG}[report]\nbucket = \"nowhere\"\n"),
            "the report could not be published: the bucket nowhere does not exist",
        ),
        ("[operation.restore_object]\ndays = 1\n".to_owned(), "more objects would fail than failure_threshold allows"),
    ] {
        scene.plan(&format!("{PREFIX}{rest}"));
        let said = scene.look(&[]).ended(0).stdout;
        assert!(said.contains(&format!("warning: {warning}")) && said.ends_with(fails), "{said}");
        assert!(!said.contains("next: "), "{said}");
        let markdown = scene.look(&["--format", "markdown"]).ended(0).stdout;
        assert!(markdown.ends_with(fails), "{markdown}");
        assert_eq!(scene.look(&["--json"]).ended(0).json()["would_fail"], true);
    }
}

#[test]
fn a_lifecycle_rule_is_a_warning_only_if_the_plan_changes_what_it_applies_to() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key,tags\nbkt,a,env=tmp\n", |_| {});
    let tag = Tag::builder().key("env").value("tmp").build().expect("a tag");
    let rule = LifecycleRule::builder()
        .id("expire")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().tag(tag).build())
        .expiration(LifecycleExpiration::builder().days(1).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().expect("a rule")).build().expect("rules");
    ask(&scene, async |client| {
        let put = client.put_bucket_lifecycle_configuration().bucket("bkt");
        put.lifecycle_configuration(rules).send().await.expect("set");
    });
    for (operation, said) in [
        ("add_object_tagging]\ntags = { team = \"a\" }\n", None),
        ("add_object_tagging]\ntags = { env = \"tmp\" }\n", Some("all these objects (env=tmp): it will delete them")),
        (
            "add_object_tagging]\ntags = { env = \"prod\" }\n",
            Some("none of these objects (env=tmp): it will not delete those that it applies to now"),
        ),
    ] {
        scene.plan(&format!("{PREFIX}[operation.{operation}"));
        let expected = said.map(|said| format!("warning: lifecycle rule `expire` of bkt will apply to {said}"));
        assert_eq!(lines(&scene, "warning: lifecycle").first(), expected.as_ref(), "{operation}");
    }
}
