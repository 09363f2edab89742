//! The table.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use crate::process::Took;

pub(crate) const TOOL: &str = "batchplan: replace tags";
pub(crate) const BARE: &str = "bare hyper-util loop";
pub(crate) const ADD: &str = "batchplan: add tags";
pub(crate) const CAPTURE: &str = "batchplan: replace, capture";
pub(crate) const RESTORE: &str = "batchplan: restore";
pub(crate) const SDK: &str = "aws-sdk-s3 loop";
pub(crate) const BOTO3: &str = "boto3, 32 threads";
pub(crate) const AIOBOTOCORE: &str = "aiobotocore, 64 tasks";
pub(crate) const S3CMD: &str = "s3cmd setacl -r";
pub(crate) const RCLONE: &str = "rclone backend restore";

/// What an object costs, start-up subtracted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Microseconds of processor time.
    each: f64,
    /// MiB.
    peak: f64,
}

impl Figure {
    pub(crate) fn new(few: Took, many: Took, few_objects: u64, objects: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no run has 2^53 objects")]
        let more = (objects - few_objects) as f64;
        Self { each: (many.cpu - few.cpu) / more * 1e6, peak: many.peak }
    }
}

/// A ratio that is promised.
struct Promise {
    name: &'static str,
    of: &'static str,
    to: &'static str,
    at_most: f64,
}

const PROMISES: &[Promise] = &[
    Promise { name: "the tool, beside the bare loop", of: TOOL, to: BARE, at_most: 1.25 },
    Promise { name: "the tool, beside the SDK's loop", of: TOOL, to: SDK, at_most: 0.35 },
    Promise { name: "add (two requests), beside replace", of: ADD, to: TOOL, at_most: 2.1 },
    Promise { name: "replace with capture, beside add", of: CAPTURE, to: ADD, at_most: 1.15 },
    Promise { name: "the tool, beside boto3", of: TOOL, to: BOTO3, at_most: 0.02 },
    Promise { name: "restore, beside rclone's", of: RESTORE, to: RCLONE, at_most: 0.1 },
];

pub(crate) fn progress(round: usize, name: &str, figure: Figure) -> io::Result<()> {
    writeln!(io::stderr(), "round {round}: {name}: {:.2} us", figure.each)
}

/// Prints the median of each contestant, and the ratios that are promised.
pub(crate) fn print(names: &[&'static str], figures: &BTreeMap<&'static str, Vec<Figure>>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<28} {:>12} {:>16} {:>10}", "", "us an object", "objects a CPU s", "MiB")?;
    let mut medians = BTreeMap::new();
    for name in names {
        let each = median(figures[name].iter().map(|figure| figure.each));
        let peak = median(figures[name].iter().map(|figure| figure.peak));
        writeln!(out, "{name:<28} {each:>12.2} {:>16.0} {peak:>10.1}", 1e6 / each)?;
        medians.insert(*name, each);
    }
    writeln!(out)?;
    for promise in PROMISES {
        let (Some(of), Some(to)) = (medians.get(promise.of), medians.get(promise.to)) else { continue };
        verdict(&mut out, promise.name, of / to, promise.at_most)?;
    }
    Ok(())
}

/// Prints what grows from the smaller run to the larger one.
pub(crate) fn print_growth(objects: [u64; 2], start: Took, few: u64, took: [Took; 2]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let [small, large] = [0, 1].map(|n| Figure::new(start, took[n], few, objects[n]));
    writeln!(out)?;
    for (objects, figure) in objects.iter().zip([small, large]) {
        writeln!(out, "{objects:>12} objects: {:.2} us each, {:.1} MiB at the most", figure.each, figure.peak)?;
    }
    verdict(&mut out, "cost of an object, large beside small", large.each / small.each, 1.1)?;
    verdict(&mut out, "memory, large beside small", large.peak / small.peak, 1.2)?;
    verdict(&mut out, "memory of the large run, MiB", large.peak, 48.0)
}

fn verdict(out: &mut impl io::Write, name: &str, found: f64, at_most: f64) -> io::Result<()> {
    let holds = if found <= at_most { "holds" } else { "DOES NOT HOLD" };
    writeln!(out, "{name:<40} {found:>8.3}   at most {at_most:>6.3}   {holds}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
