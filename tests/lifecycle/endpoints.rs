//! Where a plan for AWS works if the environment names an endpoint, and what is said of a bucket that is elsewhere.

use std::process::Command;

use batchplan::job::JobStatus;

use crate::bucket::Manner;
use crate::credentials::s3_role;
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands};
use crate::world::Ran;

/// An endpoint where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Writes `plan.toml`, which works on AWS unless the environment says otherwise. No test runs it in another environment.
fn aws_plan(scene: &Scene, store: &str, rest: &str) {
    let store = format!("[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\n{store}\n");
    scene.write("plan.toml", format!("name = \"plan\"\n{store}{TAG}{rest}"));
}

fn run_with(scene: &Scene, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command: Command = scene.command(args);
    command.envs(variables.iter().copied());
    Running::of(command).over()
}

#[test]
fn an_endpoint_of_the_environment_is_obeyed_and_shown() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    let variable = [("AWS_ENDPOINT_URL_S3", endpoint.as_str()), ("AWS_ENDPOINT_URL", NOWHERE)];
    aws_plan(&scene, "skip_server_check = true", "");
    let line = format!("  store      aws, {endpoint} (from AWS_ENDPOINT_URL_S3)\n");
    let planned = run_with(&scene, &["plan", "plan.toml"], &variable).ended(0);
    assert!(planned.stdout.contains(&line), "{}", planned.stdout);
    let applied = run_with(&scene, &APPLY, &variable).ended(0);
    assert!(applied.stderr.contains(&line), "{}", applied.stderr);
    assert_stands(&scene.newest(), JobStatus::Complete, 3, 0);
    assert_eq!(scene.written().len(), 3);
    // Without the environment, the job still shows where it worked.
    let shown = scene.run(&["show", scene.newest().id.as_str()]).ended(0);
    assert!(shown.stdout.contains(&format!("aws, {endpoint} (from the environment)")), "{}", shown.stdout);

    scene.write(".aws/config", format!("[default]\nendpoint_url = {endpoint}\n"));
    let profile = run_with(&scene, &["plan", "plan.toml"], &[]).ended(0);
    let line = format!("  store      aws, {endpoint} (from endpoint_url of the AWS profile \"default\")\n");
    assert!(profile.stdout.contains(&line), "{}", profile.stdout);
}

#[test]
fn the_prices_of_a_service_are_not_those_of_another_server() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    aws_plan(&scene, "skip_server_check = true", "");
    let variable = [("AWS_ENDPOINT_URL", endpoint.as_str())];
    let planned = run_with(&scene, &["plan", "plan.toml"], &variable).ended(0);
    let said = format!("no prices are known for {endpoint}: it is not an endpoint of AWS S3");
    assert!(planned.stdout.contains(&said), "{}", planned.stdout);
    aws_plan(&scene, "skip_server_check = true", "[prices]\nbook = \"aws-us-east-1\"\n");
    let planned = run_with(&scene, &["plan", "plan.toml"], &variable).ended(0);
    assert!(!planned.stdout.contains("no prices are known"), "{}", planned.stdout);
}

#[test]
fn a_row_that_names_no_bucket_is_refused_before_anything_is_sent() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    scene.write("rows.csv", "bkt,k0000\nlogs--use1-az5--x-s3,k\narn:aws:s3:::bkt,k\n");
    let store = "[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\nskip_server_check = true\n";
    let work = "[manifest.csv]\npath = \"rows.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    scene.write("plan.toml", format!("name = \"plan\"\n{store}{work}"));
    let ran = run_with(&scene, &APPLY, &[("AWS_ENDPOINT_URL", &endpoint)]);
    assert_ne!(ran.code, 0);
    for part in [
        "row 2: the bucket `logs--use1-az5--x-s3`: directory buckets (S3 Express One Zone) are not supported; ",
        "row 3: the bucket `arn:aws:s3:::bkt`: a bucket name is required, not an ARN; ",
    ] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(scene.server.requests(), 0);
}

#[test]
fn a_server_that_the_environment_names_is_checked_like_any_other() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    aws_plan(&scene, "", "");
    let planned = run_with(&scene, &["plan", "plan.toml", "--json"], &[("AWS_ENDPOINT_URL", &endpoint)]).ended(0);
    assert_eq!(planned.json()["server_check"]["state"], "passed");
}

#[test]
fn a_job_goes_on_only_where_it_began() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    let here = [("AWS_ENDPOINT_URL", endpoint.as_str())];
    aws_plan(&scene, "skip_server_check = true", "");
    run_with(&scene, &["create", "plan.toml"], &here).ended(0);
    let id = scene.newest().id;
    let resume = ["resume", id.as_str(), "--auto-approve"];
    let before = scene.server.requests();
    for (variables, now) in [
        (&[][..], "AWS's default".to_owned()),
        (&[("AWS_ENDPOINT_URL_S3", NOWHERE)], format!("{NOWHERE} (from AWS_ENDPOINT_URL_S3)")),
        (&[here[0], ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], "AWS's default".to_owned()),
    ] {
        let ran = run_with(&scene, &resume, variables).ended(6);
        let said = format!(
            "error: the endpoint has changed: it was {endpoint} (from the environment), and is now {now}\n  help: "
        );
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    }
    run_with(&scene, &["confirm", id.as_str()], &[]).ended(0);
    let queued = run_with(&scene, &["run"], &[]).ended(6);
    assert!(queued.stderr.contains("the endpoint has changed: it was "), "{}", queued.stderr);
    assert_eq!(scene.server.requests(), before, "nothing was sent");
    run_with(&scene, &["run"], &here).ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 3, 0);
}

#[test]
fn a_saved_plan_and_a_token_belong_to_their_endpoint() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    let here = [("AWS_ENDPOINT_URL", endpoint.as_str())];
    aws_plan(&scene, "skip_server_check = true", "[job]\nclient_request_token = \"once\"\n");
    run_with(&scene, &["plan", "plan.toml", "--out", "saved.bpl"], &here).ended(0);
    let saved = ["apply", "saved.bpl", "--auto-approve"];
    let refused = run_with(&scene, &saved, &[]).ended(6);
    assert!(refused.stderr.contains("the endpoint has changed: it was "), "{}", refused.stderr);
    assert!(scene.jobs().is_empty());
    run_with(&scene, &saved, &here).ended(0);
    let elsewhere = run_with(&scene, &APPLY, &[("AWS_ENDPOINT_URL", NOWHERE)]).ended(6);
    let change = format!("the endpoint in the environment: `{endpoint}` is now `{NOWHERE}`");
    assert!(elsewhere.stderr.contains(&change), "{}", elsewhere.stderr);
}

#[test]
fn a_job_and_a_saved_plan_stay_with_the_sts_that_gives_their_role() {
    let (scene, sts) = (Scene::with_objects(3), Scene::with_objects(0));
    sts.server.behave(|_| Manner::Say(200, s3_role(1)));
    let (endpoint, given) = (scene.server.endpoint(), sts.server.endpoint());
    let role = "role_arn = \"arn:aws:iam::123456789012:role/Role\"\nskip_server_check = true";
    aws_plan(&scene, role, "[job]\nclient_request_token = \"once\"\n");
    let bucket = ("AWS_ENDPOINT_URL_S3", endpoint.as_str());
    let here = [bucket, ("AWS_ENDPOINT_URL_STS", given.as_str())];
    run_with(&scene, &["plan", "plan.toml", "--out", "saved.bpl"], &here).ended(0);
    run_with(&scene, &["create", "plan.toml"], &here).ended(0);
    let id = scene.newest().id;
    let (resume, saved) = (["resume", id.as_str(), "--auto-approve"], ["apply", "saved.bpl", "--auto-approve"]);
    let (before, asked) = (scene.server.requests(), sts.server.requests());
    for (variables, now) in [
        (&[bucket][..], "AWS's default".to_owned()),
        (&[bucket, ("AWS_ENDPOINT_URL", NOWHERE)], format!("{NOWHERE} (from AWS_ENDPOINT_URL)")),
    ] {
        let said =
            format!("the endpoint of STS has changed: it was {given} (from the environment), and is now {now}\n");
        for command in [&resume, &saved] {
            let ran = run_with(&scene, command, variables).ended(6);
            assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        }
        let again = run_with(&scene, &APPLY, variables).ended(6);
        assert!(again.stderr.contains(&format!("`{endpoint}, STS {given}` is now `{endpoint}")), "{}", again.stderr);
    }
    assert_eq!((scene.server.requests(), sts.server.requests()), (before, asked), "nothing was sent");
    run_with(&scene, &resume, &here).ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 3, 0);
    let shown = scene.run(&["show", id.as_str()]).ended(0);
    assert!(shown.stdout.contains(&format!(" of the STS at {given} (from the environment)")), "{}", shown.stdout);
}

#[test]
fn where_a_state_in_a_bucket_is_is_said_if_the_environment_decides_it() {
    let scene = Scene::with_objects(0);
    let endpoint = scene.server.endpoint();
    let list = ["list", "--state", "s3://bkt/jobs?region=us-east-1"];
    let ran = run_with(&scene, &list, &[("AWS_ENDPOINT_URL", &endpoint)]);
    let said = format!("note: the state is at {endpoint} (from AWS_ENDPOINT_URL)\n");
    assert_eq!(ran.stderr.matches(&said).count(), 1, "{}", ran.stderr);
    assert!(scene.server.requests() > 0);
    // A URL that names its endpoint shows it itself.
    let url = format!("s3://bkt/jobs?endpoint={endpoint}&region=us-east-1");
    let ran = run_with(&scene, &["list", "--state", &url], &[("AWS_ENDPOINT_URL", NOWHERE)]);
    assert!(!ran.stderr.contains("note: "), "{}", ran.stderr);
}

#[test]
fn the_plans_own_endpoint_comes_first_and_that_is_said() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    let own = format!("endpoint = \"{endpoint}\"\naddressing = \"path\"\nskip_server_check = true");
    aws_plan(&scene, &own, "");
    let variables = [("AWS_ENDPOINT_URL", NOWHERE), ("AWS_USE_FIPS_ENDPOINT", "true")];
    let applied = run_with(&scene, &APPLY, &variables).ended(0);
    for said in [
        format!("  store      aws, {endpoint}\n"),
        format!("warning: AWS_ENDPOINT_URL ({NOWHERE}) is ignored, because the plan sets `endpoint` to {endpoint}\n"),
        format!("warning: AWS_USE_FIPS_ENDPOINT is ignored, because the plan sets `endpoint` to {endpoint}\n"),
    ] {
        assert!(applied.stderr.contains(&said), "{}", applied.stderr);
    }
    assert_stands(&scene.newest(), JobStatus::Complete, 3, 0);
}

#[test]
fn a_setting_that_cannot_be_obeyed_is_refused_before_any_work() {
    let scene = Scene::with_objects(3);
    let endpoint = scene.server.endpoint();
    aws_plan(&scene, "", "");
    for (variables, said) in [
        (
            &[("AWS_ENDPOINT_URL", "http://minio:9000")][..],
            "error: AWS_ENDPOINT_URL uses unencrypted http to another machine\n  help: use \
             https, or set `allow_http = true` in [store] to send requests unencrypted\n",
        ),
        (
            &[("AWS_ENDPOINT_URL", "https://me:hushhush@host")],
            "error: AWS_ENDPOINT_URL contains a user name or password\n  help: set it to a URL such as \
             https://s3.example.org, or unset it; to ignore it for S3 and for the plan's role, set \
             AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true\n",
        ),
        (
            &[("AWS_ENDPOINT_URL", &endpoint), ("AWS_USE_FIPS_ENDPOINT", "true")],
            "error: AWS_USE_FIPS_ENDPOINT cannot be combined with AWS_ENDPOINT_URL: a custom endpoint has no FIPS or \
             dual-stack variant\n  help: unset one of them\n",
        ),
    ] {
        for command in [&APPLY[..], &["plan", "plan.toml"], &["create", "plan.toml"], &["check", "plan.toml"]] {
            let ran = run_with(&scene, command, variables).ended(1);
            assert_eq!(ran.stderr, said);
        }
    }
    assert!(scene.jobs().is_empty() && scene.server.requests() == 0);
    // A plan for another provider names its endpoint itself, and reads none of this.
    scene.plan(TAG);
    run_with(&scene, &APPLY, &[("AWS_ENDPOINT_URL", "nonsense"), ("AWS_USE_FIPS_ENDPOINT", "nonsense")]).ended(0);
}

#[test]
fn an_access_point_is_not_asked_about_its_bucket() {
    let scene = Scene::with_objects(0);
    let store = "[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\nskip_server_check = true\n";
    let work = "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    scene.write("plan.toml", format!("name = \"plan\"\n{store}{work}"));
    scene.write("list.csv", "reports-1a2b3c-s3alias,k\n");
    let endpoint = scene.server.endpoint();
    let ran = run_with(&scene, &["plan", "plan.toml"], &[("AWS_ENDPOINT_URL", &endpoint)]).ended(0);
    let said = "reports-1a2b3c-s3alias is an access point: batchplan cannot check its bucket's lifecycle rules, \
                versioning and ownership, or detect jobs that change the same objects through the bucket";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
    assert!(!ran.stdout.contains("could not be read"), "{}", ran.stdout);
}

#[test]
fn a_bucket_that_is_elsewhere_is_said_to_be_there_by_every_command() {
    let document = "<Error><Code>PermanentRedirect</Code><Message>Use the specified endpoint.</Message>\
                    <Endpoint>bkt.s3.eu-west-1.amazonaws.com</Endpoint><Region>eu-west-1</Region></Error>";
    let told = "301 PermanentRedirect: Use the specified endpoint; endpoint bkt.s3.eu-west-1.amazonaws.com; region eu-west-1; \
                nothing was sent there: set `region = \"eu-west-1\"` in [store], and change `endpoint`, if it is set, \
                to \"https://s3.eu-west-1.amazonaws.com\"";
    let scene = Scene::with_objects(3);
    scene.plan(TAG);
    scene.server.behave(|_| Manner::Say(301, document.to_owned()));
    for (command, code) in [(&APPLY[..], 1), (&["plan", "plan.toml"], 1), (&["check", "plan.toml"], 1)] {
        let ran = scene.run(command).ended(code);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(told), "{command:?}: {said}");
    }
    // OSS names the right endpoint in a refusal that looks like a missing permission.
    let document = "<Error><Code>AccessDenied</Code><Message>The bucket must be addressed using the specified endpoint.\
                    </Message><Endpoint>oss-cn-shanghai.aliyuncs.com</Endpoint></Error>";
    scene.server.behave(|_| Manner::Say(403, document.to_owned()));
    let ran = scene.run(&["check", "plan.toml"]).ended(1);
    assert!(ran.stdout.contains("nothing was sent there: set `endpoint = "), "{}", ran.stdout);
}

#[test]
fn one_who_is_denied_is_told_that_requesters_may_have_to_pay() {
    let scene = Scene::with_objects(3);
    let hint = "`requester_pays = true` in [store]";
    scene.plan(TAG);
    scene.server.behave(|_| Manner::Refuse(403, "AccessDenied"));
    let ran = scene.run(&["plan", "plan.toml"]).ended(1);
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    scene.server.behave(|_| Manner::Serve);
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("[store]\n", "[store]\nrequester_pays = true\n"));
    let ran = scene.run(&["plan", "plan.toml"]).ended(0);
    let said = "requester pays: this job's requests and data transfer are billed to you, not to the bucket owners";
    assert!(ran.stdout.contains(said) && ran.stdout.contains(", requester pays\n"), "{}", ran.stdout);
    scene.server.behave(|_| Manner::Refuse(403, "AccessDenied"));
    let ran = scene.run(&["plan", "plan.toml"]).ended(1);
    assert!(!ran.stderr.contains(hint), "{}", ran.stderr);
}
