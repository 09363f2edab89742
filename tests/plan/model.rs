//! Random buckets, and random plans for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroU32;

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, RestoreRequest, RestoreTier};
use batchplan_store::object_request::ObjectRequest;
use proptest::prelude::*;
use proptest::{collection, option, sample};
use serde_json::Value as Json;

use crate::scene::{Dialect, Scene, real_time, store};
use crate::world::World;

/// Keys of tags: few, so that those of objects and of operations are often the same.
const TAG_KEYS: [&str; 14] =
    ["a", "b", "c", "d", "stage", "old", "x y", "büro", "k+1", "k:2", "k/3", "k=4", "k_5", "k-6"];
const TAG_VALUES: [&str; 5] = ["", "1", "live", "a+b=c/d é", "2"];

/// The names of objects, some of them hard to write.
const KEYS: [&str; 12] =
    ["d/a", "d/b c", "d/d+e", "d/%41", "d/é", "d/x?tagging", "d/\"q\"", "d/1", "d/2", "d/3", "d/sub/4", "other/5"];

/// A restore that was asked for before the plan.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    request: RestoreRequest,
    /// Whether its copy is there already.
    done: bool,
}

/// An object, or the name of none.
#[derive(Clone, Debug)]
struct Thing {
    there: bool,
    /// Whether it is in the bucket that takes no ACLs.
    closed: bool,
    class: &'static str,
    tags: BTreeMap<&'static str, &'static str>,
    acl: &'static str,
    earlier: Option<Earlier>,
}

#[derive(Clone, Debug)]
enum Tagging {
    Put(BTreeMap<&'static str, &'static str>),
    Change { add: BTreeMap<&'static str, &'static str>, delete: BTreeSet<&'static str> },
    DeleteAll,
}

/// A bucket and a plan.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    dialect: Dialect,
    things: Vec<Thing>,
    tagging: Option<Tagging>,
    acl: Option<&'static str>,
    restore: Option<RestoreRequest>,
    skips: bool,
    by_prefix: bool,
}

fn tags(most: usize) -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let count = prop_oneof![3 => 0..=most, 1 => Just(most)];
    let keys = count.prop_flat_map(|count| sample::subsequence(TAG_KEYS.to_vec(), count));
    keys.prop_flat_map(|keys| {
        let values = collection::vec(sample::select(TAG_VALUES.to_vec()), keys.len());
        values.prop_map(move |values| keys.iter().copied().zip(values).collect())
    })
}

fn request(most: u32) -> impl Strategy<Value = RestoreRequest> {
    let tier = option::of(sample::select(vec![RestoreTier::Standard, RestoreTier::Bulk, RestoreTier::Expedited]));
    (1..=most, tier).prop_map(|(days, tier)| RestoreRequest { days: Some(days), tier })
}

fn thing(dialect: Dialect) -> impl Strategy<Value = Thing> {
    let (classes, acls) = match dialect {
        Dialect::Aws => (
            vec!["STANDARD", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE"],
            vec!["private", "public-read", "public-read-write", "authenticated-read"],
        ),
        Dialect::Oss => (
            vec!["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive", "Archive", "ColdArchive"],
            vec!["private", "public-read", "public-read-write", "default"],
        ),
    };
    let earlier = option::of((request(5), any::<bool>()).prop_map(|(request, done)| Earlier { request, done }));
    let closed = proptest::bool::weighted(if dialect == Dialect::Aws { 0.15 } else { 0.0 });
    let there = proptest::bool::weighted(0.85);
    (there, closed, sample::select(classes), tags(10), sample::select(acls), earlier).prop_map(
        |(there, closed, class, tags, acl, earlier)| {
            let acl = if closed { "private" } else { acl };
            Thing { there, closed, class, tags, acl, earlier }
        },
    )
}

fn tagging() -> impl Strategy<Value = Tagging> {
    let keys = collection::btree_set(sample::select(TAG_KEYS.to_vec()), 0..4);
    let change = (tags(4), keys).prop_map(|(add, delete)| {
        let delete = delete.into_iter().filter(|key| !add.contains_key(key)).collect();
        Tagging::Change { add, delete }
    });
    prop_oneof![2 => tags(10).prop_map(Tagging::Put), 4 => change, 1 => Just(Tagging::DeleteAll)]
}

/// Any case of a dialect.
pub(crate) fn case(dialect: Dialect) -> impl Strategy<Value = Case> {
    let acls = match dialect {
        Dialect::Aws => vec!["private", "public-read", "public-read-write"],
        Dialect::Oss => vec!["private", "public-read", "default"],
    };
    let operations = (
        option::weighted(0.6, tagging()),
        option::weighted(0.4, sample::select(acls)),
        option::weighted(0.5, request(9)),
        // Only S3 restores without days.
        proptest::bool::weighted(if dialect == Dialect::Aws { 0.3 } else { 0.0 }),
    );
    let things = collection::vec(thing(dialect), 1..=KEYS.len());
    (things, operations, any::<bool>(), any::<bool>())
        .prop_map(move |(things, (tagging, acl, restore, for_good), skips, by_prefix)| Case {
            dialect,
            things,
            tagging: tagging.filter(|it| !matches!(it, Tagging::Put(tags) if tags.is_empty())),
            acl,
            restore: restore.map(|request| RestoreRequest { days: request.days.filter(|_| !for_good), ..request }),
            skips,
            by_prefix,
        })
        .prop_filter("a plan does something to something", |case| {
            !case.operations().is_empty() && !case.named().is_empty()
        })
}

impl Case {
    fn bucket(thing: &Thing) -> &'static str {
        if thing.closed { "closed" } else { "bkt" }
    }

    fn names(&self, wanted: impl Fn(&Thing, &str) -> bool) -> BTreeSet<(String, String)> {
        let all = self.things.iter().zip(KEYS).filter(|(thing, key)| wanted(thing, key));
        all.map(|(thing, key)| (Self::bucket(thing).to_owned(), ObjectKey::from(key).encoded())).collect()
    }

    /// The objects that there are.
    pub(crate) fn there(&self) -> BTreeSet<(String, String)> {
        self.names(|thing, _| thing.there)
    }

    /// What the manifest names.
    pub(crate) fn named(&self) -> BTreeSet<(String, String)> {
        self.names(|thing, key| !self.by_prefix || (thing.there && !thing.closed && key.starts_with("d/")))
    }

    fn operations(&self) -> String {
        let table = |tags: &BTreeMap<&str, &str>| {
            let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("\"{key}\" = \"{value}\"")).collect();
            format!("tags = {{ {} }}\n", pairs.join(", "))
        };
        let mut tables = Vec::new();
        match &self.tagging {
            None => {}
            Some(Tagging::Put(tags)) => tables.push(format!("[operation.put_object_tagging]\n{}", table(tags))),
            Some(Tagging::DeleteAll) => tables.push("[operation.delete_object_tagging]\n".to_owned()),
            Some(Tagging::Change { add, delete }) => {
                if !add.is_empty() {
                    tables.push(format!("[operation.add_object_tagging]\n{}", table(add)));
                }
                if !delete.is_empty() {
                    tables.push(format!("[operation.delete_object_tagging]\nkeys = {:?}\n", Vec::from_iter(delete)));
                }
            }
        }
        if let Some(acl) = self.acl {
            tables.push(format!("[operation.put_object_acl]\nacl = \"{acl}\"\n"));
        }
        if let Some(RestoreRequest { days, tier }) = self.restore {
            let tier = tier.map_or_else(String::new, |tier| format!("tier = \"{}\"\n", tier.as_str()));
            let days = days.map_or_else(String::new, |days| format!("days = {days}\n"));
            tables.push(format!("[operation.restore_object]\n{days}{tier}"));
        }
        tables.concat()
    }

    /// The sandbox as the case has it, and the plan in its folder.
    pub(crate) fn scene(&self) -> Scene {
        let mut table = String::from("bucket,key,size,storage_class,tags,acl\nbkt,bystander,1,,,\naudit,x,1,,,\n");
        table += "closed,bystander,1,,,\n";
        let mut list = String::new();
        for (thing, key) in self.things.iter().zip(KEYS) {
            let (bucket, key) = (Self::bucket(thing), ObjectKey::from(key).encoded());
            let encoded = |text: &str| ObjectKey::from(text).encoded();
            let tags: Vec<_> =
                thing.tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
            if thing.there {
                let _ = writeln!(table, "{bucket},{key},7,{},{},{}", thing.class, tags.join("&"), thing.acl);
            }
            let _ = writeln!(list, "{bucket},{key}");
        }
        let world = World::filled(&table);
        world.write("list.csv", list);
        let (data, fill) = (world.path("data"), world.path("fill.csv"));
        // Where time flies, restores are done at once.
        let flies = SandboxOptions { time_scale: NonZeroU32::MAX, ..SandboxOptions::default() };
        let sandbox = Sandbox::open(&data, Some(&fill), flies).expect("a sandbox");
        if self.things.iter().any(|thing| thing.earlier.is_some_and(|earlier| earlier.done)) {
            let server =
                SandboxServer::start(sandbox, "127.0.0.1:0".parse().expect("an address"), false).expect("a server");
            self.restore_earlier(&server.endpoint(), true);
        } else {
            drop(sandbox);
        }
        let sandbox = Sandbox::open(&data, None, real_time()).expect("a sandbox");
        let scene = Scene::before(self.dialect, world, sandbox, &[]);
        self.restore_earlier(&scene.gate.behind(), false);
        scene.close("closed");
        let manifest = if self.by_prefix {
            "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"d/\"\n"
        } else {
            "[manifest.csv]\npath = \"list.csv\"\n"
        };
        let report = "[report]\nbucket = \"audit\"\nscope = \"failed-tasks-only\"\nformat = \"oss\"\n";
        let skips = if self.skips { "[job]\nskip_unchanged = true\n" } else { "" };
        let operations = self.operations();
        scene.plan_unchecked(&format!("{manifest}{operations}{report}{skips}[limits]\nfailure_threshold = 1\n"));
        scene
    }

    /// Asks for what was asked for before. What the service refuses was not.
    fn restore_earlier(&self, endpoint: &str, done: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = store(self.dialect, endpoint);
        for (thing, key) in self.things.iter().zip(KEYS).filter(|(thing, _)| thing.there) {
            let Some(earlier) = thing.earlier.filter(|earlier| earlier.done == done) else { continue };
            let object =
                ObjectId { bucket: BucketName::new(Self::bucket(thing)), key: ObjectKey::from(key), version: None };
            let _ = runtime.block_on(store.send_request(&object, &ObjectRequest::Restore(earlier.request)));
        }
    }

    /// What is done to an object before the operation that fails on it: tags come first, then ACLs, then restores.
    pub(crate) fn before_failing(&self, failed: &Json, state: &mut Json) {
        let operation = failed["operation"].as_str().expect("an operation");
        // Without an answer nothing was sent.
        if operation.contains("tagging") || failed["http"] == 0 {
            return;
        }
        match &self.tagging {
            None => {}
            Some(Tagging::Put(tags)) => state["tags"] = serde_json::json!(tags),
            Some(Tagging::DeleteAll) => state["tags"] = serde_json::json!({}),
            Some(Tagging::Change { add, delete }) => {
                let tags = state["tags"].as_object_mut().expect("tags");
                tags.extend(add.iter().map(|(key, value)| ((*key).to_owned(), Json::from(*value))));
                tags.retain(|key, _| !delete.contains(key.as_str()));
            }
        }
        if let (Some(acl), false) = (self.acl, operation.contains("acl")) {
            state["acl"] = acl.into();
        }
    }
}
