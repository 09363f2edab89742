//! How often the interval that a sample is printed with holds the truth.

use batchplan::diff::{ConfidenceInterval, SampleShare};
use batchplan::manifest::SeededSample;

const OBJECTS: usize = 100_000;

/// As many as `plan` takes unless it is told otherwise.
const LOOKED: usize = 200;

const SEEDS: u64 = 1000;

/// How many of the objects are of the kind that is counted: as few as `verify` may be about, hardly any, a fifth, a
/// half, nearly all.
const SHARES: [usize; 5] = [50, 500, 20_000, 50_000, 97_000];

/// Whether an object is of that kind.
fn is_meant(number: usize, share: usize) -> bool {
    // 7919 and the number of objects have no divisor in common, so that exactly so many are.
    number * 7919 % OBJECTS < share
}

/// For each share, of how many of these seeds the interval holds the truth.
fn held(names: &[Vec<u8>], seeds: std::ops::Range<u64>) -> [u64; SHARES.len()] {
    let mut held = [0; SHARES.len()];
    for seed in seeds {
        let mut sample = SeededSample::new(LOOKED, seed);
        for (number, name) in names.iter().enumerate() {
            sample.offer(name, || number);
        }
        let taken: Vec<usize> = sample.into_rows().collect();
        assert_eq!(taken.len(), LOOKED);
        for (held, share) in held.iter_mut().zip(SHARES) {
            let found = taken.iter().filter(|number| is_meant(**number, share)).count() as u64;
            let (looked, all) = (LOOKED as u64, OBJECTS as u64);
            let ConfidenceInterval { low, high, .. } =
                SampleShare { matching: found, sampled: looked, population: all }.estimate();
            let truth = share as u64;
            *held += u64::from((low..=high).contains(&truth));
        }
    }
    held
}

#[test]
fn the_interval_holds_the_truth_as_often_as_it_says() {
    // As the survey writes a name: bucket, version and key, zero bytes between them.
    let names: Vec<Vec<u8>> = (0..OBJECTS)
        .map(|number| format!("bkt\0\0documents/{:02}/{number:06}.pdf", number % 12).into_bytes())
        .collect();
    for share in SHARES {
        let there = (0..OBJECTS).filter(|number| is_meant(*number, share)).count();
        assert_eq!(there, share);
    }
    let halves = std::thread::scope(|scope| {
        let other = scope.spawn(|| held(&names, SEEDS / 2..SEEDS));
        [held(&names, 0..SEEDS / 2), other.join().expect("it ran")]
    });
    for (place, share) in SHARES.iter().enumerate() {
        let held = halves[0][place] + halves[1][place];
        assert!((930..=SEEDS).contains(&held), "{share} of {OBJECTS}: the truth is in {held} of {SEEDS} intervals");
    }
}
