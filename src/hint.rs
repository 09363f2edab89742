//! The type of hints, which say what the user can do about a problem: text, and commands of this program. The hints for
//! error codes are in `jobs/error` and in the store crate's `error`. A command is a value of its own, so that
//! `cli` can show each one with the `--state` that finds the same jobs.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// The commands that accept `--state`.
pub const COMMANDS_WITH_STATE: &[&str] = &[
    "plan",
    "apply",
    "create",
    "confirm",
    "list",
    "show",
    "run",
    "pause",
    "resume",
    "retry",
    "verify",
    "undo",
    "captured",
    "cancel",
    "priority",
    "delete",
    "publish",
    "state show",
    "state pull",
    "state push",
    "state unlock",
    "schedule",
];

/// The commands that do not accept `--state`.
pub const COMMANDS_WITHOUT_STATE: &[&str] = &[
    "init",
    "validate",
    "check",
    "policy",
    "export",
    "import",
    "schema",
    "completions",
    "complete",
    "man",
    "version",
    "sandbox",
];

/// What the user can do about a problem. Written with `hint!`, or made from a text without commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint(Vec<HintPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum HintPart {
    Text(String),
    Command(ShownCommand),
}

/// A command of this program that is shown to the user. Written with `command!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCommand {
    name: &'static str,
    args: Vec<OsString>,
}

impl Hint {
    /// Puts one part into the place of each `{}` of a template.
    pub(crate) fn from_template<const N: usize>(template: &str, parts: [Self; N]) -> Self {
        let mut parts = parts.into_iter();
        let mut hint = Self::default();
        for text in template.split("{}") {
            hint = hint.append(text).append(parts.next().unwrap_or_default());
        }
        hint
    }

    /// Adds a part at the end.
    #[must_use]
    pub fn append(mut self, part: impl Into<Self>) -> Self {
        self.0.extend(part.into().0);
        self
    }

    /// Returns the text. `show` returns the text of a command.
    pub fn render(&self, show: impl Fn(&ShownCommand) -> String) -> String {
        let text = |part: &HintPart| match part {
            HintPart::Text(text) => text.clone(),
            HintPart::Command(command) => show(command),
        };
        self.0.iter().map(text).collect()
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self(if text.is_empty() { Vec::new() } else { vec![HintPart::Text(text)] })
    }
}

impl From<ShownCommand> for Hint {
    fn from(command: ShownCommand) -> Self {
        Self(vec![HintPart::Command(command)])
    }
}

impl ShownCommand {
    /// Creates a command without arguments.
    ///
    /// # Panics
    /// Panics if there is no such command. `command!` checks that when the program is compiled.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(contains(COMMANDS_WITH_STATE, name) || contains(COMMANDS_WITHOUT_STATE, name), "no such command");
        Self { name, args: Vec::new() }
    }

    /// Adds an argument, which need not be quoted.
    #[must_use]
    pub fn arg(mut self, arg: impl fmt::Display) -> Self {
        self.args.push(arg.to_string().into());
        self
    }

    /// Adds a path as an argument, which need not be quoted.
    #[must_use]
    pub fn path(mut self, path: &Path) -> Self {
        self.args.push(path.into());
        self
    }

    /// Returns the name, such as `resume` or `state unlock`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the arguments after the name. They are not quoted.
    #[must_use]
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    /// Returns whether the command accepts `--state`.
    #[must_use]
    pub fn accepts_state(&self) -> bool {
        COMMANDS_WITH_STATE.contains(&self.name)
    }
}

/// Returns whether a list contains a text.
const fn contains(list: &[&str], text: &str) -> bool {
    let mut at = 0;
    while at < list.len() {
        if is_equal(list[at].as_bytes(), text.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Returns how often `{}` is in a template.
pub(crate) const fn count_placeholders(template: &str) -> usize {
    let bytes = template.as_bytes();
    let (mut at, mut count) = (1, 0);
    while at < bytes.len() {
        if bytes[at - 1] == b'{' && bytes[at] == b'}' {
            count += 1;
        }
        at += 1;
    }
    count
}

/// A [`Hint`](crate::hint::Hint): a template and, for each `{}` in it, a text, a command or another hint.
macro_rules! hint {
    ($template:literal $(, $part:expr)+ $(,)?) => {{
        const { assert!($crate::hint::count_placeholders($template) == [$(stringify!($part)),+].len()) };
        $crate::hint::Hint::from_template($template, [$($crate::hint::Hint::from($part)),+])
    }};
}

/// A [`ShownCommand`](crate::hint::ShownCommand): its name and its arguments.
macro_rules! command {
    ($name:literal $(, $arg:expr)*) => {
        const { $crate::hint::ShownCommand::new($name) }$(.arg($arg))*
    };
}

pub(crate) use {command, hint};

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(hint: &Hint) -> String {
        hint.render(|command| format!("<{} {}>", command.name(), command.args().join(" ".as_ref()).display()))
    }

    #[test]
    fn parts_take_the_places_of_the_template() {
        let resume = hint!("resume it ({}), or cancel it", command!("resume", 7, "--stored-plan"));
        let both = hint!("{}, and {}. Ask {}", "fix it {}".to_owned(), resume, command!("state show"));
        assert_eq!(
            plain(&both),
            "fix it {}, and resume it (<resume 7 --stored-plan>), or cancel it. Ask <state show >"
        );
        assert_eq!(plain(&Hint::from("a").append("").append(command!("run")).append("b".to_owned())), "a<run >b");
        assert_eq!(plain(&Hint::default()), "");
    }

    #[test]
    fn a_text_that_looks_like_a_command_stays_a_text() {
        let text = "use batchplan show A";
        assert_eq!(Hint::from(text).render(|_| unreachable!("there is no command")), text);
    }

    #[test]
    fn commands_are_known_by_their_whole_names() {
        assert!(command!("state unlock").accepts_state() && command!("show").accepts_state());
        assert!(!command!("policy").accepts_state());
        assert!(!contains(COMMANDS_WITH_STATE, "state") && !contains(COMMANDS_WITH_STATE, "runs"));
        assert_eq!((count_placeholders("{}"), count_placeholders("a {} {}{} {"), count_placeholders("")), (1, 3, 0));
    }
}
