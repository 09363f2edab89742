//! A state that is not what was put there: nothing is made of it, and what is wrong is said.

use serde_json::{Value as Json, json};

use crate::bucket::{Kind, Manner};
use crate::place::{Chest, Machine, Place, keys};

/// Puts something in an object's place for a moment.
fn with(chest: &Chest, name: &str, content: Option<&[u8]>, then: impl FnOnce()) {
    let before = chest.read(name);
    match content {
        Some(content) => chest.write(name, content),
        None => chest.remove(name),
    }
    then();
    chest.write(name, &before);
}

fn refused(machine: &Machine<'_>, code: i32, what: &str) {
    machine.apply().ended(code).said(what);
}

#[test]
fn what_lies_in_the_bucket_is_read_as_a_strangers() {
    let place = Place::with_objects(30);
    let first = place.machine("first").apply().ended(0);
    let served = place.work.count(Kind::PutTags).served;
    let (chest, machine) = (place.chest(), place.machine("other"));
    let head = chest.names("heads/").pop().expect("a head");
    let text: Json = serde_json::from_slice(&chest.read(&head)).expect("JSON");
    let altered = |change: &dyn Fn(&mut Json)| {
        let mut text = text.clone();
        change(&mut text);
        text.to_string().into_bytes()
    };
    let newer = altered(&|head| head["version"] = json!(9));
    with(&chest, &head, Some(&newer), || refused(&machine, 6, "written by a newer batchplan (format 9)"));
    let piece = text["journal"]["pieces"][0].clone();
    let outside = altered(&|head| {
        let jobs = head["jobs"].as_object_mut().expect("jobs");
        let files = jobs.values_mut().next().expect("a job");
        *files = json!({ "../../../escaped": { "pieces": [piece] } });
    });
    with(&chest, &head, Some(&outside), || refused(&machine, 1, "it names a file outside a job's folder"));
    let elsewhere = altered(&|head| head["journal"]["pieces"][0]["name"] = json!("../../other"));
    with(&chest, &head, Some(&elsewhere), || refused(&machine, 1, "it names an invalid chunk"));
    with(&chest, &head, Some(b"{\"version\":1"), || refused(&machine, 1, "cannot read the state: heads/"));

    let piece = text["journal"]["pieces"][0]["name"].as_str().expect("a name").to_owned();
    with(&chest, &piece, None, || refused(&machine, 1, "it does not exist"));
    let mut flipped = chest.read(&piece);
    flipped[20] ^= 1;
    with(&chest, &piece, Some(&flipped), || refused(&machine, 1, "it does not match its checksum"));

    let lock = chest.names("lock/").pop().expect("a lock");
    with(&chest, &lock, Some(b"?"), || refused(&machine, 1, "cannot read the state: lock/"));

    // None of it was worked with, and all is well once it is put back.
    assert_eq!(place.work.count(Kind::PutTags).served, served);
    assert_eq!(machine.apply().ended(0).json()["job_id"], first.json()["job_id"]);
    assert_eq!(place.reported(), keys(30));
}

#[test]
fn a_hostile_holder_does_not_drive_the_terminal() {
    let place = Place::with_objects(1);
    place.machine("first").apply().ended(0);
    let chest = place.chest();
    let lock = chest.names("lock/").pop().expect("a lock");
    let mut text: Json = serde_json::from_slice(&chest.read(&lock)).expect("JSON");
    text["holder"] = json!("\u{1b}]0;owned\u{7}\n::error::x");
    chest.write(&lock, text.to_string().as_bytes());
    let shown = place.machine("other").run(&["state", "show", "--plan", "plan.toml"]).ended(0).stdout;
    assert!(!shown.contains('\u{1b}') && !shown.contains("\n::error"), "{shown:?}");
}

#[test]
fn what_nobody_needs_any_more_is_cleared_away() {
    let place = Place::with_objects(40);
    for run in 0..4 {
        place.machine(&format!("runner-{run}")).apply().ended(0);
    }
    let chest = place.chest();
    assert!(chest.names("lock/").len() <= 2, "{:?}", chest.names("lock/"));
    assert_eq!(chest.names("heads/").len(), 1);
    let head = chest.names("heads/").pop().expect("a head");
    let text = String::from_utf8(chest.read(&head)).expect("UTF-8");
    for piece in chest.names("pieces/") {
        assert!(text.contains(&piece), "{piece} is nobody's");
    }
}

#[test]
fn a_journal_that_names_files_elsewhere_sends_none_of_them() {
    let place = Place::with_objects(20);
    let here = place.machine("here");
    let done = here.run(&["apply", "plan.toml", "--auto-approve", "--json", "--state", "mine"]).ended(0).json();
    std::fs::write(here.path("secret.txt"), "TOP-SECRET").expect("written");
    let connection = rusqlite::Connection::open(here.path("mine/journal.db")).expect("a journal");
    let sql = "UPDATE segment SET name = '../../../../secret.txt', bytes = 10, published = 0, checksum = NULL";
    assert!(connection.execute(sql, []).expect("changed") > 0);
    drop(connection);
    let chest = place.chest();
    here.run(&["state", "push", "mine", "--plan", "plan.toml"]).ended(1).said("not the name of a report file");
    for name in chest.names("") {
        assert!(!String::from_utf8_lossy(&chest.read(&name)).contains("TOP-SECRET"), "{name}");
    }
    assert!(done["job_id"].is_string());
}

/// The answer to the so manieth request for a page.
type Page = fn(usize) -> Manner;

/// A listing of a state, in pieces: whether more follows, where, and the names below `team/`.
fn listing(next: Option<&str>, names: &[&str]) -> Manner {
    let token = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>")).unwrap_or_default();
    let entry = |name: &&str| {
        format!(
            "<Contents><Key>team/{name}</Key><LastModified>2026-01-31T00:00:00.000Z</LastModified><Size>1</Size></Contents>"
        )
    };
    let (more, entries) = (next.is_some(), names.iter().map(entry).collect::<String>());
    let page = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{entries}</ListBucketResult>");
    Manner::Say(200, page)
}

#[test]
fn a_listing_of_the_state_that_cannot_be_trusted_is_not_taken_for_all_of_it() {
    let place = Place::with_objects(3);
    let state = format!("s3://states/team?endpoint={}", place.work.endpoint());
    let broken: [(&str, &str, Page); 5] = [
        ("circle", "its pages form a loop", |n| listing(Some(["left", "right"][n % 2]), &[])),
        ("stays", "the next page starts where this one started", |_| listing(Some("same"), &[])),
        ("repeats", "team/heads/1 after ", |n| listing(Some(&n.to_string()), &["heads/1"])),
        ("backwards", " after team/heads/2", |n| listing(Some(&n.to_string()), &["heads/2", "heads/1"])),
        ("endless", "1000 pages in a row had no new names", |n| listing(Some(&n.to_string()), &[])),
    ];
    for (name, says, page) in broken {
        let mut pages = 0;
        place.work.behave(move |seen| {
            if seen.kind != Kind::List || seen.bucket != "states" {
                return Manner::Serve;
            }
            pages += 1;
            page(pages)
        });
        let ran = place.machine_with(name, &state).apply().ended(1).said(says).said("cannot list the state");
        assert!(ran.stderr.contains("help: nothing was changed"), "{}", ran.stderr);
    }
    assert_eq!(place.work.count(Kind::PutTags).arrived, 0, "the lock may be anybody's");
}
