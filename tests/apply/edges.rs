//! What surrounds an apply: questions, refusals, signals, and reports that cannot be delivered.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::sdk_http::sdk_http_client;
use crate::world::{Ran, World};
use batchplan::job::JobStatus;

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

fn jobs(world: &World) -> Vec<String> {
    let Ok(folders) = fs::read_dir(world.path(".batchplan/jobs")) else { return Vec::new() };
    folders.map(|entry| entry.expect("a job").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nobody_to_ask_is_a_refusal_that_touches_nothing() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    let ran = world.run(&["apply", "plan.toml"]).ended(6);
    assert_eq!(
        ran.stderr,
        "error: this plan needs confirmation, but there is no terminal to ask on\n  \
         help: review it, then run: batchplan apply plan.toml --auto-approve\n"
    );
    assert!(jobs(&world).is_empty());
    assert!(!world.path("data").exists(), "not even the sandbox was opened");
}

#[test]
fn a_plan_may_say_that_nobody_need_be_asked() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(&format!("{TAG}[job]\nconfirmation_required = false\n"));
    world.run(&["apply", "plan.toml"]).ended(0);
    assert_eq!(world.objects().tags("a", None), "t=1");
}

#[test]
fn a_sandbox_that_another_process_works_in_is_a_refusal() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    let _objects = world.objects();
    let ran = world.apply().ended(6);
    assert!(ran.stderr.contains("is in use by another process\n  help: wait for"), "{}", ran.stderr);
    assert!(jobs(&world).is_empty());
}

#[test]
fn commands_that_are_shown_can_be_pasted() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(&format!("{TAG}[report]\nbucket = \"bkt\"\n"));
    fs::rename(world.path("plan.toml"), world.path("it's mine.toml")).expect("renamed");
    let ran = world.run(&["apply", "it's mine.toml", "--state", "my state"]).ended(6);
    assert!(ran.stderr.contains(r"apply 'it'\''s mine.toml' --auto-approve --state 'my state'"), "{}", ran.stderr);
    let ran = world.run(&["apply", "it's mine.toml", "--state", "my state", "--auto-approve"]).ended(0);
    let next = ran.stderr.lines().find_map(|line| line.strip_prefix("next: ")).expect("the next command");
    let shown = Command::new("sh").args(["-c", next]).current_dir(world.path("")).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "bkt,a,,200,\n", "{next}");
}

#[test]
fn no_value_of_a_plan_passes_for_a_line_of_the_summary() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    let plan = fs::read_to_string(world.path("plan.toml")).expect("the plan");
    let description = "description = \"fine\\n  operation  none\"\n";
    world.write("plan.toml", format!("{description}{plan}"));
    let ran = world.apply();
    assert!(!ran.stderr.contains("\n  operation  none"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n|   operation  none\n"), "{}", ran.stderr);
}

#[test]
fn an_invalid_plan_is_shown_and_refused() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(&TAG.replace("bucket", "buckt"));
    let ran = world.apply().ended(2);
    assert!(ran.stderr.contains("did you mean `bucket`?"), "{}", ran.stderr);
    assert!(ran.stderr.contains("plan.toml:8:1"), "{}", ran.stderr);
}

#[test]
fn missing_credentials_are_said_before_anything_else() {
    let s3 = "[store]\nprovider = \"s3\"\nendpoint = \"http://127.0.0.1:9\"\n";
    let oss = "[store]\nprovider = \"oss\"\nendpoint = \"http://127.0.0.1:9\"\nregion = \"cn-hangzhou\"\n";
    for (store, variable) in [(s3, "AWS_ACCESS_KEY_ID"), (oss, "OSS_ACCESS_KEY_ID")] {
        let world = World::filled("");
        world.write("plan.toml", format!("name = \"t\"\n{store}{TAG}"));
        let ran = world.apply().ended(1);
        assert!(ran.stderr.contains("no credentials"), "{}", ran.stderr);
        assert!(ran.stderr.contains(variable), "{}", ran.stderr);
        assert!(jobs(&world).is_empty());
    }
}

#[test]
fn a_server_that_is_not_there_leaves_a_job_to_resume_and_leaks_no_secret() {
    let world = World::filled("");
    // Port 9 of loopback has nobody listening; the manifest cannot be listed.
    let store = "[store]\nprovider = \"s3\"\nendpoint = \"http://127.0.0.1:9\"\n";
    world.write("plan.toml", format!("name = \"t\"\n{store}{TAG}"));
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIDSEEN").env("AWS_SECRET_ACCESS_KEY", "hushhush");
    let ran = Ran::of(&command.output().expect("run")).ended(1);
    assert!(ran.stderr.contains("then resume the job (batchplan resume "), "{}", ran.stderr);
    assert!(ran.stderr.to_lowercase().contains("connection refused"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hushhush") && !ran.stderr.contains("AKIDSEEN"), "{}", ran.stderr);
    let [job] = &world.jobs()[..] else { panic!("one job") };
    assert_eq!((job.status, job.progress.total), (JobStatus::Preparing, 0));
    assert!(job.reason.as_ref().is_some_and(|reason| reason.contains("cannot list")), "{job:?}");
    // With another plan, a new job takes its place: nothing was changed.
    world.write("fill.csv", "bucket,key\nbkt,a\n");
    world.plan(TAG);
    let plan = fs::read_to_string(world.path("plan.toml")).expect("the plan");
    world.write("plan.toml", plan.replace("name = \"test\"", "name = \"t\""));
    world.apply().ended(0);
}

#[test]
fn a_report_without_a_bucket_is_said_before_anything_is_changed() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(&format!("{TAG}[report]\nbucket = \"reports\"\nprefix = \"r\"\n"));
    let refused = "the report could not be published: the bucket reports does not exist\n  help: create the bucket, or \
                   change [report] in the plan, and run the same command again\n";
    for command in [&["apply", "plan.toml", "--auto-approve"][..], &["create", "plan.toml"]] {
        let ran = world.run(command).ended(6);
        assert!(ran.stderr.ends_with(refused), "{}", ran.stderr);
        assert!(world.jobs().is_empty() && jobs(&world).is_empty(), "nothing is left of it");
    }
    assert_eq!(world.objects().tags("a", None), "");
}

/// A sandbox that serves other clients until it is dropped.
struct Served {
    process: std::process::Child,
    endpoint: String,
}

impl Served {
    fn start(world: &World) -> Self {
        let mut process = world
            .command(&["sandbox", "--listen", "127.0.0.1:0", "--data", "data", "--fill", "fill.csv"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the sandbox");
        let mut endpoint = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut endpoint).expect("its endpoint");
        Self { process, endpoint: endpoint.trim().to_owned() }
    }

    /// A client that is not ours.
    fn with_client<T>(&self, ask: impl AsyncFnOnce(aws_sdk_s3::Client) -> T) -> T {
        let credentials = aws_credential_types::Credentials::new("sandbox", "sandboxsecret", None, None, "tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .http_client(sdk_http_client())
            .credentials_provider(credentials)
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(ask(aws_sdk_s3::Client::from_conf(config)))
    }
}

/// The binary, with the credentials of a sandbox.
fn with_credentials(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandboxsecret");
    command
}

impl Drop for Served {
    fn drop(&mut self) {
        signal(self.process.id(), "TERM");
        let _ = self.process.wait();
    }
}

#[test]
fn a_report_that_cannot_be_delivered_is_kept_and_sent_again_or_elsewhere() {
    let rows = (0..3600).fold("bucket,key\n".to_owned(), |rows, n| rows + &format!("bkt,k{n}\n"));
    let world = World::filled(&rows);
    let sandbox = Served::start(&world);
    sandbox.with_client(async |client| {
        client.create_bucket().bucket("reports").send().await.expect("a bucket");
    });
    let store = format!("[store]\nprovider = \"s3\"\nendpoint = \"{}\"\naddressing = \"path\"\n", sandbox.endpoint);
    let rest =
        "[report]\nbucket = \"reports\"\nprefix = \"r\"\n[limits]\nrequests_per_second = 20\n[undo]\ncapture = false\n";
    world.write("plan.toml", format!("name = \"test\"\n{store}{TAG}{rest}"));
    let mut applying = with_credentials(&world, &["apply", "plan.toml", "--auto-approve"]);
    let applying = applying.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let job = world.wait_for(JobStatus::Active).id.to_string();
    sandbox.with_client(async |client| {
        client.delete_bucket().bucket("reports").send().await.expect("deleted");
    });
    world.run(&["cancel", &job]);
    let ran = Ran::of(&applying.wait_with_output().expect("it ends")).ended(1);
    assert!(ran.stderr.contains("NoSuchBucket"), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with(&format!(
            "help: create the bucket reports, or publish it elsewhere with --to URL; the report is kept with the job; \
             publish it again: batchplan publish {}\n",
            &job[..8]
        )),
        "{}",
        ran.stderr
    );

    let run = |args: &[&str]| Ran::of(&with_credentials(&world, args).output().expect("the binary runs"));
    let ran = run(&["publish", &job]).ended(1);
    let help =
        format!("help: create the bucket reports; to publish it elsewhere: batchplan publish {} --to URL\n", &job[..8]);
    assert!(ran.stderr.ends_with(&help), "{}", ran.stderr);
    for (url, why) in [
        ("reports", "invalid --to: it has no scheme"),
        ("s3://bkt/a?x=1", "invalid --to: unknown parameter `x`"),
        ("s3://nowhere/a", "NoSuchBucket"),
    ] {
        let ran = run(&["publish", &job, "--to", url]);
        assert!(ran.code != 0 && ran.stderr.contains(why), "{url}: {}", ran.stderr);
    }

    let ran = run(&["publish", &job, "--to", "s3://bkt/else/where/"]).ended(0);
    assert_eq!(ran.stderr, format!("report: s3://bkt/else/where/{job}/results/manifest.json\n"));
    let shown = world.run(&["show", &job, "--json"]).ended(0).json();
    assert_eq!(shown["report"], format!("s3://bkt/else/where/{job}/results/manifest.json"));
    assert_eq!(shown["report_state"], "published");
    let listing = sandbox.with_client(async |client| {
        let key = format!("else/where/{job}/results/manifest.json");
        let body = client.get_object().bucket("bkt").key(key).send().await.expect("an object").body;
        body.collect().await.expect("its bytes").into_bytes()
    });
    let listing: serde_json::Value = serde_json::from_slice(&listing).expect("JSON");
    assert_eq!(listing["Results"][0]["Bucket"], "bkt");
    let key = listing["Results"][0]["Key"].as_str().expect("a key");
    assert!(key.starts_with(&format!("else/where/{job}/results/report-")), "{key}");

    // The same store can also be named by its endpoint.
    let url = format!("s3://bkt/third?endpoint={}&region=us-east-1&addressing=path", sandbox.endpoint);
    let ran = run(&["publish", &job, "--to", &url]).ended(0);
    assert_eq!(ran.stderr, format!("report: s3://bkt/third/{job}/results/manifest.json\n"));
    let again = world.run(&["publish", "AAAA"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Starts a job of an hour and waits until it works; gives the process and its record.
fn start_long_job(world: &World) -> std::process::Child {
    let rows = (0..3600).fold("bucket,key\n".to_owned(), |rows, n| rows + &format!("bkt,k{n}\n"));
    world.write("fill.csv", rows);
    world.plan(&format!(
        "{TAG}[report]\nbucket = \"bkt\"\nprefix = \"r\"\n[limits]\nrequests_per_second = 1\n[undo]\ncapture = false\n"
    ));
    let child = world
        .command(&["apply", "plan.toml", "--auto-approve", "--json"])
        .env("CI", "true")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Not a wait for time to pass, but for the job to say that it works on objects.
    world.wait_for(JobStatus::Active);
    child
}

#[test]
fn a_signal_stops_the_job_and_the_report_says_what_was_done() {
    for name in ["INT", "TERM"] {
        let world = World::filled("");
        let child = start_long_job(&world);
        signal(child.id(), name);
        let ran = Ran::of(&child.wait_with_output().expect("it ends")).ended(5);
        let result = ran.json();
        assert_eq!(result["status"], "Paused");
        let settled = result["succeeded"].as_u64().expect("a count");
        assert!(settled < 3600, "{settled}");
        let in_doubt = result["in_doubt"].as_u64().expect("a count");
        assert_eq!(result["not_attempted"], 3600 - settled - in_doubt);
        assert!(ran.stderr.contains("Pausing: finishing requests in flight"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{settled} changed, 0 failed")), "{}", ran.stderr);
        let id = &result["job_id"].as_str().expect("an id")[..8];
        assert!(ran.stderr.contains(&format!("next: batchplan resume {id}")), "{}", ran.stderr);

        // Another limit is not another plan, and what is left is done once.
        let plan = fs::read_to_string(world.path("plan.toml")).expect("the plan");
        world.write("plan.toml", plan.replace("requests_per_second = 1", "concurrency = 32"));
        let ran = world.apply().ended(0);
        assert!(ran.stderr.contains(&format!("resuming job {id} (Paused)")), "{}", ran.stderr);
        let again = ran.json();
        assert_eq!((&again["job_id"], &again["succeeded"]), (&result["job_id"], &3600.into()));
        let keys: BTreeSet<_> = world.report_rows(&again).into_iter().map(|row| row[1].clone()).collect();
        assert_eq!((world.report_rows(&again).len(), keys.len()), (3600, 3600));
    }
}

#[test]
fn preparing_that_found_too_little_room_is_gone_on_with() {
    let world = World::filled("bucket,key\nbkt,a\n");
    let plan = |room: &str| {
        world.plan(&format!("[job]\nclient_request_token = \"t\"\n{TAG}[limits]\nmax_disk = \"{room}\"\n"));
    };
    plan("1 B");
    let ran = world.apply().ended(1);
    assert_eq!(ran.json()["status"], "Preparing");
    assert!(ran.stderr.contains("raise `max_disk`"), "{}", ran.stderr);
    plan("1 MiB");
    let again = world.apply().ended(0).json();
    assert_eq!((&again["job_id"], &again["succeeded"]), (&ran.json()["job_id"], &1.into()));
}

/// A plan for three objects, of which there may be so many.
fn at_most(world: &World, limit: u32) {
    world.plan(&format!("{TAG}[job]\nclient_request_token = \"t\"\n[limits]\nmax_objects = {limit}\n"));
}

const THREE: &str = "bucket,key\nbkt,a\nbkt,b\nbkt,c\n";

#[test]
fn more_objects_than_there_may_be_are_refused_before_anything_is_changed() {
    let world = World::filled(THREE);
    at_most(&world, 2);
    let ran = world.apply().ended(6);
    assert_eq!(ran.json()["status"], "Preparing");
    assert_eq!(
        ran.stderr,
        "error: the manifest names more objects than max_objects (2)\n  help: nothing was changed; if the number is \
         right, raise `max_objects` in the plan's [limits] to resume preparing; otherwise narrow the filter\n"
    );
    assert_eq!(world.objects().tags("a", None), "");
    at_most(&world, 3);
    let again = world.apply().ended(0).json();
    assert_eq!((&again["job_id"], &again["succeeded"]), (&ran.json()["job_id"], &3.into()));
}

#[test]
fn a_limit_that_was_lowered_holds_for_what_waits_to_be_confirmed() {
    let world = World::filled(THREE);
    at_most(&world, 3);
    world.run(&["create", "plan.toml"]).ended(0);
    at_most(&world, 2);
    let ran = world.apply().ended(6);
    assert!(ran.stderr.contains("error: the manifest names 3 objects, but max_objects is 2\n"), "{}", ran.stderr);
    assert_eq!(world.objects().tags("a", None), "");
    at_most(&world, 3);
    world.apply().ended(0);
}

#[test]
fn another_number_of_objects_than_was_expected_is_refused() {
    let world = World::filled(THREE);
    world.plan(TAG);
    let expecting =
        |count: &str| world.run(&["apply", "plan.toml", "--auto-approve", "--json", "--expect-count", count]);
    let ran = expecting("4").ended(6);
    assert_eq!(ran.json()["status"], "Cancelled");
    let why = "the manifest names 3 objects, but 4 were expected";
    assert_eq!(ran.json()["reason"], why);
    let said = format!("error: {why}: nothing was changed, and the job was cancelled\n");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("if 3 is right, use --expect-count 3; otherwise fix [manifest] in the plan\n"));
    assert_eq!(world.objects().tags("a", None), "");
    assert_eq!(expecting("3").ended(0).json()["succeeded"], 3);
}

#[test]
fn the_least_permissions_of_a_plan_are_printed() {
    let world = World::filled("");
    world.plan(TAG);
    let ran = world.run(&["policy", "plan.toml"]).ended(0);
    assert_eq!(
        ran.stdout,
        r#"{
  "Statement": [
    {
      "Action": [
        "s3:ListBucket"
      ],
      "Effect": "Allow",
      "Resource": [
        "arn:aws:s3:::bkt"
      ],
      "Sid": "ListObjects"
    },
    {
      "Action": [
        "s3:GetObjectTagging",
        "s3:PutObjectTagging"
      ],
      "Effect": "Allow",
      "Resource": [
        "arn:aws:s3:::bkt/*"
      ],
      "Sid": "WorkOnObjects"
    }
  ],
  "Version": "2012-10-17"
}
"#
    );
    let trusts = world.run(&["policy", "plan.toml", "--for", "ram", "--trust"]).ended(0).json();
    assert_eq!(trusts["Statement"][0]["Principal"]["Service"][0], "oss.aliyuncs.com");
    world.write("list.csv", "bkt,a\n");
    world.plan("[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n");
    let unknown = world.run(&["policy", "plan.toml"]).ended(2);
    assert_eq!(
        unknown.stderr,
        "error: only the manifest names the buckets of the objects, not the plan\n  help: add --bucket NAME for each \
         bucket\n"
    );
    let odd = world.run(&["policy", "plan.toml", "--bucket", "*"]).ended(2);
    assert!(odd.stderr.starts_with("error: `*` is not a bucket name: it contains `*`\n"), "{}", odd.stderr);
    let told = world.run(&["policy", "plan.toml", "--bucket", "one", "--bucket", "two"]).ended(0).json();
    let resources = &told["Statement"][0]["Resource"];
    assert_eq!((&resources[0], &resources[1]), (&"arn:aws:s3:::one/*".into(), &"arn:aws:s3:::two/*".into()));
}

#[test]
fn help_and_version_are_there() {
    let world = World::filled("");
    let ran = world.run(&["--help"]).ended(0);
    for command in ["init", "validate", "apply", "publish", "schema", "sandbox", "completions"] {
        assert!(ran.stdout.contains(command), "{}", ran.stdout);
    }
    assert!(world.run(&["apply", "--help"]).ended(0).stdout.contains("Exit codes:"));
    assert!(world.run(&["--version"]).ended(0).stdout.starts_with("batchplan "));
    assert_eq!(world.run(&["aply"]).code, 2);
}
