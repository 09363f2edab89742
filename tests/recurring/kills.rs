//! A process that is killed while it compares inventories, and the next one that goes on.

use std::os::unix::process::ExitStatusExt as _;

use batchplan::job::JobStatus;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};

use crate::days::{Days, ONLY_CHANGED};
use crate::scene::Dialect;

/// Applies with the process killed there.
fn killed(days: &Days, point: &str) {
    let mut command = days.scene.world.command(&["apply", "plan.toml", "--auto-approve"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let output = command.env("BATCHPLAN_FAILPOINT", format!("{point}:1")).output().expect("the binary runs");
    assert_eq!(output.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn whoever_goes_on_compares_the_same_inventories() {
    for point in ["status-changed", "changes-before", "changes-piled"] {
        let days = Days::of(Dialect::Aws, &["a", "b", "c", "d"]);
        days.plan(ONLY_CHANGED);
        days.inventory(1, &[("a", 1), ("b", 1)]);
        days.touches(&["a", "b"]).ended(0);
        days.inventory(2, &[("a", 1), ("b", 2), ("c", 1)]);
        days.scene.gate.forget();
        killed(&days, point);
        assert!(days.touched().is_empty(), "{point}");
        assert!(matches!(days.scene.world.jobs()[0].status, JobStatus::Preparing), "{point}");
        // A newer one appears before anybody goes on.
        days.inventory(3, &[("a", 2), ("b", 2), ("c", 1), ("d", 1)]);
        days.touches(&["b", "c"]).ended(0).says("and the next apply uses the newer one");
        days.touches(&["a", "d"]).ended(0).says("since lists/daily/2026-01-02T00-00Z/");
    }
}

#[test]
fn the_comparison_stands_even_where_what_it_needs_has_gone_meanwhile() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    let first = days.touches(&["a", "b"]);
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
    killed(&days, "changes-piled");
    days.run(&["delete", first.job(), "--force", "--auto-approve"]).ended(0);
    days.touches(&["a", "b", "c"]).ended(0).says(
        "which completed the earlier inventory, no longer exists: including the complete new inventory (3 objects)",
    );
}
