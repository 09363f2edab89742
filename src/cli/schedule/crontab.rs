//! A crontab line.

use std::path::Path;

use super::ScheduledCommand;
use super::cron::CronExpression;
use crate::cli::shown_command::{quote, quote_path};

pub(super) fn line(job: &ScheduledCommand<'_>, cron: &CronExpression, program: &Path, folder: &Path) -> String {
    let arguments: Vec<_> = job.arguments().map(|it| quote(&it)).collect();
    let command = format!("cd {} && {} {}", quote_path(folder), quote_path(program), arguments.join(" "));
    // cron treats a percent sign as the end of the line, anywhere in the command.
    format!("{} {}", cron.normalized(), command.replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::schedule::cron;
    use crate::diagnostics::FileProblems;

    #[test]
    fn escapes_percent_signs() {
        let text = "0  3 * * 7";
        let cron = cron::parse(text, &mut FileProblems::new("--cron", text)).expect("an expression");
        let job = ScheduledCommand {
            name: "n",
            slug: "n".to_owned(),
            plan: "/p/100% it's.toml".to_owned(),
            state: None,
            plan_has_state: false,
        };
        assert_eq!(
            line(&job, &cron, Path::new("/usr/bin/batchplan"), Path::new("/my plans")),
            r"0 3 * * 0 cd '/my plans' && /usr/bin/batchplan apply '/p/100\% it'\''s.toml' --auto-approve"
        );
    }
}
