//! What failed in one run, done by the next: a report as the manifest of a plan.

use crate::world::World;

const TAG: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// Three objects of which one does not exist, done with a report in this format.
fn first_run(world: &World, format: &str) -> serde_json::Value {
    world.write("list.csv", "bkt,a\nbkt,not%2Fthere%20%2B\nbkt,b%20c\n");
    let report = format!("[report]\nbucket = \"bkt\"\nprefix = \"r/\"\nformat = \"{format}\"\n");
    let any = "[limits]\nfailure_threshold = 1\n";
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}{report}{any}"));
    world.apply().ended(3).json()
}

/// The keys that a run attempted, as its report has them.
fn attempted(world: &World, source: &str) -> Vec<String> {
    world.plan(&format!("[manifest.report]\n{source}\n{TAG}[limits]\nfailure_threshold = 1\n"));
    let ran = world.apply();
    let result = ran.json();
    assert_eq!(ran.code, if result["total"] == 0 { 0 } else { 3 }, "{}", ran.stderr);
    assert_eq!(result["total"], result["failed"], "{result}");
    world.report_rows(&result).into_iter().map(|row| row[1].clone()).collect()
}

#[test]
fn a_second_plan_takes_what_failed_in_the_first() {
    for (format, listing) in [("oss", "r/{job}/results/manifest.json"), ("aws", "r/job-{job}/manifest.json")] {
        let world = World::filled("bucket,key\nbkt,a\nbkt,b%20c\n");
        let first = first_run(&world, format);
        let key = listing.replace("{job}", first["job_id"].as_str().expect("an id"));
        let published = format!("bucket = \"bkt\"\nobject = \"{key}\"");
        let kept = format!("path = \"{}/manifest.json\"", first["report_folder"].as_str().expect("a folder"));
        for source in
            [published.as_str(), kept.as_str(), &format!("{published}\nstatus = [404]\ncode = [\"NoSuchKey\"]")]
        {
            assert_eq!(attempted(&world, source), ["not%2Fthere%20%2B"], "{source}");
        }
        assert!(attempted(&world, &format!("{published}\nstatus = [403]")).is_empty());
    }
}

#[test]
fn a_report_that_was_changed_is_refused_and_nothing_is_touched() {
    let world = World::filled("bucket,key\nbkt,a\nbkt,b%20c\n");
    let folder = first_run(&world, "oss")["report_folder"].as_str().expect("a folder").to_owned();
    // Files are numbered in the order in which they were begun: by whichever outcome came first.
    let files = ["report-0.csv", "report-1.csv"].map(|name| (name, world.path(&folder).join(name)));
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).expect("a report");
    let (name, failed) = files.iter().find(|(_, path)| read(path).contains("not%2Fthere%20%2B")).expect("a failure");
    std::fs::write(failed, read(failed).replace("not%2Fthere%20%2B", "a")).expect("written");
    world.plan(&format!("[manifest.report]\npath = \"{folder}/manifest.json\"\n[operation.delete_object_tagging]\n"));
    let ran = world.apply().ended(4);
    assert!(ran.stderr.contains(&format!("{name}: its MD5 is ")), "{}", ran.stderr);
    assert_eq!(world.objects().tags("a", None), "t=1");
}

#[test]
fn a_plan_leaves_its_own_reports_out_of_the_prefix_that_it_lists() {
    let notice = |place: &str| {
        format!(
            "warning: the plan's own reports in bkt/{place} are left out\n    help: to process them as well, use another \
             plan, which publishes its reports elsewhere\n"
        )
    };
    for (listed, published, place) in [("", "logs/reports", "logs/reports/"), ("logs/", "logs/", "logs/"), ("", "", "")]
    {
        for (versions, format) in [("current", "oss"), ("all", "aws")] {
            let world = World::filled("bucket,key\nbkt,logs/a\nbkt,logs/reports-2024/b\n");
            let manifest =
                format!("[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"{listed}\"\nversions = \"{versions}\"\n");
            let report = format!("[report]\nbucket = \"bkt\"\nprefix = \"{published}\"\nformat = \"{format}\"\n");
            world.plan(&format!("{manifest}{TAG}{report}"));
            let first = world.apply().ended(0);
            assert_eq!((&first.json()["total"], first.stderr.contains("are left out")), (&2.into(), false));
            let second = world.apply().ended(0);
            assert_eq!(second.json()["total"], 2, "{published}: {}", second.stderr);
            assert!(second.stderr.contains(&notice(place)), "{}", second.stderr);
            let planned = world.run(&["plan", "plan.toml"]).ended(0);
            assert!(planned.stdout.contains("2 objects: 0 to change"), "{}", planned.stdout);
            assert!(planned.stdout.contains("are left out\n  help: to process"), "{}", planned.stdout);
        }
    }
}

#[test]
fn a_plan_that_lists_only_reports_processes_them() {
    let world = World::filled("bucket,key\nbkt,reports/2023/old.csv\n");
    world.plan(&format!(
        "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"reports/2023/\"\n{TAG}[report]\nbucket = \"bkt\"\n\
         prefix = \"reports/\"\n"
    ));
    let ran = world.apply().ended(0);
    assert_eq!(ran.json()["total"], 1);
    assert_eq!(world.objects().tags("reports/2023/old.csv", None), "t=1");
}
