//! A bit that turns in what a paused job left on the disk: its report is right all the same, or the damage is named.
//!
//! Each case damages one place of one file and resumes. `BATCHPLAN_DAMAGE_CASES` sets how many places are drawn, 40
//! where it is absent; `BATCHPLAN_DAMAGE_SEED` draws others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use batchplan::job::JobStatus;
use batchplan::journal::{JobRecord, PauseCause};
use rusqlite::Connection;

use crate::bucket::{Kind, Manner, Object};
use crate::scene::{APPLY, Scene, TAG, assert_stands, key, keys, until};
use crate::world::Ran;

/// The objects of the job; those that fail, of which some were attempted.
const OBJECTS: usize = 12;
const FAILING: [usize; 3] = [1, 3, 11];

/// Refuses the writes that fail, and lets the others through.
fn deny(scene: &Scene) {
    scene.deny(|object| FAILING.iter().any(|n| key(*n) == object));
}

/// A job that was stopped with some of its objects done and some failed.
fn stopped(rest: &str) -> (Scene, JobRecord) {
    let scene = Scene::with_objects(OBJECTS);
    scene.plan(&format!("{TAG}{rest}\n[limits]\nconcurrency = 4\nfailure_threshold = 1.0\n"));
    let mut left = 5;
    scene.server.behave(move |seen| {
        if !seen.kind.works() {
            return Manner::Serve;
        }
        if left == 0 {
            return Manner::Wait;
        }
        left -= 1;
        if FAILING.iter().any(|n| key(*n) == seen.key) { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
    });
    let running = scene.start(&APPLY);
    until("requests are held", || {
        let count = scene.server.count(Kind::PutTags);
        count.arrived >= 9
    });
    running.signal("TERM");
    running.wait_for("Pausing: ");
    deny(&scene);
    running.over().ended(5);
    let job = scene.newest();
    assert_eq!((job.status, job.progress.finished()), (JobStatus::Paused, 9), "{:?}", job.progress);
    (scene, job)
}

/// Everything below a folder, by its path there.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Makes a folder hold just this.
fn restore(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    // What is not there yet is no matter.
    let _ = fs::remove_dir_all(folder);
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
}

/// Fails unless the report is right, row by row, and every object as it should be; or the run refused by name.
fn judge(scene: &Scene, job: &JobRecord, case: &str, file: &Path, ran: &Ran) {
    let said = format!("{case}\nstdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{said}");
    if ran.code == 3 {
        let now = scene.job_of(job);
        let counts = (now.status, now.progress.succeeded, now.progress.failed, now.in_doubt);
        assert_eq!(counts, (JobStatus::Complete, (OBJECTS - FAILING.len()) as u64, FAILING.len() as u64, 0), "{said}");
        assert_eq!(scene.outcomes(&now), expected(), "{said}");
        for n in (0..OBJECTS).filter(|n| !FAILING.contains(n)) {
            assert_eq!(scene.tags(&key(n)), "t=1", "{said}");
        }
        return;
    }
    // A refusal: it ended so, named the file and said what to do; no report is called complete.
    assert!([1, 6].contains(&ran.code), "{said}");
    let name = file.file_name().expect("a name").to_string_lossy();
    assert!(ran.stderr.contains(&*name) || ran.stderr.contains("changed since"), "{said}");
    assert!(ran.stderr.contains("help: ") || ran.stderr.contains("next: "), "{said}");
    assert!(!scene.job_of(job).status.is_over(), "{said}");
}

/// What each object came to.
fn expected() -> BTreeMap<String, Vec<bool>> {
    (0..OBJECTS).map(|n| (key(n), vec![!FAILING.contains(&n)])).collect()
}

impl Scene {
    fn job_of(&self, job: &JobRecord) -> JobRecord {
        self.jobs().into_iter().find(|other| other.id == job.id).expect("the job")
    }

    /// What the job's report says of each object, each time that it names it.
    fn outcomes(&self, job: &JobRecord) -> BTreeMap<String, Vec<bool>> {
        let folder = self.folder(job).join("report");
        let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        let mut outcomes: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for listed in manifest["Results"].as_array().expect("results") {
            let name = listed["Key"].as_str().and_then(|key| key.rsplit('/').next()).expect("a name");
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(folder.join(name)).expect("a file");
            for row in reader.records().map(|row| row.expect("a row")) {
                outcomes.entry(row[1].to_owned()).or_default().push(row[3] == *"200");
            }
        }
        outcomes
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("a number"))
}

#[test]
fn damage_anywhere_in_a_paused_jobs_folder_is_mended_or_named() {
    let (scene, job) = stopped("");
    let state = scene.path(".batchplan");
    let whole = content(&state);
    let inside = Path::new("jobs").join(job.id.as_str());
    let files: Vec<_> = whole.keys().filter(|name| name.starts_with(&inside)).cloned().collect();
    for name in ["report-0.csv", "report-1.csv", "index.json", "part-00000.bpm"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name} is not among {files:?}");
    }
    let mut random = fastrand::Rng::with_seed(number("BATCHPLAN_DAMAGE_SEED", 1));
    let mut cases: Vec<(PathBuf, String, Vec<u8>)> = Vec::new();
    for file in &files {
        let bytes = &whole[file];
        cases.push((file.clone(), "7 bytes more".to_owned(), [bytes, &b"bkt,k9,"[..]].concat()));
        if bytes.is_empty() {
            continue;
        }
        cases.push((file.clone(), "cut in half".to_owned(), bytes[..bytes.len() / 2].to_vec()));
        cases.push((file.clone(), "emptied".to_owned(), Vec::new()));
    }
    let bytes: Vec<_> = files.iter().flat_map(|file| (0..whole[file].len()).map(move |at| (file, at))).collect();
    let drawn = usize::try_from(number("BATCHPLAN_DAMAGE_CASES", 40)).expect("few");
    for (file, at) in random.choose_multiple(bytes, drawn) {
        let mut damaged = whole[file].clone();
        let bit = random.u8(..8);
        damaged[at] ^= 1 << bit;
        cases.push((file.clone(), format!("bit {bit} of byte {at} turned"), damaged));
    }
    for (file, what, damaged) in cases {
        restore(&state, &whole);
        fs::write(state.join(&file), damaged).expect("written");
        let ran = scene.run(&["resume", job.id.as_str(), "--json"]);
        judge(&scene, &job, &format!("{}: {what}", file.display()), &file, &ran);
    }
}

/// A turned bit where the values stand that a checkpoint records: the database's own check does not see it.
#[test]
fn a_turned_bit_in_what_the_journal_recorded_is_refused() {
    let changes = [
        // Rows that the job does not have: whatever was settled, this is another value.
        "UPDATE frontier SET above = x'ffff000000000000'",
        "UPDATE frontier SET low = low + 64",
        "UPDATE job SET succeeded = succeeded - 1",
        "UPDATE job SET failed = failed + 2",
        "UPDATE job SET taken_row = taken_row + 1",
        "UPDATE job SET in_doubt = in_doubt + 1",
        "UPDATE job SET reach = reach + 1",
        "UPDATE segment SET bytes = bytes - 1 WHERE number = 0",
        "UPDATE segment SET rows = rows + 1 WHERE number = 0",
        "UPDATE segment SET published = 1 WHERE number = 0",
        "UPDATE segment SET open_md5 = 'f' || substr(open_md5, 2) WHERE number = 0",
        "UPDATE job SET plan = CAST(replace(plan, '\"1\"', '\"3\"') AS BLOB)",
    ];
    let (scene, job) = stopped("");
    let state = scene.path(".batchplan");
    let whole = content(&state);
    for change in changes {
        restore(&state, &whole);
        let connection = Connection::open(state.join("journal.db")).expect("opened");
        assert_eq!(connection.execute(change, []).expect(change), 1, "{change}");
        drop(connection);
        let before = scene.server.requests();
        let ran = scene.run(&["resume", job.id.as_str(), "--stored-plan", "--json"]).ended(1);
        assert!(ran.stderr.contains("damaged") && ran.stderr.contains("help: "), "{change}: {}", ran.stderr);
        assert_eq!(scene.server.requests(), before, "{change}");
    }
    restore(&state, &whole);
    let ran = scene.run(&["resume", job.id.as_str(), "--stored-plan", "--json"]).ended(3);
    judge(&scene, &job, "undamaged", Path::new("journal.db"), &ran);
    assert!(!ran.stderr.contains("note: "), "{}", ran.stderr);
}

#[test]
fn a_damaged_report_is_kept_and_said_and_its_objects_are_worked_on_again() {
    let (scene, job) = stopped("");
    let report = scene.folder(&job).join("report/report-0.csv");
    let mut bytes = fs::read(&report).expect("a report");
    let turned = bytes.iter().position(|byte| *byte == b'4').expect("a digit");
    bytes[turned] ^= 1;
    fs::write(&report, &bytes).expect("written");
    let ran = scene.apply().ended(3);
    let note = "report/report-0.csv: damaged since the job wrote it (its MD5 is ";
    assert!(ran.stderr.contains("note: ") && ran.stderr.contains(note), "{}", ran.stderr);
    assert!(ran.stderr.contains("9 of them for the second time"), "{}", ran.stderr);
    judge(&scene, &job, "turned", &report, &ran);
    let kept = fs::read(report.with_file_name("report-0.csv.damaged")).expect("kept");
    assert_eq!(kept, bytes);
    assert!(scene.writes().values().all(|count| *count <= 2), "{:?}", scene.writes());
}

/// What was done before, and is not in the report any more, may have been changed: a job that is stopped again says so.
#[test]
fn what_a_damaged_report_told_of_is_in_doubt_until_it_is_done_again() {
    let (scene, job) = stopped("");
    let report = scene.folder(&job).join("report/report-0.csv");
    fs::write(&report, "").expect("written");
    scene.hold_after(0);
    let arrived = scene.server.count(Kind::PutTags).arrived;
    let running = scene.start(&APPLY);
    until("requests are held", || scene.server.count(Kind::PutTags).arrived >= arrived + 4);
    running.signal("KILL");
    running.over();
    deny(&scene);
    let killed = scene.job_of(&job);
    // Any of its objects may have been worked on: before, or by the run that was killed.
    assert_eq!((killed.progress.finished(), killed.in_doubt), (0, OBJECTS as u64));
    let ran = scene.apply().ended(3);
    judge(&scene, &job, "emptied", &report, &ran);
}

/// What an earlier build left has no digests: it is resumed, and that is said once.
#[test]
fn what_was_recorded_without_digests_is_resumed_and_said_once() {
    let (scene, job) = stopped("");
    let connection = Connection::open(scene.path(".batchplan/journal.db")).expect("opened");
    connection
        .execute_batch(
            "UPDATE job SET checksum = NULL; UPDATE frontier SET checksum = NULL;
             UPDATE segment SET checksum = NULL, open_md5 = NULL;",
        )
        .expect("forgotten");
    drop(connection);
    let index = scene.folder(&job).join("manifest/index.json");
    let text = fs::read_to_string(&index).expect("an index");
    let digest = text.find(",\n  \"sha256\"").expect("a digest");
    fs::write(&index, format!("{}\n}}", &text[..digest])).expect("written");
    let note = "was started by an earlier version of batchplan, which recorded no checksums";
    scene.hold_after(0);
    let arrived = scene.server.count(Kind::PutTags).arrived;
    let running = scene.start(&APPLY);
    until("requests are held", || scene.server.count(Kind::PutTags).arrived > arrived + 1);
    running.signal("TERM");
    running.wait_for("Pausing: ");
    deny(&scene);
    let ran = running.over();
    assert_eq!(ran.stderr.matches(note).count(), 1, "{}", ran.stderr);
    // It may have had the time to end.
    if ran.code == 5 {
        let ran = scene.apply().ended(3);
        assert_eq!(ran.stderr.matches(note).count(), 0, "{}", ran.stderr);
    }
    assert_eq!(scene.outcomes(&scene.job_of(&job)), expected());
}

/// What was done and could not be recorded is neither "not attempted" nor forgotten.
#[test]
fn what_could_not_be_recorded_is_in_doubt() {
    let scene = Scene::with_objects(OBJECTS);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
    let running = scene.start_and_hold(5, 4);
    until("something is recorded", || scene.newest().progress.finished() == 5);
    let report = scene.folder(&scene.newest()).join("report");
    let aside = report.with_file_name("elsewhere");
    fs::rename(&report, &aside).expect("renamed");
    scene.let_go();
    let ran = running.over().ended(1);
    let job = scene.newest();
    assert_eq!((job.status, job.pause_cause), (JobStatus::Paused, Some(PauseCause::Machine)), "{}", ran.stderr);
    assert_eq!((job.progress.finished(), job.in_doubt), (5, scene.writes().len() as u64 - 5), "{}", ran.stderr);
    let said = format!("{} objects may have been changed without being in the report", job.in_doubt);
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    fs::rename(&aside, &report).expect("renamed");
    scene.apply().ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, OBJECTS as u64, 0);
    assert_eq!(scene.newest().in_doubt, 0);
    scene.assert_reported(&scene.newest(), keys(OBJECTS));
}

/// Only a job that another process works on is refused; a disk that does not play along is this tool's failure.
#[test]
fn a_lease_that_cannot_be_taken_is_a_failure_of_the_tool() {
    let (scene, job) = stopped("");
    let lease = scene.folder(&job).join("lease");
    fs::remove_file(&lease).expect("removed");
    fs::create_dir(&lease).expect("made");
    let ran = scene.run(&["resume", job.id.as_str()]).ended(1);
    assert!(ran.stderr.contains("lease: Is a directory") && ran.stderr.contains("check the disk"), "{}", ran.stderr);
    fs::remove_dir(&lease).expect("removed");
    scene.run(&["resume", job.id.as_str()]).ended(3);
}

/// A sealed file that is not what was sealed is not published.
#[test]
fn a_damaged_report_is_not_published() {
    let scene = Scene::with_objects(3);
    scene.plan(&format!("[report]\nbucket = \"reports\"\nprefix = \"r/\"\nscope = \"all-tasks\"\n{TAG}"));
    scene.server.behave(
        |seen| {
            if seen.kind == Kind::PutObject { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
        },
    );
    scene.apply().ended(1);
    scene.server.behave(|_| Manner::Serve);
    let job = scene.newest();
    assert_stands(&job, JobStatus::Complete, 3, 0);
    let folder = scene.folder(&job).join("report");
    for name in ["report-0.csv", "segments.json"] {
        let whole = fs::read(folder.join(name)).expect("a file");
        for at in (0..whole.len()).step_by(if name == "segments.json" { 23 } else { 40 }) {
            let mut bytes = whole.clone();
            bytes[at] ^= 2;
            fs::write(folder.join(name), &bytes).expect("written");
            let ran = scene.run(&["publish", job.id.as_str()]).ended(1);
            assert!(ran.stderr.contains(name) && ran.stderr.contains("help: "), "{name} {at}: {}", ran.stderr);
            assert!(scene.server.uploads("reports").is_empty(), "{name} {at}");
        }
        fs::write(folder.join(name), &whole).expect("written");
    }
    scene.run(&["publish", job.id.as_str()]).ended(0);
    assert_eq!(scene.server.uploads("reports").len(), 2);
    assert_eq!(scene.newest().pause_cause, None::<PauseCause>);
    scene.assert_reported(&job, keys(3));
}

/// A part of a manifest that is only half listed is listed again where it is damaged.
#[test]
fn a_damaged_half_listed_manifest_is_listed_again() {
    let scene = Scene::paged(0, 10);
    for n in 0..2000 {
        scene.server.put("bkt", key(n), Object::default());
    }
    scene.plan(TAG);
    let mut pages = 150;
    scene.server.behave(move |seen| {
        if seen.kind != Kind::List {
            return Manner::Serve;
        }
        pages -= 1;
        if pages < 0 { Manner::Wait } else { Manner::Serve }
    });
    let running = scene.start(&APPLY);
    let draft = |scene: &Scene| scene.folder(&scene.newest()).join("manifest/progress.json");
    until("a draft is kept", || !scene.jobs().is_empty() && draft(&scene).exists());
    running.signal("KILL");
    running.over();
    scene.server.behave(|_| Manner::Serve);
    let folder = scene.folder(&scene.newest()).join("manifest");
    for part in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if part.extension().is_some_and(|extension| extension == "bpm") {
            let mut bytes = fs::read(&part).expect("a part");
            if let Some(byte) = bytes.get_mut(60) {
                *byte ^= 8;
            }
            fs::write(&part, bytes).expect("written");
        }
    }
    scene.apply().ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 2000, 0);
    scene.assert_reported(&scene.newest(), keys(2000));
}
