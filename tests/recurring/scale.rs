//! Three days of large inventories, in every format that the clouds write: what is touched is what has changed.
//!
//! `BATCHPLAN_RECURRING_ROWS` sets the number of objects, and `BATCHPLAN_TEST_BINARY` the binary: a debug build is
//! given few.

use fastrand::Rng;
use percent_encoding::percent_decode_str;

use crate::days::{Days, ONLY_CHANGED};
use crate::inventory::{Format, Layout, Row, write};
use crate::scene::Dialect;
use crate::world::report_rows;

/// Of each kind of change, how many a day brings.
const EACH: usize = 40;

/// 2025-06-01, when all was written first.
const WRITTEN: i64 = 1_748_736_000_000;

const REPORT: &str = "[report]\nenabled = true\nbucket = \"audit\"\nscope = \"all-tasks\"\nformat = \"oss\"\n";

/// What an inventory tells of an object, as differences from what it told first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    content: u8,
    size: u8,
    days: u8,
}

/// What is in the bucket, by number; `None` is an object that is not.
type Objects = Vec<Option<State>>;

/// The first day: here and there one is missing, for a later day to add.
fn first(rows: usize) -> Objects {
    (0..rows).map(|place| (place % 50 != 7).then(State::default)).collect()
}

/// The day after: objects are added, changed in every way that an inventory can tell, and deleted.
fn next(yesterday: &Objects, rng: &mut Rng) -> Objects {
    let mut today = yesterday.clone();
    let any = |today: &Objects, there: bool, rng: &mut Rng| {
        std::iter::repeat_with(|| rng.usize(..today.len())).find(|place| today[*place].is_some() == there)
    };
    for _ in 0..today.len() / 100 {
        let place = any(&today, true, rng).expect("an object");
        today[place] = None;
    }
    // Written over, with the same content, within the same second, and with another size alone.
    for (content, size, days) in [(1, 1, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0)] {
        for _ in 0..EACH {
            let place = any(&today, true, rng).expect("an object");
            let state = today[place].as_mut().expect("an object");
            *state = State { content: state.content + content, size: state.size + size, days: state.days + days };
        }
    }
    // Some of these were deleted the day before, and are as they were.
    for _ in 0..EACH {
        let place = any(&today, false, rng).expect("a gap");
        today[place] = Some(State::default());
    }
    today
}

/// What a day's job has to touch.
fn changed(yesterday: &Objects, today: &Objects) -> Vec<usize> {
    let differs = |place: &usize| today[*place].is_some() && today[*place] != yesterday[*place];
    (0..today.len()).filter(differs).collect()
}

/// The names stand in another order than the numbers, and are not all plain.
fn key(place: usize) -> String {
    format!("documents/{:03}/a+b {place:09} é.pdf", place % 977)
}

/// As the sandbox's table has it.
fn encoded(key: &str) -> String {
    key.replace('+', "%2B").replace(' ', "%20").replace('é', "%C3%A9")
}

fn row(place: usize, state: State) -> Row {
    Row {
        bucket: "bkt".to_owned(),
        key: key(place).into_bytes(),
        size: Some(place as u64 + u64::from(state.size)),
        last_modified: Some(WRITTEN + i64::from(state.days) * 86_400_000),
        etag: Some(format!("{:032x}", place * 1000 + usize::from(state.content))),
        storage_class: Some("STANDARD".to_owned()),
        ..Row::default()
    }
}

/// Writes the inventory of a day in no order, some of its rows twice or more often: these too, every now and then.
fn list(days: &Days, format: Format, day: u32, objects: &Objects, changed: &[usize], rng: &mut Rng) {
    let mut places: Vec<usize> = (0..objects.len()).filter(|place| objects[*place].is_some()).collect();
    let again: Vec<usize> = (0..places.len() / 50).map(|_| places[rng.usize(..places.len())]).collect();
    places.extend(again);
    places.extend(changed.iter().step_by(3));
    rng.shuffle(&mut places);
    let date = format!("2026-01-{day:02}T00-00Z");
    let (source, destination, prefix, date) = ("bkt", "lists", "daily/", date.as_str());
    let layout = Layout { format, source, destination, prefix, date, versions: false, files: 5 };
    let rows = places.into_iter().map(|place| row(place, objects[place].expect("an object")));
    for (key, content) in write(layout, rows).objects {
        days.put("lists", &key, content);
    }
}

fn three_days(format: Format) {
    let rows = std::env::var("BATCHPLAN_RECURRING_ROWS").ok().map_or(20_000, |rows| rows.parse().expect("a number"));
    let mut rng = Rng::with_seed(format as u64);
    let mut bucket = vec![first(rows)];
    for _ in 2..=3 {
        bucket.push(next(&bucket[bucket.len() - 1], &mut rng));
    }
    let to_touch = [changed(&bucket[0], &bucket[1]), changed(&bucket[1], &bucket[2])];
    let mut touchable: Vec<String> = to_touch.iter().flatten().map(|place| encoded(&key(*place))).collect();
    touchable.sort();
    touchable.dedup();

    let dialect = if format == Format::OssCsv { Dialect::Oss } else { Dialect::Aws };
    let days = Days::of(dialect, &touchable.iter().map(String::as_str).collect::<Vec<_>>());
    days.plan(&format!("{ONLY_CHANGED}{REPORT}"));
    list(&days, format, 1, &bucket[0], &[], &mut rng);
    days.complete_without_work();
    days.finds_nothing();
    for (day, changed) in (2..).zip(&to_touch) {
        // Chance may have one object changed twice; not many.
        assert!((4 * EACH..=5 * EACH).contains(&changed.len()), "{}", changed.len());
        list(&days, format, day, &bucket[day as usize - 1], changed, &mut rng);
        let mut keys: Vec<String> = changed.iter().map(|place| key(*place)).collect();
        let applied = days.touches(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let result = &applied.ended(0).result;
        assert_eq!((&result["total"], &result["succeeded"]), (&keys.len().into(), &keys.len().into()), "{result}");
        let report = days.scene.world.path(result["report_folder"].as_str().expect("a folder"));
        let decoded = |row: Vec<String>| percent_decode_str(&row[1]).decode_utf8().expect("UTF-8").into_owned();
        let mut listed: Vec<String> = report_rows(&report).into_iter().map(decoded).collect();
        keys.sort();
        listed.sort();
        let other = listed.iter().zip(&keys).find(|(listed, key)| listed != key);
        assert_eq!((other, listed.len()), (None, keys.len()));
        days.finds_nothing();
    }
}

#[test]
fn over_three_days_of_aws_csv_exactly_what_has_changed_is_touched() {
    three_days(Format::AwsCsv);
}

#[test]
fn over_three_days_of_oss_csv_exactly_what_has_changed_is_touched() {
    three_days(Format::OssCsv);
}

#[test]
fn over_three_days_of_parquet_exactly_what_has_changed_is_touched() {
    three_days(Format::Parquet);
}

#[test]
fn over_three_days_of_orc_exactly_what_has_changed_is_touched() {
    three_days(Format::Orc);
}
