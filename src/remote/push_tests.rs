use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::*;
use crate::job::Progress;
use crate::journal::{Checkpoint, JobCreation, JobFolder, JobSource, NewJob, ReportFileRecord};
use crate::remote::local_cache::{LocalCache, fetch_jobs, pull};
use crate::remote::testing::{SandboxStates, place};
use crate::report_format::TaskStatus;

struct PushScene {
    place: SandboxStates,
    pusher: StatePusher,
    number: i64,
    id: JobId,
}

/// Creates a job that has a report of one open file.
async fn scene() -> PushScene {
    let place = place().await;
    let folder = place.folder.path().join("mirror");
    let journal = Journal::open(&folder).expect("a journal");
    let new = NewJob {
        id: JobId::random(),
        identity: "p".to_owned(),
        token: None,
        name: "p".to_owned(),
        store_identity: String::new(),
        environment_endpoints: None,
        description: None,
        source: JobSource::Plan,
        plan_file: PathBuf::from("/p.toml"),
        plan_hash: "h".to_owned(),
        plan_text: Vec::new(),
        confirmed: true,
        priority: 0,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    };
    let JobCreation::Created(job) = journal.create(new, false, Timestamp::UNIX_EPOCH).expect("created") else {
        panic!("it is new")
    };
    fs::create_dir_all(JobFolder::of(&folder, &job.id).report_folder()).expect("made");
    let pusher = again(&place, &journal, 1);
    PushScene { pusher, number: job.number, id: job.id, place }
}

/// Returns a pusher of the same local cache in another process.
fn again(place: &SandboxStates, journal: &Journal, generation: u64) -> StatePusher {
    StatePusher {
        store: place.store.clone(),
        cache: LocalCache::open(&place.folder.path().join("mirror"), "here").expect("a mirror"),
        journal: journal.clone(),
        process_name: "operator".to_owned(),
        generation,
        lockless: None,
        pushes: 0,
        pushed_files: HashMap::new(),
        uploaded_chunks: Mutex::default(),
        unneeded: Vec::new(),
    }
}

impl PushScene {
    fn file(&self) -> PathBuf {
        JobFolder::of(self.pusher.journal.state_folder(), &self.id).report_folder().join("report-0.csv")
    }

    async fn record(&self, bytes: u64) {
        let file = ReportFileRecord {
            number: 0,
            status: TaskStatus::Succeeded,
            name: "report-0.csv".to_owned(),
            bytes,
            rows: 1,
            md5: None,
            open_md5: None,
            published: false,
        };
        let checkpoint = Checkpoint {
            progress: Progress { total: 9, succeeded: bytes, ..Progress::default() },
            in_doubt: 0,
            maybe_started: 0,
            active_time: std::time::Duration::ZERO,
            next_row: None,
            parts: Vec::new(),
            files: vec![file],
            failures: Vec::new(),
        };
        self.pusher.journal.record_checkpoint(self.number, checkpoint).await.expect("recorded");
    }

    /// Returns the report as the next process finds it.
    async fn found(&self) -> String {
        let folder = self.place.folder.path().join("other");
        let _ = fs::remove_dir_all(&folder);
        let mut cache = LocalCache::open(&folder, "there").expect("a mirror");
        let head = StateSnapshot::read_newest(&self.place.store).await.expect("read").expect("one");
        pull(&self.place.store, &mut cache, head).await.expect("pulled");
        fetch_jobs(&self.place.store, &mut cache, [&self.id]).await.expect("fetched");
        fs::read_to_string(JobFolder::of(&folder, &self.id).report_folder().join("report-0.csv")).expect("it is there")
    }

    fn pieces(&self) -> Vec<String> {
        let head = self.pusher.cache.snapshot().expect("pushed");
        head.jobs[&self.id]["report/report-0.csv"].pieces.iter().map(|piece| piece.name.clone()).collect()
    }
}

#[tokio::test]
async fn as_much_of_a_report_is_pushed_as_is_recorded_and_only_what_is_new() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,two,unrecorded").expect("written");
    scene.record(4).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    assert_eq!(scene.found().await, "one,");
    let first = scene.pieces();
    assert!(!scene.pusher.push().await.expect("looked"), "nothing is new");

    scene.record(8).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    assert_eq!(scene.found().await, "one,two,");
    assert_eq!((scene.pieces().len(), &scene.pieces()[..1]), (2, &first[..]), "the first piece stays");
}

#[tokio::test]
async fn a_report_that_was_cut_and_written_anew_is_pushed_anew() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,two,").expect("written");
    scene.record(8).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    // The process dies. The next one resumes at an earlier checkpoint, and writes other rows.
    fs::write(scene.file(), "one,XXX,three,").expect("written");
    scene.record(14).await;
    scene.pusher = again(&scene.place, &scene.pusher.journal.clone(), 2);
    assert!(scene.pusher.push().await.expect("pushed"));
    assert_eq!(scene.found().await, "one,XXX,three,");
}

#[tokio::test]
async fn a_report_that_is_gone_is_left_out_in_the_end() {
    let mut scene = scene().await;
    scene.record(8).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    let head = scene.pusher.cache.snapshot().expect("pushed");
    assert!(head.jobs[&scene.id].is_empty());
}

#[tokio::test]
async fn only_files_of_the_state_are_pushed() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,").expect("written");
    scene.record(4).await;
    let folder = JobFolder::of(scene.pusher.journal.state_folder(), &scene.id).path().to_owned();
    fs::create_dir_all(folder.join("manifest")).expect("made");
    for name in ["lease", "manifest/index.json.draft", "manifest/.hidden", "manifest/part-00000.bpm", "plan.toml"] {
        fs::write(folder.join(name), "x").expect("written");
    }
    std::os::unix::fs::symlink("/etc/hostname", folder.join("manifest/link")).expect("linked");
    scene.pusher.push().await.expect("pushed");
    let head = scene.pusher.cache.snapshot().expect("pushed");
    let names: Vec<_> = head.jobs[&scene.id].keys().map(String::as_str).collect();
    assert_eq!(names, ["manifest/part-00000.bpm", "plan.toml", "report/report-0.csv"]);
}

#[tokio::test]
async fn a_push_that_arrives_late_does_not_take_the_place_of_a_newer_one() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,two,").expect("written");
    scene.record(4).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    let early = scene.pusher.cache.snapshot().cloned().expect("pushed");
    scene.record(8).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    early.write(&scene.place.store).await.expect("it arrives again");
    assert_eq!(scene.found().await, "one,two,");
}

#[tokio::test]
async fn unneeded_objects_are_removed_only_after_a_renewal() {
    let mut scene = scene().await;
    let before = MonotonicInstant::now();
    fs::write(scene.file(), "one,two,").expect("written");
    for bytes in [4, 8] {
        scene.record(bytes).await;
        assert!(scene.pusher.push().await.expect("pushed"));
    }
    let heads = async || scene.place.store.list("heads/").await.expect("listed").len();
    scene.pusher.remove_unneeded(before).await;
    assert_eq!(heads().await, 2, "nothing was verified since");
    scene.pusher.remove_unneeded(MonotonicInstant::now()).await;
    assert_eq!(heads().await, 1);
    assert_eq!(scene.found().await, "one,two,");
}

/// Adds a later push of the same generation by another process.
async fn stray(scene: &PushScene) {
    let mut head = scene.pusher.cache.snapshot().cloned().expect("pushed").next_push(1, 0, "");
    head.push = 5;
    head.write(&scene.place.store).await.expect("written");
}

#[tokio::test]
async fn the_holder_pushes_past_a_lockless_push() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,two,").expect("written");
    scene.record(4).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    stray(&scene).await;
    scene.record(8).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    assert_eq!(scene.found().await, "one,two,");
    assert_eq!(scene.pusher.cache.snapshot().map(StateSnapshot::position), Some((1, 6)));
}

#[tokio::test]
async fn a_lockless_push_beside_another_is_taken_back() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,two,").expect("written");
    scene.record(4).await;
    scene.pusher.lockless = Some(LocklessPush::start(&scene.place.store).await.expect("nobody holds it"));
    assert!(scene.pusher.push().await.expect("pushed"));
    stray(&scene).await;
    scene.record(8).await;
    let refused = scene.pusher.push().await.expect_err("another has pushed");
    assert!(matches!(refused, RemoteError::TakenOver(_)), "{refused}");
    assert_eq!(scene.place.store.list("heads/").await.expect("listed").len(), 2, "its first, and the other's");
    let newest = StateSnapshot::read_newest(&scene.place.store).await.expect("read").expect("one");
    assert_eq!(newest.position(), (1, 5));
}

#[tokio::test]
async fn many_small_pieces_become_one() {
    let mut scene = scene().await;
    fs::write(scene.file(), "x".repeat(100)).expect("written");
    for bytes in 1..=40 {
        scene.record(bytes).await;
        assert!(scene.pusher.push().await.expect("pushed"));
    }
    assert!(scene.pieces().len() <= MAX_SMALL_CHUNKS + 1, "{}", scene.pieces().len());
    assert_eq!(scene.found().await, "x".repeat(40));
}

#[tokio::test]
async fn the_files_of_many_jobs_are_pulled_together_and_a_damaged_one_spoils_no_other() {
    let mut scene = scene().await;
    fs::write(scene.file(), "one,").expect("written");
    scene.record(4).await;
    assert!(scene.pusher.push().await.expect("pushed"));
    let mut head = StateSnapshot::read_newest(&scene.place.store).await.expect("read").expect("one");
    let files = head.jobs[&scene.id].clone();
    head.jobs.extend((0..300).map(|_| (JobId::random(), files.clone())));
    let damaged = JobId::random();
    let mut missing = files;
    missing.get_mut("report/report-0.csv").expect("a report").pieces[0].sha256 = "0".repeat(64);
    head.jobs.insert(damaged.clone(), missing);
    let folder = scene.place.folder.path().join("other");
    let mut cache = LocalCache::open(&folder, "there").expect("a mirror");
    pull(&scene.place.store, &mut cache, head.clone()).await.expect("pulled");
    let error = fetch_jobs(&scene.place.store, &mut cache, head.jobs.keys()).await.expect_err("damaged");
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");

    // What was complete is recorded, and the rest can be fetched.
    let mut cache = LocalCache::open(&folder, "there").expect("a mirror");
    let others = || head.jobs.keys().filter(|job| **job != damaged);
    fetch_jobs(&scene.place.store, &mut cache, others()).await.expect("fetched");
    let cache = LocalCache::open(&folder, "there").expect("a mirror");
    for job in others() {
        let report = JobFolder::of(&folder, job).report_folder().join("report-0.csv");
        assert_eq!(fs::read_to_string(report).expect("it is there"), "one,");
        assert!(cache.has_job_files(job));
    }
    assert!(!cache.has_job_files(&damaged) && !JobFolder::of(&folder, &damaged).path().exists());
    assert!(!folder.join("jobs.draft").exists());
}

#[test]
fn a_report_leads_to_no_file_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("report-0.csv")).expect("linked");
    assert!(regular_file_metadata(&folder.path().join("report-0.csv")).is_err());
}
