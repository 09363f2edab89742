//! The files by which a step talks to the runner, and the commands that the runner finds in a step's output.

/// Values that a step has set: `name=value` lines, and `name<<END` with the value's lines up to `END`.
pub(crate) fn values(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let heredoc = line.find("<<").filter(|at| line.find('=').is_none_or(|sign| *at < sign));
        if let Some(at) = heredoc {
            let (name, end) = (&line[..at], &line[at + 2..]);
            let mut value = Vec::new();
            loop {
                match lines.next().unwrap_or_else(|| panic!("{name} has no end {end}")) {
                    line if line == end => break,
                    line => value.push(line),
                }
            }
            found.push((name.to_owned(), value.join("\n")));
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?} sets nothing"));
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// A command to the runner: how the line begins, up to its text, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) command: String,
    pub(crate) properties: String,
    pub(crate) text: String,
}

/// What the runner obeys.
const COMMANDS: [&str; 17] = [
    "error",
    "warning",
    "notice",
    "debug",
    "group",
    "endgroup",
    "set-output",
    "set-env",
    "add-path",
    "save-state",
    "add-mask",
    "echo",
    "stop-commands",
    "add-matcher",
    "remove-matcher",
    "internal-set-repo-path",
    "command",
];

/// The command that the runner takes a line for: behind spaces `::`, or `##[` anywhere.
/// (As its `ActionCommand.cs` does, <https://github.com/actions/runner>.)
pub(crate) fn command(line: &str) -> Option<Told> {
    let (head, text) = match line.trim_start().strip_prefix("::").and_then(|rest| rest.split_once("::")) {
        Some(found) => found,
        None => line.split_once("##[")?.1.split_once(']')?,
    };
    let (command, properties) = head.split_once(' ').unwrap_or((head, ""));
    COMMANDS.contains(&command).then(|| Told {
        command: command.to_owned(),
        properties: properties.to_owned(),
        text: text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_line_and_of_several() {
        let set = values("a=1<<2\nb<<END\nx=1\n\ny\nEND\nc=\n");
        let set: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(set, [("a", "1<<2"), ("b", "x=1\n\ny"), ("c", "")]);
    }

    #[test]
    fn commands_are_found_where_the_runner_finds_them() {
        let found = |line: &str| command(line).map(|told| format!("{} {}", told.command, told.text));
        assert_eq!(found("  ::error file=a::b%0Ac"), Some("error b\nc".to_owned()));
        assert_eq!(found("key ##[set-output name=a]b"), Some("set-output b".to_owned()));
        assert_eq!(found("a::b::c"), None);
        assert_eq!(found("::nothing::c"), None);
    }
}
