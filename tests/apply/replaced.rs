//! A job that changed nothing never blocks the next one: the next apply of its plan takes its place.

use batchplan::job::JobStatus;

use crate::world::World;

const THREE: &str = "bucket,key\nbkt,a\nbkt,b/c\nbkt,b/d\n";

/// Tags what is below a prefix, with more tables.
fn plan(world: &World, prefix: &str, more: &str) {
    world.plan(&format!(
        "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"{prefix}\"\n\
         [operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n{more}"
    ));
}

fn statuses(world: &World) -> Vec<JobStatus> {
    world.jobs().iter().map(|job| job.status).collect()
}

const PRICED: &str = "[prices]\nbook = \"aws-us-east-1\"\n[limits]\nmax_cost = \"0.000001 USD\"\n";

#[test]
fn a_job_whose_manifest_could_not_be_read_leaves_nothing_behind() {
    for token in ["", "[job]\nclient_request_token = \"once\"\n"] {
        let world = World::filled(THREE);
        let csv = |file: &str| {
            let operation = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
            world.plan(&format!("[manifest.csv]\npath = \"{file}\"\n{operation}{token}"));
        };
        world.write("broken.csv", "bkt\n");
        world.write("good.csv", "bkt,a\n");
        csv("broken.csv");
        let failed = world.apply().ended(4).json()["job_id"].as_str().expect("an id").to_owned();
        let table = world.run(&["list"]).ended(0).stdout;
        assert!(table.contains("Not started") && !table.contains("Failed"), "{table}");
        let page = world.run(&["show", &failed]).ended(0).stdout;
        assert!(page.contains("is Failed (before it started: nothing was changed)\n"), "{page}");
        // The same mistake once more is not a second job.
        let again = world.apply().ended(4);
        let said = format!("replacing job {} (Failed), which changed nothing\n", &failed[..8]);
        assert!(again.stderr.contains(&said), "{}", again.stderr);
        assert_eq!(statuses(&world), [JobStatus::Failed]);
        csv("good.csv");
        world.apply().ended(0);
        assert_eq!(statuses(&world), [JobStatus::Complete]);
        let folders = std::fs::read_dir(world.path(".batchplan/jobs")).expect("a folder").count();
        assert_eq!(folders, 1, "the files of the others are gone");
    }
}

#[test]
fn a_job_that_costs_too_much_does_not_block_a_smaller_one() {
    for token in ["", "[job]\nclient_request_token = \"once\"\n"] {
        let world = World::filled(THREE);
        plan(&world, "", &format!("{PRICED}{token}"));
        world.apply().ended(6);
        assert_eq!(statuses(&world), [JobStatus::Suspended]);
        plan(&world, "b/", token);
        let ran = world.apply().ended(0);
        assert!(ran.stderr.contains(" (Suspended), which changed nothing\n"), "{}", ran.stderr);
        assert_eq!(ran.json()["succeeded"], 2);
        assert_eq!(statuses(&world), [JobStatus::Complete]);
        assert_eq!(world.objects().tags("a", None), "");
    }
}

#[test]
fn an_unexpected_number_of_objects_is_listed_once() {
    let world = World::filled(THREE);
    plan(&world, "", "[job]\nclient_request_token = \"once\"\n");
    let expecting = |count: &str| world.run(&["apply", "plan.toml", "--auto-approve", "--expect-count", count]);
    expecting("4").ended(6);
    expecting("5").ended(6);
    assert_eq!(statuses(&world), [JobStatus::Cancelled]);
    expecting("3").ended(0);
    assert_eq!(statuses(&world), [JobStatus::Complete]);
}

#[test]
fn a_job_that_was_confirmed_or_has_begun_is_not_replaced() {
    let world = World::filled(THREE);
    plan(&world, "", "");
    let job = world.run(&["create", "plan.toml", "--json"]).ended(0).json();
    world.run(&["confirm", job["job_id"].as_str().expect("an id")]).ended(0);
    plan(&world, "b/", "");
    let refused = world.apply().ended(6);
    assert!(refused.stderr.contains("the plan has changed since job "), "{}", refused.stderr);
    assert_eq!(statuses(&world), [JobStatus::Ready]);
    // Nor is one that failed on its way.
    let world = World::filled(THREE);
    world.write("list.csv", "bkt,a\nbkt,gone\nbkt,gone2\n");
    world.plan(
        "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n\
         [limits]\nconcurrency = 1\nfailure_threshold = 0.1\n",
    );
    world.apply().ended(4);
    world.run(&["apply", "plan.toml", "--auto-approve"]).ended(4);
    assert_eq!(statuses(&world), [JobStatus::Failed, JobStatus::Failed]);
}

#[test]
fn a_job_that_another_one_retries_is_kept() {
    let world = World::filled(THREE);
    plan(&world, "", "");
    let job = world.run(&["create", "plan.toml", "--json"]).ended(0).json();
    let job = job["job_id"].as_str().expect("an id");
    world.run(&["cancel", job]).ended(0);
    world.run(&["retry", job, "--auto-approve"]).ended(0);
    world.apply().ended(0);
    assert_eq!(statuses(&world), [JobStatus::Complete, JobStatus::Complete, JobStatus::Cancelled]);
}
