//! Which events are logged.
//!
//! `RUST_LOG` is a list of directives, `TARGET=LEVEL` or `LEVEL`, separated by commas. A target is a module's path or
//! its beginning, and the longest one that fits decides. An option sets the level of everything that no directive is
//! about.
//!
//! Libraries are logged only if a directive names them, at most at `info`, and without their fields: at other levels
//! and in fields, the AWS SDK has headers, responses and the lines of credential files.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The target that all modules of this program and its crates begin with.
const OWN_TARGET: &str = "batchplan";

/// The targets whose messages quote the lines of configuration and credential files.
const QUOTES_FILES: &str = "aws_runtime::env_config";

/// Which events are logged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogLevels {
    targets: Targets,
}

impl LogLevels {
    /// Creates the levels from the level that the options set and from the directives of `RUST_LOG`. Also returns the
    /// directives that cannot be used.
    pub(super) fn new(verbosity: LevelFilter, rust_log: &str) -> (Self, Vec<String>) {
        let mut targets = Targets::new().with_target(OWN_TARGET, verbosity);
        let (mut ignored, mut named) = (Vec::new(), Vec::new());
        for directive in rust_log.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let parsed = directive.parse::<Targets>().ok().filter(|_| !directive.contains(['[', '{']));
            let Some(parsed) = parsed else {
                ignored.push(directive.to_owned());
                continue;
            };
            // A level alone is about this program. Libraries must be named.
            if let Some(level) = parsed.default_level() {
                targets = targets.with_target(OWN_TARGET, level);
            }
            named.extend(parsed.iter().map(|(target, level)| (target.to_owned(), level)));
        }
        (Self { targets: targets.with_targets(named) }, ignored)
    }

    /// Returns whether an event or a span is logged.
    pub(super) fn allows(&self, metadata: &Metadata<'_>) -> bool {
        self.allows_target(metadata.target(), *metadata.level(), metadata.is_span())
    }

    fn allows_target(&self, target: &str, level: Level, is_span: bool) -> bool {
        if is_own(target) {
            // An event of any module is shown with the spans that it is in.
            return if is_span { level <= self.max_level() } else { self.targets.would_enable(target, &level) };
        }
        let harmless = !is_span && level <= Level::INFO && !target.starts_with(QUOTES_FILES);
        harmless && self.targets.would_enable(target, &level)
    }

    /// Returns the most verbose level of all targets.
    pub(super) fn max_level(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| level).max().unwrap_or(LevelFilter::OFF)
    }
}

/// Returns whether a target is a module of this program or of its crates.
pub(super) fn is_own(target: &str) -> bool {
    target
        .strip_prefix(OWN_TARGET)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(verbosity: LevelFilter, rust_log: &str) -> LogLevels {
        let (levels, ignored) = LogLevels::new(verbosity, rust_log);
        assert_eq!(ignored, Vec::<String>::new());
        levels
    }

    /// Returns the most verbose level at which events of a target are logged.
    fn level_of(levels: &LogLevels, target: &str) -> LevelFilter {
        let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        let most = all.into_iter().find(|level| levels.allows_target(target, *level, false));
        most.map_or(LevelFilter::OFF, LevelFilter::from_level)
    }

    #[test]
    fn an_option_is_about_the_program_and_its_crates_only() {
        let levels = levels(LevelFilter::DEBUG, "");
        for own in ["batchplan", "batchplan::engine::worker", "batchplan_store::http_client::client"] {
            assert_eq!(level_of(&levels, own), LevelFilter::DEBUG, "{own}");
        }
        for other in ["aws_config", "s3s::ops", "hyper"] {
            assert_eq!(level_of(&levels, other), LevelFilter::OFF, "{other}");
        }
        assert_eq!(levels.max_level(), LevelFilter::DEBUG);
    }

    #[test]
    fn a_directive_beats_the_option_for_its_targets() {
        let quiet = levels(LevelFilter::OFF, "batchplan::engine=debug");
        assert_eq!(level_of(&quiet, "batchplan::engine::throttle"), LevelFilter::DEBUG);
        assert_eq!(level_of(&quiet, "batchplan::remote"), LevelFilter::OFF);
        let mixed = levels(LevelFilter::INFO, " batchplan_store=off , batchplan_store::web=trace,");
        assert_eq!(level_of(&mixed, "batchplan_store::credentials"), LevelFilter::OFF);
        assert_eq!(level_of(&mixed, "batchplan_store::web::proxy"), LevelFilter::TRACE);
        assert_eq!(level_of(&mixed, "batchplan::engine"), LevelFilter::INFO);
        let bare = levels(LevelFilter::TRACE, "WARN,batchplan::jobs=info");
        assert_eq!(level_of(&bare, "batchplan::engine"), LevelFilter::WARN);
        assert_eq!(level_of(&bare, "batchplan::jobs::runner"), LevelFilter::INFO);
        assert_eq!(level_of(&bare, "aws_config"), LevelFilter::OFF);
    }

    #[test]
    fn libraries_are_logged_only_by_name_and_at_most_at_info() {
        let levels = levels(LevelFilter::TRACE, "aws_config=trace,aws_runtime=trace,s3s=warn,b=trace");
        assert_eq!(level_of(&levels, "aws_config::profile"), LevelFilter::INFO);
        assert_eq!(level_of(&levels, "s3s"), LevelFilter::WARN);
        assert_eq!(level_of(&levels, "aws_smithy_runtime"), LevelFilter::OFF);
        assert_eq!(level_of(&levels, "bytes"), LevelFilter::INFO);
        assert_eq!(level_of(&levels, "aws_runtime::auth"), LevelFilter::INFO);
        assert_eq!(level_of(&levels, "aws_runtime::env_config::normalize"), LevelFilter::OFF);
        assert!(!levels.allows_target("aws_config", Level::INFO, true), "their spans have fields");
    }

    #[test]
    fn an_event_has_its_spans_although_they_are_of_other_modules() {
        let levels = levels(LevelFilter::OFF, "batchplan_store::http_client=debug");
        let is_shown = |level| levels.allows_target("batchplan::job", level, true);
        assert_eq!([Level::INFO, Level::DEBUG, Level::TRACE].map(is_shown), [true, true, false]);
        assert_eq!(level_of(&levels, "batchplan::job"), LevelFilter::OFF);
    }

    #[test]
    fn a_directive_for_other_programs_is_named_and_ignored() {
        let (levels, ignored) = LogLevels::new(LevelFilter::INFO, "app[span{field=1}]=debug,batchplan=loud,a=b=c,warn");
        assert_eq!(ignored, ["app[span{field=1}]=debug", "batchplan=loud", "a=b=c"]);
        assert_eq!(level_of(&levels, "batchplan::engine"), LevelFilter::WARN);
    }
}
