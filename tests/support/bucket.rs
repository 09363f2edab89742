//! An S3 server in memory that the test holds in its hands: it answers what batchplan's jobs ask of a bucket, fails
//! as a seed says, counts what it is asked, and calls the test at a request of the test's choosing.
//!
//! Buckets are addressed in the path, signatures are not looked at, and what jobs never ask (versions, multipart
//! uploads, delimiters) is answered with 501. It is one thread, so that whatever it does happens in one order.

#[path = "bucket/answer.rs"]
mod answer;
#[path = "bucket/asked.rs"]
mod asked;
#[path = "bucket/manner.rs"]
mod manner;
#[path = "bucket/nature.rs"]
mod nature;
#[path = "bucket/serve.rs"]
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use asked::Asked;
pub(crate) use asked::Kind;
use manner::Judge;
pub(crate) use manner::{Manner, Seen};
pub(crate) use nature::Nature;

/// How often what goes wrong, each from 0 to 1; together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// 503 `SlowDown`; nothing is carried out.
    pub(crate) throttled: f64,
    /// 500 `InternalError`; nothing is carried out.
    pub(crate) broken: f64,
    /// The connection ends without an answer; nothing is carried out.
    pub(crate) unheard: f64,
    /// The request is carried out, and the connection ends without an answer.
    pub(crate) lost: f64,
    /// The longest time that an answer takes.
    pub(crate) latency: Duration,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    Throttled,
    Broken,
    Unheard,
    Lost,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All of them.
    pub(crate) arrived: u64,
    /// Those that were carried out, or refused on their merits, and that no injected fault gave reason to repeat.
    pub(crate) served: u64,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) tags: BTreeMap<String, String>,
    /// The canned ACL; empty is `private`.
    pub(crate) acl: String,
    /// The storage class; empty is `STANDARD`.
    pub(crate) class: String,
    /// The days that a restore asked for, 0 if it asked for none. It stays under way.
    pub(crate) restoring: Option<u32>,
    /// The archive tier of an object of `INTELLIGENT_TIERING`; empty if it is in none.
    pub(crate) archive_status: String,
    pub(crate) body: Bytes,
    /// Listed, and gone when it is asked for: what a listing says may be old.
    pub(crate) gone: bool,
    /// Whether a client made it.
    pub(crate) uploaded: bool,
}

/// When, in the course of a request, the test is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything is carried out; nothing is, then.
    Arrived,
    /// When it has been carried out, before it is answered.
    CarriedOut,
}

/// A call to the test, once; the request that brings it about is not answered.
struct Trigger {
    left: u64,
    of: fn(Kind) -> bool,
    moment: Moment,
    hook: Box<dyn FnOnce() + Send>,
}

/// What was decided about a request when it arrived.
struct Arrival {
    fate: Fate,
    latency: Duration,
    hook: Option<(Moment, Box<dyn FnOnce() + Send>)>,
    number: u64,
}

/// Everything that the server and the test share.
struct Shared {
    buckets: BTreeMap<String, BTreeMap<Vec<u8>, Object>>,
    counts: HashMap<Kind, Count>,
    /// How often each object was asked for in each way: what fate is drawn from.
    asked: HashMap<u64, u64>,
    faults: Faults,
    seed: u64,
    page: usize,
    /// Whether objects are made only if they are new, where that is asked, and removed.
    conditional: bool,
    trigger: Option<Trigger>,
    judge: Judge,
    /// How often the test has set another judge.
    judges: u64,
    log: Vec<Seen>,
    nature: Nature,
    /// After how many more writes it becomes another, and which.
    turns: Option<(u64, Nature)>,
    /// How often tags or an ACL were read since it became what it is.
    looks: u32,
}

impl Shared {
    /// Counts a request and draws its fate.
    ///
    /// Fate follows from the seed, the object and how often it was asked for, so that it is the same in every run
    /// whatever order the requests come in.
    fn arrive(&mut self, asked: &Asked) -> Arrival {
        self.counts.entry(asked.kind).or_default().arrived += 1;
        self.log.push(Seen::of(asked));
        let number = self.counts.values().map(|count| count.arrived).sum();
        let mut hasher = DefaultHasher::new();
        (self.seed, asked.kind, &asked.bucket, &asked.key).hash(&mut hasher);
        let repeats = self.asked.entry(hasher.finish()).or_default();
        *repeats += 1;
        repeats.hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        let latency = self.faults.latency.mul_f64(random.f64());
        let drawn = self.faults.draw(random.f64());
        let hook = self.pulled(asked.kind);
        let fate = if hook.is_some() { Fate::Served } else { drawn };
        Arrival { fate, latency, hook, number }
    }

    /// The trigger's hook, where this is the request that it waits for.
    fn pulled(&mut self, kind: Kind) -> Option<(Moment, Box<dyn FnOnce() + Send>)> {
        let trigger = self.trigger.as_mut().filter(|trigger| (trigger.of)(kind))?;
        trigger.left -= 1;
        if trigger.left > 0 {
            return None;
        }
        self.trigger.take().map(|trigger| (trigger.moment, trigger.hook))
    }

    fn served(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().served += 1;
    }
}

impl Faults {
    fn draw(&self, drawn: f64) -> Fate {
        let mut upto = 0.0;
        let fates = [
            (self.throttled, Fate::Throttled),
            (self.broken, Fate::Broken),
            (self.unheard, Fate::Unheard),
            (self.lost, Fate::Lost),
        ];
        for (share, fate) in fates {
            upto += share;
            if drawn < upto {
                return fate;
            }
        }
        Fate::Served
    }
}

/// The server; it stops when it is dropped.
pub(crate) struct BucketServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BucketServer {
    /// Serves these buckets, empty, on a free loopback port, with pages of so many keys in listings.
    pub(crate) fn start(buckets: &[&str], page: usize, faults: Faults, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Mutex::new(Shared {
            buckets: buckets.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect(),
            counts: HashMap::new(),
            asked: HashMap::new(),
            faults,
            seed,
            page,
            conditional: false,
            trigger: None,
            judge: Box::new(|_| Manner::Serve),
            judges: 0,
            log: Vec::new(),
            nature: Nature::default(),
            turns: None,
            looks: 0,
        }));
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve::serve(listener, serving, stopped));
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes an object, or makes it anew.
    pub(crate) fn put(&self, bucket: &str, key: impl Into<Vec<u8>>, object: Object) {
        self.shared().buckets.get_mut(bucket).expect("a bucket of this server").insert(key.into(), object);
    }

    /// An object as it is now.
    pub(crate) fn state(&self, bucket: &str, key: impl AsRef<[u8]>) -> Option<Object> {
        self.shared().buckets.get(bucket)?.get(key.as_ref()).cloned()
    }

    /// The objects that clients put into a bucket, in the order of their keys.
    pub(crate) fn uploads(&self, bucket: &str) -> BTreeMap<String, Bytes> {
        let shared = self.shared();
        let objects = shared.buckets.get(bucket).expect("a bucket of this server").iter();
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        objects.filter(|(_, object)| object.uploaded).map(|(key, object)| (text(key), object.body.clone())).collect()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared().counts.values().map(|count| count.arrived).sum()
    }

    /// The requests of one kind so far.
    pub(crate) fn count(&self, kind: Kind) -> Count {
        self.shared().counts.get(&kind).copied().unwrap_or_default()
    }

    /// Calls the hook at the `nth` request of these kinds from now on, counted from 1. That request meets no fault and
    /// gets no answer. An earlier hook that was not called yet is forgotten.
    ///
    /// The hook runs on the server's thread: nothing is served until it returns.
    pub(crate) fn call_at(&self, nth: u64, of: fn(Kind) -> bool, moment: Moment, hook: impl FnOnce() + Send + 'static) {
        assert!(nth > 0, "requests are counted from 1");
        self.shared().trigger = Some(Trigger { left: nth, of, moment, hook: Box::new(hook) });
    }

    /// Has this decide about every request that no fault befalls, from now on. What waits is judged again.
    pub(crate) fn behave(&self, judge: impl FnMut(&Seen) -> Manner + Send + 'static) {
        let mut shared = self.shared();
        shared.judge = Box::new(judge);
        shared.judges += 1;
    }

    /// Honours `If-None-Match: *`, and removes objects, from now on.
    pub(crate) fn honour_conditions(&self) {
        self.shared().conditional = true;
    }

    /// Has the server be of another kind from now on.
    pub(crate) fn turn(&self, nature: Nature) {
        self.turn_after(0, nature);
    }

    /// The same, after so many more requests that write to objects.
    pub(crate) fn turn_after(&self, writes: u64, nature: Nature) {
        let mut shared = self.shared();
        if writes == 0 {
            (shared.nature, shared.looks) = (nature, 0);
        } else {
            shared.turns = Some((writes, nature));
        }
    }

    /// The contents of a bucket's objects, by their keys.
    pub(crate) fn bodies(&self, bucket: &str) -> BTreeMap<Vec<u8>, Bytes> {
        let shared = self.shared();
        let objects = shared.buckets.get(bucket).expect("a bucket of this server").iter();
        objects.map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }

    /// All requests so far, in the order in which they arrived.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.shared().log.clone()
    }

    /// Forgets the hook that was not called yet.
    pub(crate) fn call_no_more(&self) {
        self.shared().trigger = None;
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panicked with it")
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A server that is gone already has nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported.
            let _ = thread.join();
        }
    }
}
