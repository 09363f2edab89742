//! What a seed decides: the objects, the plan, what goes wrong and when the job is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use batchplan_store::object::ObjectKey;

use crate::bucket::{BucketServer, Faults, Kind, Moment, Object};
use crate::judge::Expected;

/// Objects in flight at once.
pub(crate) const CONCURRENCY: u64 = 8;
/// Objects that are settled between two checkpoints.
pub(crate) const CHECKPOINT_EVERY: u64 = 16;
/// Keys in a page of a listing, few enough for a listing to have several.
pub(crate) const PAGE: usize = 50;

/// The bucket that is worked on, the one that holds manifests, and the one that takes reports.
pub(crate) const BUCKETS: &[&str] = &["bkt", "lists", "reports"];

/// The points at which the binary kills itself when it is told to.
pub(crate) const FAILPOINTS: &[&str] = &[
    "report-flushed",
    "report-synced",
    "journal-before-commit",
    "journal-after-commit",
    "segment-sealed",
    "segment-sent",
    "part-sealed",
    "status-changed",
    "report-finished",
    "captures-synced",
];

/// What some keys end in.
const ODD_ENDS: &[&str] = &["", "", "", "", " b", "+c", "%2Fd", "/é", "\"q\",", "?x#y"];

/// Where the rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Prefix,
    LocalCsv,
    CsvInBucket,
}

/// Which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    All,
    /// Those about the manifest's objects.
    Work,
    /// Those that send a file of the report.
    Uploads,
}

impl Among {
    /// Whether a request of this kind is one of them.
    pub(crate) fn test(self) -> fn(Kind) -> bool {
        match self {
            Self::All => |_| true,
            Self::Work => Kind::works,
            Self::Uploads => |kind| kind == Kind::PutObject,
        }
    }
}

/// What ends a run before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// The nth of these requests.
    Request { nth: u64, among: Among, moment: Moment },
    /// The nth time that the binary comes by this point.
    Failpoint { name: &'static str, nth: u64 },
}

/// One job, and all that befalls it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) source: Source,
    /// Whether tags are added, not replaced.
    pub(crate) adds: bool,
    /// Whether the report goes to a bucket.
    pub(crate) published: bool,
    /// The report's format, as plans name it.
    pub(crate) format: &'static str,
    /// The manifest's rows in the order of a CSV, and whether the object is there.
    pub(crate) rows: Vec<(ObjectKey, bool)>,
    pub(crate) faults: Faults,
    pub(crate) kills: Vec<Kill>,
}

impl Scenario {
    /// The job of a seed, over so many objects, with no kill in it and nothing that goes wrong but objects that are
    /// missing: some in all jobs but one of eight.
    pub(crate) fn quiet(seed: u64, objects: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let source = match (seed % 2, random.bool()) {
            (0, _) => Source::Prefix,
            (_, false) => Source::LocalCsv,
            (_, true) => Source::CsvInBucket,
        };
        let some_missing = seed % 8 != 3;
        let mut row = |n| {
            let end = ODD_ENDS[random.usize(..ODD_ENDS.len())];
            let there = !some_missing || n > 0 && random.f64() > 0.08;
            (ObjectKey::from(format!("documents/{n:05}{end}").as_str()), there)
        };
        let mut rows: Vec<_> = (0..objects).map(&mut row).collect();
        if source != Source::Prefix {
            let twice = (0..objects / 10).map(|_| rows[random.usize(..objects)].clone()).collect::<Vec<_>>();
            rows.extend(twice);
            random.shuffle(&mut rows);
        }
        Self {
            seed,
            source,
            adds: seed / 2 % 2 == 1,
            published: seed / 4 % 2 == 1,
            format: if random.bool() { "oss" } else { "aws" },
            rows,
            faults: Faults::default(),
            kills: Vec::new(),
        }
    }

    /// The job of a seed, on a bad network, killed one to four times.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(!seed);
        let mut scenario = Self::quiet(seed, random.usize(200..=280));
        let mut share = |most: f64| most * random.f64();
        scenario.faults = Faults {
            throttled: share(0.03),
            broken: share(0.01),
            unheard: share(0.01),
            lost: share(0.01),
            latency: Duration::from_millis(1).mul_f64(share(3.0)),
        };
        let rows = scenario.rows.len() as u64;
        // Each row is one request at least, so that the first kill comes before the end.
        scenario.kills.push(match random.u8(..5) {
            0 => drawn_request(3, Among::All, &mut random),
            _ => drawn_request(rows, Among::Work, &mut random),
        });
        for _ in 0..random.usize(..4) {
            scenario.kills.push(match random.u8(..10) {
                0 => drawn_request(10, Among::All, &mut random),
                1 => drawn_request(3, Among::Uploads, &mut random),
                2..=5 => drawn_request(rows / 2, Among::Work, &mut random),
                _ => Kill::Failpoint { name: FAILPOINTS[random.usize(..FAILPOINTS.len())], nth: random.u64(1..=5) },
            });
        }
        scenario
    }

    /// Makes the objects, the manifest and the plan.
    pub(crate) fn lay_out(&self, server: &BucketServer, folder: &Path) {
        for (key, there) in &self.rows {
            // A listing names what is gone by the time that it is asked for; a CSV may name what never was.
            if *there || self.source == Source::Prefix {
                server.put("bkt", key.as_bytes(), Object { tags: before(), gone: !there, ..Object::default() });
            }
        }
        server.put("bkt", "other/object", Object { tags: before(), ..Object::default() });
        let lines: Vec<_> = self.rows.iter().map(|(key, _)| format!("bkt,{}\n", key.encoded())).collect();
        let csv = lines.concat();
        match self.source {
            Source::Prefix => {}
            Source::LocalCsv => fs::write(folder.join("list.csv"), csv).expect("written"),
            Source::CsvInBucket => {
                server.put("lists", "list.csv", Object { body: csv.into(), ..Object::default() });
            }
        }
        fs::write(folder.join("plan.toml"), self.plan(&server.endpoint())).expect("written");
    }

    fn plan(&self, endpoint: &str) -> String {
        let seed = self.seed;
        let manifest = match self.source {
            Source::Prefix => "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"documents/\"\n",
            Source::LocalCsv => "[manifest.csv]\npath = \"list.csv\"\n",
            Source::CsvInBucket => "[manifest.csv]\nbucket = \"lists\"\nobject = \"list.csv\"\n",
        };
        let operation = if self.adds { "add_object_tagging" } else { "put_object_tagging" };
        let place = if self.published { "bucket = \"reports\"\nprefix = \"audit\"" } else { "enabled = false" };
        let format = self.format;
        // With a token, whoever asks again about a job that was killed as it ended is told how it ended.
        format!(
            "name = \"crash {seed}\"\n\
             [store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\naddressing = \"path\"\n\
             {manifest}[operation.{operation}]\ntags = {{ new = \"{seed}\" }}\n\
             [report]\n{place}\nscope = \"all-tasks\"\nformat = \"{format}\"\n\
             [job]\nclient_request_token = \"crash-{seed}\"\n\
             [limits]\nconcurrency = {CONCURRENCY}\nfailure_threshold = 1.0\n"
        )
    }

    /// What the job should come to.
    pub(crate) fn expected(&self) -> Expected {
        Expected {
            bucket: "bkt",
            rows: self.rows.clone(),
            skips: self.adds,
            concurrency: CONCURRENCY,
            checkpoint_every: CHECKPOINT_EVERY,
        }
    }

    /// The objects that are not in the state that the job should leave them in.
    pub(crate) fn wrong_objects(&self, server: &BucketServer) -> Vec<String> {
        let tags = |key: &ObjectKey| server.state("bkt", key.as_bytes()).map(|object| object.tags);
        let mut after = if self.adds { before() } else { BTreeMap::new() };
        after.insert("new".to_owned(), self.seed.to_string());
        let untouched = (self.source == Source::Prefix).then(before);
        let wanted = |there| if there { Some(after.clone()) } else { untouched.clone() };
        let wrong = self.rows.iter().filter(|(key, there)| tags(key) != wanted(*there));
        let mut wrong: Vec<_> = wrong.map(|(key, _)| key.to_string()).collect();
        let bystander = ObjectKey::from("other/object");
        if tags(&bystander) != Some(before()) {
            wrong.push(bystander.to_string());
        }
        wrong
    }
}

/// The tags that every object begins with.
pub(crate) fn before() -> BTreeMap<String, String> {
    BTreeMap::from([("kept".to_owned(), "1".to_owned())])
}

fn drawn_request(most: u64, among: Among, random: &mut fastrand::Rng) -> Kill {
    let moment = if random.bool() { Moment::Arrived } else { Moment::CarriedOut };
    Kill::Request { nth: random.u64(1..=most), among, moment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same() {
        for seed in 0..20 {
            assert_eq!(Scenario::drawn(seed), Scenario::drawn(seed));
            assert_ne!(Scenario::drawn(seed).rows, Scenario::drawn(seed + 1).rows);
        }
    }

    #[test]
    fn twenty_seeds_draw_some_of_everything() {
        let drawn: Vec<_> = (0..20).map(Scenario::drawn).collect();
        for source in [Source::Prefix, Source::LocalCsv, Source::CsvInBucket] {
            for adds in [false, true] {
                assert!(drawn.iter().any(|drawn| (drawn.source, drawn.adds) == (source, adds)), "{source:?} {adds}");
            }
        }
        for published in [false, true] {
            for format in ["oss", "aws"] {
                assert!(drawn.iter().any(|drawn| (drawn.published, drawn.format) == (published, format)));
            }
        }
        let kills: Vec<_> = drawn.iter().flat_map(|drawn| &drawn.kills).collect();
        for wanted in [Among::All, Among::Work, Among::Uploads] {
            assert!(kills.iter().any(|kill| matches!(kill, Kill::Request { among, .. } if *among == wanted)));
        }
        assert!(kills.iter().filter(|kill| matches!(kill, Kill::Failpoint { .. })).count() > 5);
        assert!(drawn.iter().any(|drawn| drawn.rows.iter().all(|(_, there)| *there)));
        assert!(drawn.iter().filter(|drawn| drawn.rows.iter().any(|(_, there)| !there)).count() > 10);
    }
}
