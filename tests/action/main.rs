//! The action, and the workflows that use it, run as GitHub's runner runs them: with the files by which steps talk to
//! it, expressions, conditions, exit codes and signals. GitHub itself is not asked for anything.

#[expect(dead_code, reason = "what the server can do besides is for other tests")]
#[path = "../support/bucket.rs"]
mod bucket;
mod cancelled;
mod cloud;
mod comment;
mod examples;
mod expression;
mod files;
#[path = "../support/folders.rs"]
mod folders;
mod github;
mod hostile;
mod install;
mod machine;
mod process;
mod steps;
#[path = "../support/variables.rs"]
mod table;
