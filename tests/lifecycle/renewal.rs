//! Credentials that cannot be renewed: the job pauses after few requests, no object fails, and it can be resumed. And
//! what hands out credentials may say whatever it likes: it is refused by name, and nothing panics.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use batchplan::job::JobStatus;
use batchplan::journal::PauseCause;
use jiff::SignedDuration;

use crate::bucket::{Kind, Manner, Seen};
use crate::metadata::{Metadata, Source, document};
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys, short, until};
use crate::world::{Ran, World};

const OBJECTS: usize = 200;
const CONCURRENCY: usize = 32;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What the bucket has seen of requests about objects.
#[derive(Default)]
struct Tally {
    refused: usize,
    /// How often each object was worked on.
    served: BTreeMap<String, usize>,
}

fn scene() -> Scene {
    scene_of(OBJECTS, "")
}

fn scene_of(objects: usize, limits: &str) -> Scene {
    let scene = Scene::with_objects(objects);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = {CONCURRENCY}\n{limits}"));
    scene
}

/// The binary without any credentials in its environment.
fn anonymous(scene: &Scene, args: &[&str]) -> Command {
    let mut command = World::command(scene, args);
    command.env("CI", "true").env("PATH", "/usr/bin:/bin");
    command
}

/// Has the source turn bad with the first object, and the bucket refuse what has expired. `GOOD` is always taken.
fn expire(scene: &Scene, metadata: &Metadata, then: Source) -> Arc<Mutex<Tally>> {
    let (tally, mut then, metadata) = (Arc::new(Mutex::new(Tally::default())), Some(then), metadata.clone());
    let shared = Arc::clone(&tally);
    scene.server.behave(move |seen: &Seen| {
        if !seen.kind.works() {
            return Manner::Serve;
        }
        then.take().into_iter().for_each(|then| metadata.set(then));
        let mut tally = shared.lock().expect("sound");
        if seen.signer != "GOOD" && metadata.has_expired() {
            tally.refused += 1;
            return Manner::Refuse(400, "ExpiredToken");
        }
        *tally.served.entry(seen.key.clone()).or_default() += 1;
        Manner::Serve
    });
    tally
}

/// Fails unless the job waits for credentials and no object has failed; then resumes it with others.
#[track_caller]
fn assert_pauses_and_resumes(
    scene: &Scene,
    objects: usize,
    paused: &Ran,
    tally: &Mutex<Tally>,
    resume: impl Fn(Command) -> Command,
) {
    let job = scene.newest();
    assert_eq!((job.status, job.pause_cause), (JobStatus::Paused, Some(PauseCause::Credentials)), "{:?}", job.reason);
    assert_eq!(job.progress.failed, 0);
    assert!(paused.stderr.ends_with(&format!("next: batchplan resume {}\n", short(&job.id))), "{}", paused.stderr);
    assert!(!paused.stderr.contains("hush") && !paused.stderr.contains("tokentoken"), "{}", paused.stderr);
    let resumed = Running::of(resume(anonymous(scene, &["resume", job.id.as_str()]))).over().ended(0);
    assert!(!resumed.stderr.contains("hush"), "{}", resumed.stderr);
    assert_stands(&scene.newest(), JobStatus::Complete, objects as u64, 0);
    scene.assert_reported(&scene.newest(), keys(objects));
    let tally = tally.lock().expect("sound");
    assert_eq!(tally.served.len(), objects);
    assert!(tally.served.values().all(|count| *count == 1), "each object was worked on once: {:?}", tally.served);
}

/// Runs a job whose credentials expire when their source has turned bad. At most the requests in flight are refused,
/// and the source is asked no more than this often.
fn turns_bad(then: Source, source: fn(&Metadata, Command) -> Command, most_asked: usize) {
    // The objects take four seconds at least, and the credentials last for two.
    let scene = scene_of(OBJECTS, "requests_per_second = 50\n");
    let metadata = Metadata::start(Source::New(SignedDuration::from_secs(2)));
    let tally = expire(&scene, &metadata, then);
    let paused = Running::of(source(&metadata, anonymous(&scene, &APPLY))).over().ended(5);
    let refused = tally.lock().expect("sound").refused;
    assert!(refused <= CONCURRENCY, "{refused} requests were refused");
    let asked = metadata.asked();
    assert!(asked <= most_asked, "the source was asked {asked} times");
    let others = Metadata::start(Source::Says(document("GOOD", "hushhush", "tokentoken", "2099-01-01T00:00:00Z")));
    assert_pauses_and_resumes(&scene, OBJECTS, &paused, &tally, |command| source(&others, command));
}

#[test]
fn an_imds_that_answers_500_pauses_the_job() {
    turns_bad(Source::Fails(500), Metadata::as_imds, 60);
}

#[test]
fn an_imds_that_hangs_pauses_the_job() {
    turns_bad(Source::Hangs, Metadata::as_imds, 60);
}

#[test]
fn an_imds_that_repeats_itself_pauses_the_job() {
    turns_bad(Source::Again, Metadata::as_imds, 60);
}

#[test]
fn an_ecs_that_answers_500_pauses_the_job() {
    turns_bad(Source::Fails(500), Metadata::as_ecs, 40);
}

#[test]
fn an_ecs_that_repeats_itself_pauses_the_job() {
    turns_bad(Source::Again, Metadata::as_ecs, 20);
}

#[test]
fn an_ecs_that_repeats_expired_credentials_pauses_the_job() {
    let expired = document("OLD", "hushhush", "tokentoken", "2020-01-01T00:00:00Z");
    turns_bad(Source::Says(expired), Metadata::as_ecs, 20);
}

#[test]
fn an_ecs_that_gives_what_cannot_be_credentials_pauses_the_job() {
    let broken = document("NEW\n", "hushhush", "tokentoken", "2099-01-01T00:00:00Z");
    turns_bad(Source::Says(broken), Metadata::as_ecs, 20);
}

#[test]
fn credentials_that_run_out_without_others_pause_the_job_before_any_request_is_refused() {
    // The objects take six seconds at least, and the credentials last for two.
    let scene = scene_of(60, "requests_per_second = 10\n");
    let metadata = Metadata::start(Source::New(SignedDuration::from_secs(2)));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let (shared, source) = (Arc::clone(&tally), metadata.clone());
    scene.server.behave(move |seen: &Seen| {
        if seen.kind.works() {
            // Nothing more from the first object on.
            source.set(Source::Fails(500));
            *shared.lock().expect("sound").served.entry(seen.key.clone()).or_default() += 1;
        }
        Manner::Serve
    });
    let paused = Running::of(metadata.as_ecs(anonymous(&scene, &APPLY))).over().ended(5);
    let said = "Paused: no usable credentials: the credentials expired at ";
    assert!(paused.stderr.contains(said), "{}", paused.stderr);
    let others = Metadata::start(Source::New(HOUR));
    let shared = Arc::clone(&tally);
    scene.server.behave(move |seen: &Seen| {
        if seen.kind.works() {
            *shared.lock().expect("sound").served.entry(seen.key.clone()).or_default() += 1;
        }
        Manner::Serve
    });
    assert_pauses_and_resumes(&scene, 60, &paused, &tally, |command| others.as_ecs(command));
}

#[test]
fn credentials_that_are_rejected_while_objects_are_listed_leave_a_job_that_goes_on() {
    for (status, code, advice) in [
        (400, "ExpiredToken", "the credentials have expired: renew them"),
        (
            403,
            "SignatureDoesNotMatch",
            "the secret key does not match the access key: copy both again, without spaces or line breaks, and check that no \
             proxy changes the requests",
        ),
        (
            403,
            "RequestTimeTooSkewed",
            "this machine's clock differs too much from the server's, by more than 15 minutes on AWS and OSS: synchronize it",
        ),
    ] {
        let scene = Scene::paged(1000, 100);
        scene.plan(TAG);
        let mut pages = 0;
        scene.server.behave(move |seen: &Seen| {
            pages += usize::from(seen.kind == Kind::List);
            if pages > 3 { Manner::Refuse(status, code) } else { Manner::Serve }
        });
        let ran = scene.apply().ended(1);
        let job = scene.newest();
        assert_eq!((job.status, job.progress.finished()), (JobStatus::Preparing, 0), "{code}");
        let help = format!("{advice}, then resume the job: batchplan resume {}\n", short(&job.id));
        assert!(ran.stderr.ends_with(&help), "{}", ran.stderr);
        let shown = scene.run(&["show", job.id.as_str()]).ended(0).stdout;
        assert!(shown.starts_with(&format!("job {} is Preparing (stopped)\n", short(&job.id))), "{shown}");
        assert!(shown.contains(&format!("{status} {code}: ")), "{shown}");
        scene.let_go();
        scene.run(&["resume", job.id.as_str(), "--auto-approve"]).ended(0);
        let done = scene.newest();
        assert_stands(&done, JobStatus::Complete, 1000, 0);
        assert_eq!(done.reason, None);
    }
}

#[test]
fn a_store_that_cannot_be_listed_leaves_a_job_that_goes_on() {
    for (status, code, advice) in [
        (
            400,
            "AuthorizationHeaderMalformed",
            "the region in [store] or the environment is not the bucket's, or the credentials are for another service: \
             check both, then resume the job: batchplan resume [JOB]\n",
        ),
        (501, "", ""),
    ] {
        let scene = Scene::paged(10, 100);
        scene.plan(TAG);
        scene.server.behave(move |_: &Seen| Manner::Refuse(status, code));
        if advice.is_empty() {
            // What the server does not support, it does not support later.
            scene.apply().ended(4);
            continue;
        }
        let ran = scene.apply().ended(1);
        let job = scene.newest();
        assert_eq!(job.status, JobStatus::Preparing);
        assert!(ran.stderr.contains(&advice.replace("[JOB]", short(&job.id))), "{}", ran.stderr);
        scene.let_go();
        scene.run(&["resume", job.id.as_str(), "--auto-approve"]).ended(0);
        assert_stands(&scene.newest(), JobStatus::Complete, 10, 0);
    }
}

#[test]
fn while_an_sts_hangs_the_work_goes_on_with_what_is_still_valid() {
    let scene = scene_of(60, "requests_per_second = 8\n");
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("[store]\n", "[store]\nrole_arn = \"arn:aws:iam:::role/BatchRole\"\n"));
    let hanging = Arc::new(Mutex::new(false));
    let (shared, mut begun) = (Arc::clone(&hanging), false);
    scene.server.behave(move |seen: &Seen| {
        begun |= seen.kind.works();
        if seen.kind != Kind::Other {
            return Manner::Serve;
        }
        if begun {
            *shared.lock().expect("sound") = true;
            return Manner::Wait;
        }
        // New ones are wanted after half of it.
        Manner::Say(200, assumed("STS1", SignedDuration::from_secs(8)))
    });
    let running = scene.start(&APPLY);
    until("new credentials are asked for", || *hanging.lock().expect("sound"));
    let before = scene.written().len();
    until("objects are worked on meanwhile", || scene.written().len() >= before + 5);
    scene.server.behave(|seen: &Seen| match seen.kind {
        Kind::Other => Manner::Say(200, assumed("STS2", HOUR)),
        _ => Manner::Serve,
    });
    running.over().ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 60, 0);
    let asked = scene.server.log().iter().filter(|seen| seen.kind == Kind::Other).count();
    assert!(asked <= 6, "the STS was asked {asked} times");
}

fn assumed(key: &str, lives: SignedDuration) -> String {
    let until = jiff::Timestamp::now() + lives;
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>hushhush</SecretAccessKey>\
         <SessionToken>tokentoken</SessionToken><Expiration>{until:.0}</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// Fails unless the binary refuses to begin, says this, and nothing secret.
#[track_caller]
fn assert_refused(scene: &Scene, command: Command, said: &str) {
    let ran = Running::of(command).over().ended(1);
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(said), "{said}: {}", ran.stderr);
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!all.contains("hush") && !all.contains("panicked") && !all.contains('\u{1b}'), "{all:?}");
    assert_eq!(scene.server.requests(), 0, "nothing was asked of the store");
}

#[test]
fn what_cannot_be_credentials_is_refused_where_it_comes_in() {
    let scene = scene_of(3, "");
    let bad = ["hush\n", "hush\u{1}hush", "hush\u{7f}", "hüsh", "hush\u{1b}[2J"];
    let good =
        [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hushhush"), ("AWS_SESSION_TOKEN", "tokentoken")];
    for bad in bad {
        for (name, _) in good {
            let mut command = anonymous(&scene, &APPLY);
            command.envs(good).env(name, bad);
            assert_refused(&scene, command, &format!("no credentials: {name} "));
        }
        let metadata = Metadata::start(Source::New(HOUR));
        for (field, of) in [
            ("AccessKeyId", [bad, "hushhush", "tokentoken"]),
            ("SecretAccessKey", ["AKID", bad, "tokentoken"]),
            ("Token", ["AKID", "hushhush", bad]),
        ] {
            metadata.set(Source::Says(document(of[0], of[1], of[2], "2099-01-01T00:00:00Z")));
            assert_refused(&scene, metadata.as_ecs(anonymous(&scene, &APPLY)), &format!("{field} "));
            assert_refused(&scene, metadata.as_imds(anonymous(&scene, &APPLY)), &format!("{field} "));
        }
    }
}

#[test]
fn what_cannot_be_credentials_is_refused_in_profiles_and_processes() {
    let scene = scene_of(3, "");
    for bad in ["hush\u{1}hush", "hush\u{7f}", "hüsh", "hush\u{1b}[2J", "hush hush"] {
        let keys = format!("aws_access_key_id = {bad}\naws_secret_access_key = hushhush\n");
        scene.write(".aws/config", format!("[default]\n{keys}"));
        assert_refused(&scene, anonymous(&scene, &APPLY), "aws_access_key_id of the profile \"default\" ");
        // The role of a profile is asked for with another's keys, by the SDK itself.
        let role = "role_arn = arn:aws:iam::123456789012:role/R\nsource_profile = base\nregion = us-east-1\n";
        scene.write(".aws/config", format!("[default]\n{role}[profile base]\n{keys}"));
        assert_refused(&scene, anonymous(&scene, &APPLY), "aws_access_key_id of the profile \"base\" ");
        let printed = document(bad, "hushhush", "tokentoken", "2099-01-01T00:00:00Z");
        scene.write("keys.json", printed.replacen('{', "{\"Version\": 1, ", 1));
        scene.write(".aws/config", "[default]\ncredential_process = cat keys.json\n");
        assert_refused(&scene, anonymous(&scene, &APPLY), "the access key ID ");
    }
    // In the role of a plan.
    scene.write(".aws/config", "");
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("[store]\n", "[store]\nrole_arn = \"arn:aws:iam:::role/BatchRole\"\n"));
    for key in ["A&#233;", "A&#127;", ""] {
        let said = assumed("KEY", HOUR).replace("KEY", key);
        scene.server.behave(move |_| Manner::Say(200, said.clone()));
        let ran = scene.apply().ended(1);
        assert!(ran.stderr.contains("the response contains no valid credentials"), "{}", ran.stderr);
    }
}

#[test]
fn whatever_the_environment_says_nothing_panics() {
    let scene = scene_of(3, "");
    let metadata = Metadata::start(Source::New(HOUR));
    for (name, value, said) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "localhost:8080", "CREDENTIALS_FULL_URI is not a valid URL"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "127.0.0.1", "CREDENTIALS_FULL_URI is not a valid URL"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush\n", "AWS_CONTAINER_AUTHORIZATION_TOKEN contains a line break"),
        ("AWS_REGION", "us-east-1\n", "AWS_REGION is not a valid region"),
        ("AWS_EXECUTION_ENV", "hush\u{1}", "AWS_EXECUTION_ENV contains a line break"),
    ] {
        let mut command = metadata.as_ecs(anonymous(&scene, &APPLY));
        command.env(name, value);
        assert_refused(&scene, command, said);
    }
    // The SDK's own settings are not read where they could only do harm.
    let harmless = [("AWS_MAX_ATTEMPTS", "0"), ("AWS_MAX_ATTEMPTS", "x"), ("AWS_RETRY_MODE", "hush")];
    // Nor are certificates needed where nothing is encrypted.
    for (name, value) in harmless.into_iter().chain([("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")]) {
        let mut command = metadata.as_ecs(anonymous(&scene, &["apply", "plan.toml", "--auto-approve", "--new"]));
        command.env(name, value);
        Running::of(command).over().ended(0);
    }
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    let (start, rest) = plan.split_once("endpoint = ").expect("an endpoint");
    let rest = rest.split_once('\n').expect("a line").1.replace("[store]", "");
    scene.write("plan.toml", format!("{}{rest}", start.replace("\"s3\"", "\"aws\"")));
    let mut command = metadata.as_ecs(anonymous(&scene, &["apply", "plan.toml", "--auto-approve", "--new"]));
    command.env("SSL_CERT_FILE", "/nowhere");
    let ran = Running::of(command).over().ended(1);
    assert!(
        ran.stderr.starts_with("error: cannot load the CA certificates of SSL_CERT_FILE: /nowhere: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn whatever_a_metadata_service_says_nothing_panics() {
    let scene = scene_of(3, "");
    let apply = ["apply", "plan.toml", "--auto-approve", "--new"];
    let metadata = Metadata::start(Source::New(HOUR));
    for (role, ttl) in [("Role", "18446744073709551615"), ("Role", "9223372036854775807"), ("Role\n", "0"), ("R", "1")]
    {
        metadata.imds(role, ttl);
        Running::of(metadata.as_imds(anonymous(&scene, &apply))).over().ended(0);
    }
    for role in ["two\nroles", "a role", "\u{1b}[2J", "ü", ""] {
        metadata.imds(role, "21600");
        let ran = Running::of(metadata.as_imds(anonymous(&scene, &apply))).over().ended(1);
        assert!(ran.stderr.contains("names no valid role"), "{}", ran.stderr);
    }
    metadata.imds("Role", "21600");
    for ttl in ["-1", ""] {
        metadata.imds("Role", ttl);
        Running::of(metadata.as_imds(anonymous(&scene, &apply))).over().ended(1);
    }
    metadata.imds("Role", "21600");
    for expiration in ["9999999-01-01T00:00:00Z", "-2024-01-01T00:00:00Z", "99999999999999999999"] {
        metadata.set(Source::Says(document("AKID", "hushhush", "tokentoken", expiration)));
        for command in [metadata.as_imds(anonymous(&scene, &apply)), metadata.as_ecs(anonymous(&scene, &apply))] {
            let ran = Running::of(command).over().ended(1);
            assert!(ran.stderr.contains("Expiration") && !ran.stderr.contains("hush"), "{expiration}: {}", ran.stderr);
        }
    }
    // The ends of what can be written.
    for expiration in ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"] {
        metadata.set(Source::Says(document("AKID", "hushhush", "tokentoken", expiration)));
        for command in [metadata.as_imds(anonymous(&scene, &apply)), metadata.as_ecs(anonymous(&scene, &apply))] {
            Running::of(command).over().ended(0);
        }
    }
}

#[test]
fn a_signature_that_is_refused_pauses_the_job_and_says_what_was_signed_for() {
    let refusal = |code: &str, message: &str, rest: &str| {
        format!("<Error><Code>{code}</Code><Message>{message}</Message>{rest}</Error>")
    };
    for (body, said) in [
        (
            refusal("AuthorizationHeaderMalformed", "The region is wrong.", "<Region>eu-west-1</Region>"),
            "400 AuthorizationHeaderMalformed: The region is wrong. (the server expects the region eu-west-1: set \
             `region = \
             \"eu-west-1\"` in [store]); requests are signed for the region us-east-1",
        ),
        (
            refusal("AuthorizationQueryParametersError", "No.", ""),
            "400 AuthorizationQueryParametersError: No.; requests are signed for the region us-east-1",
        ),
        (
            refusal("InvalidRequest", "Please use AWS4-HMAC-SHA256.", ""),
            "400 InvalidRequest: Please use AWS4-HMAC-SHA256.; requests are signed for the region us-east-1",
        ),
        (
            refusal("InvalidArgument", "Invalid signing region.", "<EC>0002-00000208</EC>"),
            "400 InvalidArgument: Invalid signing region.; requests are signed for the region us-east-1",
        ),
    ] {
        let scene = scene();
        let mut served = 0;
        let shown = body.clone();
        scene.server.behave(move |seen: &Seen| {
            served += usize::from(seen.kind.works());
            if served > 40 && seen.kind.works() { Manner::Say(400, body.clone()) } else { Manner::Serve }
        });
        let paused = scene.apply().ended(5);
        let job = scene.newest();
        assert_eq!((job.status, job.pause_cause), (JobStatus::Paused, Some(PauseCause::Credentials)), "{shown}");
        assert_eq!(job.progress.failed, 0);
        let reason =
            format!("Paused: the service rejected the signature of the requests: {said} (the region in [store]");
        assert!(paused.stderr.contains(&reason), "{}", paused.stderr);
        scene.let_go();
        scene.run(&["resume", job.id.as_str()]).ended(0);
        assert_stands(&scene.newest(), JobStatus::Complete, OBJECTS as u64, 0);
        scene.assert_reported(&scene.newest(), keys(OBJECTS));
    }
}
