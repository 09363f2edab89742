//! Who asks, while a job runs: credentials that end before it does, roles that are taken on for it, and that nothing
//! which is secret is told to anybody but the one who is asked.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use batchplan::job::JobStatus;
use batchplan::journal::PauseCause;

use crate::bucket::{Kind, Manner, Seen};
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys, rows, short};
use crate::world::{Ran, World};

/// What every secret of these tests begins with.
const SECRETS: [&str; 2] = ["hushhush", "tokentoken"];

const OSS_ROLE: &str = "acs:ram::1234567890123456:role/BatchRole";
const S3_ROLE: &str = "arn:aws:iam:::role/BatchRole";

/// Prints new keys whenever it is asked.
const NEW_KEYS: &str = r#"n=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
printf '{"Version": 1, "AccessKeyId": "KEY%s", "SecretAccessKey": "hushhush%s", "SessionToken": "tokentoken%s",' $n $n $n
echo ' "Expiration": "2099-01-01T00:00:00Z"}'
"#;

/// Fails where a secret stands in what was said, or in any file of the folder but this one.
#[track_caller]
fn assert_nothing_told(scene: &Scene, but: &str, said: &[&Ran]) {
    let mut texts: Vec<_> = said
        .iter()
        .flat_map(|ran| [("output".into(), ran.stdout.clone()), ("output".into(), ran.stderr.clone())])
        .collect();
    let mut folders = vec![scene.path("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name() != Some(but.as_ref()) {
                let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
                texts.push((path.display().to_string(), text));
            }
        }
    }
    assert!(texts.iter().any(|(name, _)| Path::new(name).ends_with("journal.db")), "it was looked at");
    for (name, text) in texts {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {name}");
        }
    }
}

/// Has the server call each of the first so many keys expired, once it has served ten requests about objects with it;
/// what asks for a role gets one that is new each time.
fn expire(scene: &Scene, keys: usize, code: &'static str, granted: fn(usize) -> String) {
    let (mut served, mut roles) = (HashMap::<String, usize>::new(), 0);
    scene.server.behave(move |seen: &Seen| {
        if seen.kind == Kind::Other {
            roles += 1;
            return Manner::Say(200, granted(roles));
        }
        if !seen.kind.works() {
            return Manner::Serve;
        }
        let known = served.len();
        let count = served.entry(seen.signer.clone()).or_insert_with(|| if known < keys { 0 } else { usize::MAX });
        match *count {
            10 => Manner::Refuse(403, code),
            usize::MAX => Manner::Serve,
            _ => {
                *count += 1;
                Manner::Serve
            }
        }
    });
}

/// Who signed the requests about objects, in the order of their first.
fn signers(scene: &Scene) -> BTreeSet<String> {
    scene.server.log().into_iter().filter(|seen| seen.kind.works()).map(|seen| seen.signer).collect()
}

fn no_role(_: usize) -> String {
    unreachable!("none is asked for")
}

/// The binary without any credentials in its environment.
fn anonymous(scene: &Scene, args: &[&str]) -> Command {
    let mut command = World::command(scene, args);
    command.env("CI", "true").env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn credentials_that_expire_in_mid_run_are_renewed_and_nothing_fails() {
    let scene = Scene::with_objects(60);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
    scene.write("keys.sh", NEW_KEYS);
    scene.write(".aws/config", "[default]\ncredential_process = sh keys.sh\n");
    expire(&scene, 3, "ExpiredToken", no_role);
    let ran = Running::of(anonymous(&scene, &APPLY)).over().ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 60, 0);
    scene.assert_reported(&scene.newest(), keys(60));
    let signers = signers(&scene);
    assert_eq!(signers.len(), 4, "three that expired, and the one after them: {signers:?}");
    assert!(signers.iter().all(|key| key.starts_with("KEY")), "{signers:?}");
    assert_nothing_told(&scene, "keys.sh", &[&ran]);
}

#[test]
fn where_there_are_no_others_an_expired_token_pauses_the_job() {
    let scene = Scene::with_objects(20);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 1\n"));
    expire(&scene, 1, "ExpiredToken", no_role);
    let with_token = |args: &[&str]| {
        let mut command = scene.command(args);
        command.env("AWS_SESSION_TOKEN", "tokentoken");
        Running::of(command).over()
    };
    let paused = with_token(&APPLY).ended(5);
    let job = scene.newest();
    assert_stands(&job, JobStatus::Paused, 10, 0);
    assert_eq!(job.pause_cause, Some(PauseCause::Credentials));
    let shown = scene.run(&["show", job.id.as_str()]).ended(0);
    scene.let_go();
    let resumed = with_token(&["resume", job.id.as_str()]).ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 20, 0);
    let advised = "Paused: the service rejected the credentials: 403 ExpiredToken: As the test wants it. (the \
                   credentials have expired: renew them, then resume the job)\n";
    assert!(paused.stderr.contains(advised), "{}", paused.stderr);
    assert!(paused.stderr.ends_with(&format!("next: batchplan resume {}\n", short(&job.id))), "{}", paused.stderr);
    assert_nothing_told(&scene, "", &[&paused, &shown, &resumed]);
}

/// A plan that works on this server through OSS's API, on the objects that `list.csv` names.
fn oss_plan(scene: &Scene, store: &str) {
    let endpoint = scene.server.endpoint();
    scene.write(
        "plan.toml",
        format!(
            "name = \"plan\"\n[store]\nprovider = \"oss\"\nendpoint = \"{endpoint}\"\nregion = \"cn-hangzhou\"\n{store}\n\
             [manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n\
             [report]\nenabled = false\nscope = \"all-tasks\"\n[limits]\nconcurrency = 4\n"
        ),
    );
    scene.write("list.csv", rows(keys(60)));
}

/// The binary with OSS's variables, and others that are not to be taken for them.
fn oss(scene: &Scene, args: &[&str]) -> Ran {
    let mut command = anonymous(scene, args);
    command.env("OSS_ACCESS_KEY_ID", "LTAIcaller").env("OSS_ACCESS_KEY_SECRET", "hushhush");
    command.env("OSS_SESSION_TOKEN", "tokentoken");
    command.env("AWS_ACCESS_KEY_ID", "AKIDother").env("AWS_SECRET_ACCESS_KEY", "hushhush");
    Running::of(command).over()
}

fn oss_role(n: usize) -> String {
    format!(
        r#"{{"RequestId": "R", "Credentials": {{"AccessKeyId": "STS.{n}", "AccessKeySecret": "hushhush{n}",
        "SecurityToken": "tokentoken{n}", "Expiration": "2099-01-01T00:00:00Z"}}}}"#
    )
}

pub(crate) fn s3_role(n: usize) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>STS.{n}</AccessKeyId><SecretAccessKey>hushhush{n}</SecretAccessKey>\
         <SessionToken>tokentoken{n}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// Fails unless every object was worked on in the role, and none but the caller asked for that.
#[track_caller]
fn assert_in_role(scene: &Scene, caller: &str) {
    assert_stands(&scene.newest(), JobStatus::Complete, 60, 0);
    let signers = signers(scene);
    assert!(signers.len() == 3 && signers.iter().all(|key| key.starts_with("STS.")), "{signers:?}");
    let log = scene.server.log();
    let callers: BTreeSet<_> = log.iter().filter(|seen| seen.kind == Kind::Other).map(|seen| &seen.signer).collect();
    assert_eq!(callers.into_iter().collect::<Vec<_>>(), [caller]);
    assert!(log.iter().filter(|seen| seen.kind != Kind::Other).all(|seen| seen.signer != caller));
}

#[test]
fn a_role_of_oss_is_worked_in_and_renewed() {
    let scene = Scene::with_objects(60);
    oss_plan(&scene, &format!("role_arn = \"{OSS_ROLE}\""));
    expire(&scene, 2, "SecurityTokenExpired", oss_role);
    let ran = oss(&scene, &APPLY).ended(0);
    assert_in_role(&scene, "LTAIcaller");
    let store = format!("  store      oss, {}, in the role {OSS_ROLE}\n", scene.server.endpoint());
    assert!(ran.stderr.contains(&store), "{}", ran.stderr);
    let shown = scene.run(&["show", scene.newest().id.as_str(), "--format", "xml"]).ended(0);
    let after_priority = format!("<Priority>0</Priority>\n    <RoleArn>{OSS_ROLE}</RoleArn>\n    <ProgressSummary>");
    assert!(shown.stdout.contains(&after_priority), "{}", shown.stdout);
    assert_nothing_told(&scene, "", &[&ran, &shown]);
}

#[test]
fn a_role_of_a_server_that_speaks_s3_is_worked_in_and_renewed() {
    let scene = Scene::with_objects(60);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
    let plan = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("[store]\n", &format!("[store]\nrole_arn = \"{S3_ROLE}\"\n")));
    expire(&scene, 2, "ExpiredToken", s3_role);
    // Whatever the environment says of where AWS's services are, it is the plan that decides.
    let mut command = scene.command(&APPLY);
    command.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1").env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let ran = Running::of(command).over().ended(0);
    assert_in_role(&scene, "AKIDSEEN");
    assert_nothing_told(&scene, "", &[&ran]);
}

#[test]
fn a_role_that_is_not_given_is_said_before_any_work() {
    let scene = Scene::with_objects(60);
    oss_plan(&scene, &format!("role_arn = \"{OSS_ROLE}\""));
    // It repeats what was signed, as STS does where it finds a signature wrong.
    scene.server.behave(|_| {
        let message = "No right to do this: x-acs-security-token:tokentoken\\nhushhush\\u001b[2J";
        Manner::Say(403, format!("{{\"Code\": \"NoPermission\", \"Message\": \"{message}\"}}"))
    });
    let ran = oss(&scene, &APPLY).ended(1);
    assert_eq!(
        ran.stderr,
        "error: cannot assume the role: NoPermission: No right to do this: x-acs-security-token:[hidden] [hidden] \
         [2J\n  help: check `role_arn` in [store]; the role's trust policy must allow your identity, which needs the \
         permission sts:AssumeRole\n"
    );
    assert_eq!(scene.server.requests(), 1, "it is asked for once");
    assert!(signers(&scene).is_empty());
}

#[test]
fn oss_reads_its_own_variables_and_says_which_is_missing() {
    let scene = Scene::with_objects(0);
    oss_plan(&scene, "");
    let aws = [("AWS_ACCESS_KEY_ID", "AKIDother"), ("AWS_SECRET_ACCESS_KEY", "hushhush")];
    let half = [("OSS_ACCESS_KEY_SECRET", "hushhush")];
    let copied = [("OSS_ACCESS_KEY_ID", "LTAIcaller"), ("OSS_ACCESS_KEY_SECRET", "hushhush\n")];
    let (unset, missing) = ("OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET are not set", "OSS_ACCESS_KEY_ID is not set");
    for (variables, said) in [
        (&aws[..], unset.to_owned()),
        (&half, format!("{missing}, although OSS_ACCESS_KEY_SECRET is")),
        (&copied, "OSS_ACCESS_KEY_SECRET starts or ends with white space: set it to the bare value".to_owned()),
    ] {
        let mut command = anonymous(&scene, &APPLY);
        command.envs(variables.iter().copied());
        let ran = Running::of(command).over().ended(1);
        assert!(ran.stderr.starts_with(&format!("error: no credentials: {said}\n")), "{}", ran.stderr);
        assert_eq!(ran.json()["error"]["code"], "NoCredentials", "{}", ran.stdout);
        assert!(!ran.stderr.contains("hushhush") && !ran.stdout.contains("hushhush"), "{}{}", ran.stdout, ran.stderr);
    }
    // Nor does anybody else read them.
    scene.plan(TAG);
    let ran = oss(&scene, &["validate", "plan.toml"]).ended(0);
    assert_eq!(ran.stderr, "");
    let mut command = anonymous(&scene, &APPLY);
    command.env("OSS_ACCESS_KEY_ID", "LTAIcaller").env("OSS_ACCESS_KEY_SECRET", "hushhush");
    let ran = Running::of(command).over().ended(1);
    assert!(ran.stderr.starts_with("error: no credentials: "), "{}", ran.stderr);
    assert_eq!(scene.server.requests(), 0);
}

#[test]
fn on_bad_days_no_secret_is_told() {
    let scene = Scene::with_objects(60);
    oss_plan(&scene, "");
    let mut said = Vec::new();
    scene.deny(|key| key.ends_with('7'));
    said.push(oss(&scene, &APPLY).ended(3));
    let denied = scene.newest();
    for args in [&["show", denied.id.as_str()][..], &["show", denied.id.as_str(), "--json"], &["list", "--json"]] {
        said.push(oss(&scene, args).ended(0));
    }
    for (status, code) in [(403, "SignatureDoesNotMatch"), (403, "InvalidAccessKeyId"), (400, "InvalidSecurityToken")] {
        scene.server.behave(move |seen| if seen.kind.works() { Manner::Refuse(status, code) } else { Manner::Serve });
        said.push(oss(&scene, &["apply", "plan.toml", "--auto-approve", "--new"]).ended(5));
        said.push(oss(&scene, &["cancel", scene.newest().id.as_str()]).ended(0));
    }
    // A server that repeats what was signed, in a message that ends up in the report.
    let repeated = "<Error><Code>InvalidArgument</Code><Message>not x-oss-security-token:tokentoken</Message></Error>";
    scene.server.behave(|_| Manner::Say(400, repeated.to_owned()));
    said.push(oss(&scene, &["apply", "plan.toml", "--auto-approve", "--new"]).ended(4));
    let rows = fs::read_to_string(scene.folder(&scene.newest()).join("report/report-0.csv")).expect("a report");
    assert!(rows.contains("not x-oss-security-token:[hidden]"), "{rows}");
    said.push(oss(&scene, &["show", scene.newest().id.as_str(), "--json"]).ended(0));
    assert_nothing_told(&scene, "", &said.iter().collect::<Vec<_>>());
}
