//! A bucket of objects, and one of inventories to which a day is added at a time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan::job::{JobStatus, Progress};
use batchplan::journal::{Checkpoint, Journal, StatusReason};
use batchplan_store::ObjectContent;
use batchplan_store::object::{BucketName, ObjectKey};
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use serde_json::Value as Json;

use crate::gate::Rule;
use crate::scene::{Dialect, Scene, client, store};
use crate::world::Ran;

/// The columns of the inventories, unless a test says otherwise.
pub(crate) const SCHEMA: &str = "Bucket, Key, Size, LastModifiedDate, ETag";

/// What a plan says besides its store.
pub(crate) const ONLY_CHANGED: &str = "[recurring]\nonly_changed = true\n";

/// The place, and what is done there.
pub(crate) struct Days {
    pub(crate) scene: Scene,
    runtime: tokio::runtime::Runtime,
    /// How many hours the clock is ahead.
    clock: Cell<i64>,
}

/// An object as an inventory tells of it: a key and its state.
pub(crate) type Told<'a> = (&'a str, u32);

impl Days {
    /// A bucket `bkt` that holds these objects, one `lists` for inventories, and one `audit` for reports.
    pub(crate) fn of(dialect: Dialect, keys: &[&str]) -> Self {
        Self::guarded(dialect, keys, &[])
    }

    /// Likewise, with a gate that turns away what the rules say.
    pub(crate) fn guarded(dialect: Dialect, keys: &[&str], rules: &[Rule]) -> Self {
        let mut table = String::from("bucket,key,size\nlists,seed,1\naudit,seed,1\nbkt,seed,1\n");
        for key in keys {
            let _ = writeln!(table, "bkt,{key},1");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { scene: Scene::guarded(dialect, &table, |_| {}, rules), runtime, clock: Cell::new(0) }
    }

    /// Writes `plan.toml`, which adds a tag to the objects of the newest inventory, and this. It captures none: the writes
    /// show which objects were processed, also those that are not there.
    pub(crate) fn plan(&self, rest: &str) {
        self.scene.plan_unchecked(&format!(
            "[undo]\ncapture = false\n[manifest.inventory]\nbucket = \"lists\"\nlatest = \"daily/\"\n\
             [operation.put_object_tagging]\ntags = {{ seen = \"yes\" }}\n{rest}"
        ));
    }

    /// Writes the inventory of a day, of objects in two files and in no order.
    pub(crate) fn inventory(&self, day: u32, objects: &[Told<'_>]) {
        let mut files = [String::new(), String::new()];
        for (number, (key, state)) in objects.iter().rev().enumerate() {
            let _ = writeln!(
                files[number % 2],
                "bkt,{key},{size},2026-01-01T00:00:00.000Z,{etag}",
                size = state % 7,
                etag = hex(&Md5::digest(state.to_string()))
            );
        }
        self.files(day, SCHEMA, &files);
    }

    /// Writes the inventory of a day as it is.
    pub(crate) fn files(&self, day: u32, schema: &str, files: &[String]) {
        let mut listed = Vec::new();
        for (number, text) in files.iter().enumerate() {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).expect("compressed");
            let data = encoder.finish().expect("compressed");
            let key = format!("daily/data/{day}-{number}.csv.gz");
            listed.push(serde_json::json!({ "key": key, "size": data.len(), "MD5checksum": hex(&Md5::digest(&data)) }));
            self.put("lists", &key, data);
        }
        let cloud = if self.scene.dialect == Dialect::Oss { "acs:oss" } else { "arn:aws:s3" };
        // 2026-01-01 and so many days.
        let begun = (1_767_225_600 + i64::from(day - 1) * 86_400) * 1000;
        let manifest = serde_json::json!({
            "sourceBucket": "bkt", "destinationBucket": format!("{cloud}:::lists"), "version": "2016-11-30",
            "creationTimestamp": begun.to_string(), "fileFormat": "CSV", "fileSchema": schema, "files": listed,
        })
        .to_string();
        self.put("lists", &format!("{}manifest.json", folder(day)), manifest.clone().into_bytes());
        self.put("lists", &format!("{}manifest.checksum", folder(day)), hex(&Md5::digest(&manifest)).into_bytes());
    }

    /// Writes an object.
    pub(crate) fn put(&self, bucket: &str, key: &str, content: Vec<u8>) {
        let store = store(self.scene.dialect, &self.scene.gate.behind());
        let md5 = STANDARD.encode(Md5::digest(&content));
        let (bucket, key) = (BucketName::new(bucket), ObjectKey::from(key));
        self.runtime.block_on(store.write(&bucket, &key, ObjectContent::Bytes(content.into()), &md5)).expect("written");
    }

    /// Removes an object.
    pub(crate) fn remove(&self, bucket: &str, key: &str) {
        let removal = client(&self.scene.gate.behind()).delete_object().bucket(bucket).key(key);
        self.runtime.block_on(removal.send()).expect("removed");
    }

    /// Removes the inventory of a day, but for its data files.
    pub(crate) fn remove_inventory(&self, day: u32) {
        for name in ["manifest.json", "manifest.checksum"] {
            self.remove("lists", &format!("{}{name}", folder(day)));
        }
    }

    /// The binary with these arguments; the gate forgets what was asked before.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.scene.gate.forget();
        self.scene.run(args)
    }

    /// `apply plan.toml --auto-approve --json`.
    pub(crate) fn apply(&self) -> Ran {
        self.run(&["apply", "plan.toml", "--auto-approve", "--json"])
    }

    /// Applies, and holds it to having touched exactly these objects, each once.
    #[track_caller]
    pub(crate) fn touches(&self, keys: &[&str]) -> Applied {
        let ran = self.apply();
        let touched = self.touched();
        let expected: BTreeMap<String, u32> = keys.iter().map(|key| ((*key).to_owned(), 1)).collect();
        assert_eq!(touched, expected, "{}", ran.stderr);
        let result = ran.json();
        Applied { result, ran }
    }

    /// The objects whose tags were written since the gate forgot, and how often. Nothing else of them may have been.
    pub(crate) fn touched(&self) -> BTreeMap<String, u32> {
        let mut touched = BTreeMap::new();
        for request in self.scene.gate.writes() {
            let target = request.split(' ').nth(1).expect("a target");
            let Some(object) = target.strip_prefix("/bkt/") else { continue };
            let Some((key, "tagging")) = object.split_once('?') else { panic!("{request}") };
            let key = percent_decode_str(key).decode_utf8().expect("UTF-8");
            *touched.entry(key.into_owned()).or_default() += 1;
        }
        touched
    }

    /// Has all jobs be made so many days earlier than they were.
    pub(crate) fn age_jobs(&self, days: i64) {
        let journal = rusqlite::Connection::open(self.scene.world.path(".batchplan/journal.db")).expect("a journal");
        journal.execute("UPDATE job SET created = created - ?1", [days * 86_400_000]).expect("written");
    }

    /// Has the clock stand so many hours ahead of the real one, for all commands from here on: to them it is the same
    /// as that all was recorded so much earlier.
    pub(crate) fn set_clock(&self, hours: i64) {
        let earlier = (hours - self.clock.replace(hours)) * 3_600_000;
        let journal = rusqlite::Connection::open(self.scene.world.path(".batchplan/journal.db")).expect("a journal");
        let job = ["created", "changed", "ended", "aged_from"].map(|name| ("job", name));
        let clock = ["latest", "leapt_to", "leapt_seen"].map(|name| ("clock", name));
        for (table, name) in job.into_iter().chain(clock) {
            let there = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
            let there: u32 = journal.query_row(there, [table, name], |row| row.get(0)).expect("read");
            if there == 1 {
                journal.execute(&format!("UPDATE {table} SET {name} = {name} - ?1"), [earlier]).expect("written");
            }
        }
    }

    /// All jobs, newest first, as `list` has them.
    pub(crate) fn listed(&self) -> Vec<Json> {
        let listed = self.scene.run(&["list", "--json"]).ended(0).json();
        listed["jobs"].as_array().expect("jobs").clone()
    }

    /// Makes a job of the plan, and takes it for completed without working on it: that takes hours for many objects.
    pub(crate) fn complete_without_work(&self) {
        let created = self.run(&["create", "plan.toml", "--json"]).ended(0).json();
        let journal = Journal::open(&self.scene.world.path(".batchplan")).expect("a journal");
        let job = journal.find(created["job_id"].as_str().expect("an id")).expect("the job");
        let Progress { total, .. } = job.progress;
        let checkpoint = Checkpoint {
            progress: Progress { total, succeeded: total, ..Progress::default() },
            in_doubt: 0,
            maybe_started: 0,
            active_time: Duration::ZERO,
            next_row: None,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        self.runtime.block_on(journal.record_checkpoint(job.number, checkpoint)).expect("written");
        for status in [JobStatus::Ready, JobStatus::Active, JobStatus::Complete] {
            journal.advance(&job.id, status, StatusReason::default(), jiff::Timestamp::now()).expect("moved");
        }
    }

    /// Applies, and holds it to finding nothing new.
    #[track_caller]
    pub(crate) fn finds_nothing(&self) -> Ran {
        let ran = self.apply().ended(0);
        assert_eq!(self.scene.gate.writes(), [""; 0]);
        assert_eq!(ran.json()["nothing_new"], true);
        assert!(ran.stderr.starts_with("nothing new since lists/daily/"), "{}", ran.stderr);
        ran
    }
}

/// What an apply came to.
pub(crate) struct Applied {
    pub(crate) result: Json,
    pub(crate) ran: Ran,
}

impl Applied {
    /// Fails unless this was said.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) -> &Self {
        assert!(self.ran.stderr.contains(what), "{what:?} is not in:\n{}", self.ran.stderr);
        self
    }

    /// Fails unless it ended so.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32) -> &Self {
        assert_eq!(self.ran.code, code, "{}", self.ran.stderr);
        self
    }

    /// The job's id.
    pub(crate) fn job(&self) -> &str {
        self.result["job_id"].as_str().expect("an id")
    }
}

/// The folder of a day's inventory.
pub(crate) fn folder(day: u32) -> String {
    format!("daily/2026-01-{day:02}T00-00Z/")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
