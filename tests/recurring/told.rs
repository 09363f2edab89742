//! What `plan` says of a plan that recurs.

use crate::days::{Days, ONLY_CHANGED};
use crate::scene::Dialect;

#[test]
fn plan_shows_what_the_next_job_works_on_and_nothing_where_there_is_none() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let days = Days::of(dialect, &["a", "b", "c"]);
        days.plan(ONLY_CHANGED);
        days.inventory(1, &[("a", 1), ("b", 1)]);
        let first = days.run(&["plan", "plan.toml", "--json"]).ended(0);
        assert_eq!(first.json()["objects"], 2);
        assert!(first.stderr.contains("no job of this plan has completed before"), "{}", first.stderr);
        assert!(days.scene.gate.writes().is_empty());
        days.touches(&["a", "b"]).ended(0);

        let nothing = days.run(&["plan", "plan.toml", "--detailed-exitcode"]).ended(0);
        assert!(
            nothing.stderr.starts_with("nothing new since lists/daily/2026-01-01T00-00Z/ (job "),
            "{}",
            nothing.stderr
        );
        let nothing = days.run(&["plan", "plan.toml", "--json", "--out", "plan.bpl"]).ended(0);
        assert_eq!(nothing.json()["nothing_new"], true);
        assert!(!days.scene.world.path("plan.bpl").exists());

        days.inventory(2, &[("a", 1), ("b", 2), ("c", 1)]);
        let changed = days.run(&["plan", "plan.toml", "--full", "--detailed-exitcode"]).ended(10);
        assert!(
            changed.stdout.contains("2 objects changed in the inventory lists/daily/2026-01-02T00-00Z/manifest.json"),
            "{}",
            changed.stdout
        );
        assert!(
            changed.stderr.contains("objects that are new or changed since lists/daily/2026-01-01T00-00Z/"),
            "{}",
            changed.stderr
        );
        assert!(days.scene.gate.writes().is_empty());

        days.run(&["create", "plan.toml"]).ended(0);
        let waiting = days.run(&["plan", "plan.toml"]).ended(0);
        assert!(waiting.stderr.contains("is Suspended: apply resumes it first"), "{}", waiting.stderr);
        let second = days.touches(&["b", "c"]);
        let shown = days.run(&["show", second.ended(0).job()]).ended(0).stdout;
        let row = "\n  recurring      inventory lists/daily/2026-01-02T00-00Z/ (created 2026-01-02T00:00:00Z): objects";
        assert!(shown.contains(row), "{shown}");
    }
}
