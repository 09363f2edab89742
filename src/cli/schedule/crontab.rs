//! A crontab line.

use std::path::Path;

use super::Job;
use super::cron::Cron;
use crate::cli::shell::{path, word};

pub(super) fn line(job: &Job<'_>, cron: &Cron, program: &Path, folder: &Path) -> String {
    let arguments: Vec<_> = job.arguments().map(|it| word(&it)).collect();
    let command = format!("cd {} && {} {}", path(folder), path(program), arguments.join(" "));
    // cron treats a percent sign as the end of the line, anywhere in the command.
    format!("{} {}", cron.plain(), command.replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::schedule::cron;
    use crate::diagnostics::Problems;

    #[test]
    fn no_percent_sign_ends_the_line() {
        let text = "0  3 * * 7";
        let cron = cron::parse(text, &mut Problems::new("--cron", text)).expect("an expression");
        let job = Job {
            name: "n",
            slug: "n".to_owned(),
            plan: "/p/100% it's.toml".to_owned(),
            state: None,
            says_state: false,
        };
        assert_eq!(
            line(&job, &cron, Path::new("/usr/bin/batchplan"), Path::new("/my plans")),
            r"0 3 * * 0 cd '/my plans' && /usr/bin/batchplan apply '/p/100\% it'\''s.toml' --auto-approve"
        );
    }
}
