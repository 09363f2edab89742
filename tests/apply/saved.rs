//! Plans that are saved, and applied exactly as they were looked at, or not at all; and what may not cost too much.

use std::fs;

use batchplan::job::JobStatus;
use sha2::{Digest as _, Sha256};

use crate::world::World;

const TAG: &str =
    "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"docs/\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
const FILL: &str = "bucket,key\nbkt,docs/a\nbkt,docs/b\nbkt,other\n";

/// A folder whose plan was saved.
fn saved(rest: &str) -> World {
    let world = World::filled(FILL);
    world.plan(rest);
    let planned = world.run(&["plan", "plan.toml", "--full", "--json", "--out", "plan.bpl"]).ended(0).json();
    assert_eq!(planned["counts"]["change"]["likely"], 2);
    assert_eq!(planned["saved"], "plan.bpl");
    world
}

/// Applies the saved plan, which must be refused for this, and changes nothing and leaves no job.
#[track_caller]
fn refused(world: &World, args: &[&str], why: &str) {
    let args = [&["apply", "plan.bpl", "--auto-approve"], args].concat();
    let ran = world.run(&args).ended(6);
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    assert!(world.jobs().is_empty(), "{:?}", world.jobs());
    assert_eq!(world.objects().tags("docs/b", None), "");
}

#[test]
fn a_saved_plan_is_done_where_all_is_as_it_was() {
    let world = saved(TAG);
    let result = world.run(&["apply", "plan.bpl", "--plan", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
    assert_eq!((&result["total"], &result["succeeded"]), (&2.into(), &2.into()));
    assert_eq!(world.objects().tags("docs/a", None), "t=1");
    assert_eq!(world.objects().tags("other", None), "");
    // Tags are no part of what an object is: the same may be done again.
    world.run(&["apply", "plan.bpl", "--auto-approve"]).ended(0);
    let shown = fs::read_to_string(world.path("plan.bpl")).expect("read");
    assert!(!shown.contains("sandboxsecret"), "{shown}");
}

#[test]
fn it_is_not_asked_for_without_anybody_to_answer() {
    let world = saved(TAG);
    let ran = world.run(&["apply", "plan.bpl"]).ended(6);
    assert!(ran.stderr.contains("batchplan apply plan.bpl --auto-approve"), "{}", ran.stderr);
}

#[test]
fn another_object_one_fewer_and_one_written_over_are_each_refused() {
    let world = saved(TAG);
    world.objects().write("docs/c", "new");
    refused(&world, &[], "it has 3 objects instead of 2");
    let world = saved(TAG);
    world.objects().write("docs/a", "written over");
    refused(&world, &[], "some were replaced or overwritten");
}

#[test]
fn a_file_is_known_by_its_bytes_wherever_it_is() {
    let csv = TAG.replace(
        "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"docs/\"",
        "[manifest.csv]\npath = \"list.csv\"\nfields = [\"Bucket\", \"Key\"]",
    );
    let world = World::filled(FILL);
    world.plan(&csv);
    world.write("list.csv", "bkt,docs%2Fa\nbkt,docs%2Fb\n");
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    world.write("list.csv", "bkt,docs%2Fa\nbkt,docs/b\n");
    refused(&world, &[], "SHA-256");
    // The plan in another checkout: its paths are seen from there.
    world.write("elsewhere/list.csv", "bkt,docs%2Fa\nbkt,docs%2Fb\n");
    for name in ["plan.toml", "fill.csv"] {
        world.write(&format!("elsewhere/{name}"), fs::read(world.path(name)).expect("read"));
    }
    world.run(&["apply", "plan.bpl", "--plan", "elsewhere/plan.toml", "--auto-approve"]).ended(0);
    assert_eq!(world.objects().tags("docs/b", None), "", "it was done there");
    assert!(world.path("elsewhere/data").exists());
}

#[test]
fn another_plan_and_a_damaged_file_are_refused() {
    let world = saved(TAG);
    let other = fs::read_to_string(world.path("plan.toml")).expect("read").replace("t = \"1\"", "t = \"2\"");
    world.write("other.toml", other);
    refused(&world, &["--plan", "other.toml"], "does not match the current ");
    let whole = fs::read_to_string(world.path("plan.bpl")).expect("read");
    world.write("plan.bpl", whole.replace("docs/", "other"));
    refused(&world, &[], "is damaged: its checksum");
    world.write("plan.bpl", &whole[..whole.len() / 2]);
    refused(&world, &[], "is damaged: it is truncated");
    let ran = world.run(&["apply", "plan.toml", "--plan", "plan.toml", "--auto-approve"]).ended(2);
    assert!(ran.stderr.contains("is not a saved plan"), "{}", ran.stderr);
}

#[test]
fn a_kill_between_does_not_let_another_manifest_in() {
    let world = saved(TAG);
    let mut command = world.command(&["apply", "plan.bpl", "--auto-approve"]);
    let killed = command.env("BATCHPLAN_FAILPOINT", "status-changed:1").output().expect("it runs");
    assert_eq!(killed.status.code(), None, "{}", String::from_utf8_lossy(&killed.stderr));
    assert_eq!(world.jobs()[0].status, JobStatus::Preparing);
    world.objects().write("docs/c", "new");
    refused(&world, &[], "it has 3 objects instead of 2");
}

#[test]
fn the_job_of_another_plan_is_not_taken_for_it() {
    let world = saved(TAG);
    world.run(&["create", "plan.toml"]).ended(0);
    world.run(&["confirm", world.jobs()[0].id.as_str()]).ended(0);
    let ran = world.run(&["apply", "plan.bpl", "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("was not created from this saved plan"), "{}", ran.stderr);
    world.run(&["apply", "plan.bpl", "--auto-approve", "--new"]).ended(0);
    // The job that waits is still there.
    assert_eq!(world.jobs().iter().map(|job| job.status).collect::<Vec<_>>(), [JobStatus::Complete, JobStatus::Ready]);
}

#[test]
fn a_job_that_costs_too_much_never_begins() {
    let priced = |max: &str| format!("{TAG}[prices]\nbook = \"aws-us-east-1\"\n[limits]\nmax_cost = \"{max}\"\n");
    let world = World::filled(FILL);
    world.plan(&priced("0.000001 USD"));
    let ran = world.run(&["apply", "plan.toml", "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("more than max_cost (0.000001 USD)"), "{}", ran.stderr);
    let job = world.jobs()[0].id.to_string();
    assert_eq!(world.objects().tags("docs/a", None), "");
    assert!(ran.stderr.contains("is Suspended"), "{}", ran.stderr);
    // Nor from the queue, where nobody looks.
    world.run(&["confirm", &job]).ended(0);
    let ran = world.run(&["run"]);
    assert!(ran.code == 6 && ran.stderr.contains("max_cost (0.000001 USD)"), "{} {}", ran.code, ran.stderr);
    assert_eq!(world.objects().tags("docs/a", None), "");
    let planned = world.run(&["plan", "plan.toml"]).ended(6);
    assert!(planned.stdout.contains("2 objects: 2 to change"), "{}", planned.stdout);
    // What it may cost is not what it does: the same job goes on.
    world.plan(&priced("0.01 USD"));
    let ran = world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0);
    assert_eq!(ran.json()["job_id"], job.as_str());
    assert_eq!(world.objects().tags("docs/a", None), "t=1");
}

#[test]
fn what_was_approved_keeps_its_limits_whoever_goes_on_with_it() {
    let priced = format!("{TAG}[prices]\nbook = \"aws-us-east-1\"\n[limits]\nmax_cost = \"0.000001 USD\"\n");
    let world = World::filled(FILL);
    world.plan(&priced);
    // A plan that is refused is not saved.
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(6);
    assert!(!world.path("plan.bpl").exists());
    world.plan(&priced.replace("0.000001 USD\"", "1 USD\"\nfailure_threshold = 0.01"));
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    let mut command = world.command(&["apply", "plan.bpl", "--auto-approve"]);
    command.env("BATCHPLAN_FAILPOINT", "status-changed:3").output().expect("it runs");
    assert_eq!(world.jobs()[0].status, JobStatus::Ready);
    world.plan(TAG);
    let job = world.jobs()[0].id.to_string();
    world.run(&["resume", &job]).ended(0);
    let text = world.jobs_with_plans(&job);
    assert!(text.contains("failure_threshold = 0.01"), "{text}");
}

#[test]
fn nothing_but_a_saved_plan_is_replaced() {
    let world = saved(TAG);
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    let ran = world.run(&["plan", "plan.toml", "--out", "plan.toml"]).ended(6);
    assert!(ran.stderr.contains("plan.toml already exists"), "{}", ran.stderr);
    world.run(&["validate", "plan.toml"]).ended(0);
}

#[test]
fn a_plan_may_come_from_a_pipe() {
    let world = World::filled(FILL);
    world.plan(TAG);
    let plan = fs::File::open(world.path("plan.toml")).expect("opened");
    let mut cat =
        std::process::Command::new("cat").stdin(plan).stdout(std::process::Stdio::piped()).spawn().expect("cat");
    let mut command = world.command(&["apply", "/dev/stdin", "--auto-approve"]);
    let out = command.stdin(cat.stdout.take().expect("piped")).output().expect("it runs");
    cat.wait().expect("it ends");
    // Its paths are seen from the file's folder, where there is no fill: it was read as a plan, and that is all.
    assert!(!String::from_utf8_lossy(&out.stderr).contains("invalid TOML"), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_token_that_has_done_other_objects_does_not_pass_for_these() {
    let world = World::filled(FILL);
    world.plan(&format!("{TAG}[job]\nclient_request_token = \"once\"\n"));
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    world.run(&["apply", "plan.bpl", "--auto-approve"]).ended(0);
    world.run(&["apply", "plan.bpl", "--auto-approve"]).ended(0);
    world.objects().write("docs/c", "new");
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    let ran = world.run(&["apply", "plan.bpl", "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("is over, and was not created from this saved plan"), "{}", ran.stderr);
}

#[test]
fn apply_comes_to_the_same_sum_as_plan() {
    for count in [1, 200, 201] {
        let row = |number: u32| format!("bkt,docs/{number},{},GLACIER\n", 1_u64 << 33);
        let rows = (0..count).map(row).collect::<Vec<_>>().concat();
        let world = World::filled(&format!("bucket,key,size,storage_class\n{rows}"));
        let restore = TAG.split("[operation").next().expect("a manifest").to_owned()
            + "[operation.restore_object]\ndays = 1\ntier = \"Standard\"\n[prices]\nbook = \"aws-us-east-1\"\n";
        world.plan(&restore);
        let planned = world.run(&["plan", "plan.toml", "--json"]).ended(0).json();
        assert_eq!(planned["cost"]["whole"], true, "{}", planned["cost"]);
        let known = planned["cost"]["known"].as_str().expect("a sum").to_owned();
        world.plan(&format!("{restore}[limits]\nmax_cost = \"{known}\"\n"));
        world.run(&["apply", "plan.toml", "--auto-approve"]).ended(0);
    }
}

#[test]
fn what_nobody_can_price_is_refused_where_its_cost_matters() {
    let world = World::filled(FILL);
    world.plan(&format!("{TAG}[limits]\nmax_cost = \"1000000 USD\"\n"));
    let ran = world.run(&["apply", "plan.toml", "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("no prices are known for the sandbox"), "{}", ran.stderr);
    let book = "[[entry]]";
    world.write("prices.toml", book);
    let ran = world.run(&["plan", "plan.toml", "--prices", "prices.toml"]).ended(2);
    assert!(ran.stderr.contains("prices.toml"), "{}", ran.stderr);
}

#[test]
fn every_command_shows_what_is_wrong_with_a_price_book() {
    let world = World::filled(FILL);
    world.plan(&format!("{TAG}[limits]\nmax_cost = \"1 USD\"\n[prices]\nfile = \"prices.toml\"\n"));
    world.write("prices.toml", "[[entry]]");
    let planned = world.run(&["plan", "plan.toml"]).ended(2);
    let (problems, _) = planned.stderr.split_once("error: price book").expect("an error");
    let problem = problems.lines().find(|line| !line.trim().is_empty()).expect("a problem");
    let job = world.run(&["create", "plan.toml", "--json"]).ended(0).json()["job_id"].clone();
    world.run(&["confirm", job.as_str().expect("an id")]).ended(0);
    for args in [&["run"][..], &["resume", job.as_str().expect("an id")]] {
        let ran = world.run(args).ended(2);
        assert!(ran.stderr.contains(problem), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_workflow_is_told_what_came_of_it() {
    let world = World::filled("bucket,key\nbkt,docs/a\nbkt,docs/`|<b>\n");
    world.plan(TAG);
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_OUTPUT", "out").env("GITHUB_STEP_SUMMARY", "summary.md");
        assert!(command.output().expect("it runs").status.success());
        let text = fs::read_to_string(world.path("out")).expect("outputs");
        fs::remove_file(world.path("out")).expect("removed");
        let lines: Vec<_> = text.lines().collect();
        let named = lines.chunks(3).map(|it| {
            let (name, end) = it[0].split_once("<<").expect("a name");
            assert_eq!(end, it[2]);
            format!("{name}={}", it[1])
        });
        named.collect::<Vec<_>>()
    };
    let planned = run(&["plan", "plan.toml", "--out", "plan.bpl"]);
    let digest = digest_of(&world, "plan.bpl");
    let digest = format!("saved-plan-digest={digest}");
    assert_eq!(planned, ["total=2", "changes=2", "estimated-cost=", "saved-plan=plan.bpl", &digest]);
    let summary = fs::read_to_string(world.path("summary.md")).expect("a summary");
    assert!(
        summary.starts_with("### batchplan: `test`\n\n**2 objects: 2 to change, 0 unchanged, 0 would fail**"),
        "{summary}"
    );
    let applied = run(&["apply", "plan.bpl", "--auto-approve"]);
    assert_eq!(applied[1..5], ["status=Complete", "total=2", "succeeded=2", "failed=0"]);
    assert_eq!(applied[0], format!("job-id={}", world.jobs()[0].id));
}

/// The SHA-256 of a file, as `sha256sum` has it.
fn digest_of(world: &World, name: &str) -> String {
    let digest = Sha256::digest(fs::read(world.path(name)).expect("the file"));
    batchplan_store::hex::hex(&digest)
}

#[test]
fn a_saved_plan_can_be_read_and_is_known_by_its_digest() {
    let world = World::filled(FILL);
    world.plan(TAG);
    let planned = world.run(&["plan", "plan.toml", "--out", "plan.bpl", "--full"]).ended(0).stdout;
    let digest = digest_of(&world, "plan.bpl");
    assert!(planned.contains(&format!("\nsaved: plan.bpl (SHA-256 {digest})\n\nnext: ")), "{planned}");
    let markdown = world.run(&["plan", "plan.toml", "--out", "plan.bpl", "--format", "markdown"]).ended(0).stdout;
    let digest = digest_of(&world, "plan.bpl");
    assert!(markdown.contains(&format!("| its SHA-256 | `{digest}` |")), "{markdown}");

    let page = world.run(&["show", "plan.bpl"]).ended(0).stdout;
    assert!(page.starts_with(&format!("plan.bpl is a saved plan\n  digest         {digest}\n")), "{page}");
    for row in ["  name           test\n", "  operation      put_object_tagging  t=1\n", "| [manifest.prefix]\n"] {
        assert!(page.contains(row), "{row}: {page}");
    }
    let next = format!("next: batchplan apply plan.bpl --expect-digest {digest}\n");
    assert!(page.ends_with(&next), "{page}");
    let shown = world.run(&["show", "plan.bpl", "--json"]).ended(0).json();
    assert_eq!((&shown["digest"], &shown["name"]), (&digest.as_str().into(), &"test".into()));
    assert_eq!(shown["plan"], fs::read_to_string(world.path("plan.toml")).expect("the plan"));
    let counted =
        shown["counts"]["change"].as_u64().expect("a count") + shown["counts"]["unchanged"].as_u64().expect("one");
    assert_eq!(shown["objects"], counted);

    let apply = |digest: &str| world.run(&["apply", "plan.bpl", "--auto-approve", "--expect-digest", digest]);
    let other = "0".repeat(64);
    let refused = apply(&other).ended(6);
    let why = format!("error: the saved plan plan.bpl has the digest {digest}, not {other}: nothing was changed\n");
    assert!(refused.stderr.starts_with(&why), "{}", refused.stderr);
    assert!(world.jobs().is_empty());
    assert!(apply("abc").ended(2).stderr.contains("64 hexadecimal digits"));
    let plain = world.run(&["apply", "plan.toml", "--auto-approve", "--expect-digest", &digest]).ended(2);
    assert!(
        plain.stderr.contains("plan.toml is not a saved plan\n  help: remove --expect-digest, or "),
        "{}",
        plain.stderr
    );
    apply(&format!("sha256:{digest}")).ended(0);
    // Neither a job nor a saved plan.
    let refused = world.run(&["show", "plan.toml"]).ended(2);
    assert!(refused.stderr.contains("plan.toml is neither a job nor a saved plan"), "{}", refused.stderr);
    assert!(refused.stderr.ends_with("batchplan plan plan.toml\n"), "{}", refused.stderr);
    fs::write(world.path("plan.bpl"), "{\"batchplan_saved_plan\":1,").expect("written");
    assert!(world.run(&["show", "plan.bpl"]).ended(6).stderr.contains("is damaged"));
}
