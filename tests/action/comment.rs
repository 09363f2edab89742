//! The comment on a pull request: one for each plan, kept up to date, and nobody else's.

use std::fs;

use serde_json::{Value as Json, json};

use crate::cloud::{Cloud, expect};
use crate::expression::Status;
use crate::github::GitHub;
use crate::machine::{Job, Machine, Trigger};

const BOT: &str = "github-actions[bot]";
const PREFIX: &str = "[manifest.prefix]\nbucket = \"acme-archive\"\nprefix = \"documents/2024/\"\n";

/// A job on pull request 7 that runs the action once.
fn on_pull_request(machine: &Machine, with: &Json) -> Job {
    let keys = json!({ "AWS_ACCESS_KEY_ID": "sandbox", "AWS_SECRET_ACCESS_KEY": "sandboxsecret" });
    let steps = json!([
        { "uses": "actions/checkout@0000000000000000000000000000000000000000" },
        { "uses": "./", "with": with },
    ]);
    let workflow = json!({ "on": "pull_request", "jobs": { "job": { "env": keys, "steps": steps } } });
    let payload = json!({ "pull_request": { "number": 7 } });
    machine.run(&workflow, &Trigger { event: "pull_request", payload }, &mut || false).jobs.pop().expect("a job")
}

fn machine(github: &GitHub) -> Machine {
    let mut machine = Machine::new();
    machine.github.1.clone_from(&github.address);
    machine.env.insert("GITHUB_RUN_ID".to_owned(), "1".to_owned());
    machine
}

#[test]
fn one_comment_for_each_plan_is_kept_up_to_date() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plans/tag.toml", cloud.plan("tag", PREFIX));
    machine.write("plans/other.toml", cloud.plan("other", PREFIX));
    let plan = |file: &str| json!({ "command": "plan", "plan": file, "comment": "true" });
    for _ in 0..60 {
        github.has("somebody", "what do you think?");
    }
    let job = on_pull_request(&machine, &plan("plans/tag.toml"));
    job.ended(Status::Success);
    let [first] = github.of(BOT).try_into().expect("one comment");
    assert!(first.contains("### batchplan: `tag`") && first.contains("actions/runs/1"), "{first}");
    // Somebody copies it, marker and all, in front of ours and behind it.
    github.has("mallory", &first);
    machine.write("plans/tag.toml", cloud.plan("tag", &PREFIX.replace("2024/", "2023/")));
    on_pull_request(&machine, &plan("plans/tag.toml")).ended(Status::Success);
    let [second] = github.of(BOT).try_into().expect("one comment");
    assert_ne!(first, second);
    assert_eq!(github.of("mallory"), [first], "another's comment is left alone");
    on_pull_request(&machine, &plan("plans/other.toml")).ended(Status::Success);
    assert_eq!(github.of(BOT).len(), 2);
    let with = json!({ "command": "apply", "plan": "plans/other.toml", "args": "--auto-approve", "comment": "true" });
    let job = on_pull_request(&machine, &with);
    job.ended(Status::Success);
    let last = github.of(BOT).pop().expect("a comment");
    assert!(last.contains("is Complete"), "{last}");
    assert!(job.log().contains("comment: https://github.com/acme/data/pull/7#issuecomment-"), "{}", job.log());
    let id = &job.action().outputs["job-id"];
    expect("comment.md", &cloud.normal(&last, &[(id, "JOB")]));
}

#[test]
fn without_the_wish_github_is_asked_for_nothing_and_no_token_is_given() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    on_pull_request(&machine, &json!({ "command": "plan", "plan": "plan.toml" })).ended(Status::Success);
    assert_eq!(github.kept.lock().expect("the state").asked, Vec::<String>::new());
    // One is for the download of a release that is not public, and the other for the comment.
    let action = fs::read_to_string(crate::machine::root().join("action.yml")).expect("the action");
    assert_eq!(action.matches("github.token").count(), 2);
    assert!(action.contains("GITHUB_TOKEN: ${{ inputs.comment == 'true' && github.token || '' }}"));
}

#[test]
fn a_comment_that_cannot_be_written_is_one_warning() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    github.kept.lock().expect("the state").refuses = Some(403);
    let job = on_pull_request(&machine, &json!({ "command": "plan", "plan": "plan.toml", "comment": true }));
    job.ended(Status::Success);
    let told: Vec<_> = job.action().told().into_iter().map(|told| (told.command, told.text)).collect();
    let warning =
        "pull request comment not written: GitHub answered 403; the job needs the permission pull-requests: write";
    assert_eq!(told, [("warning".to_owned(), warning.to_owned())]);
    assert!(!job.log().contains("ghs_harness"), "no token is printed");
}

#[test]
fn a_push_comments_on_the_pull_request_that_it_came_from() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let mut machine = machine(&github);
    machine.env.insert("AWS_ACCESS_KEY_ID".to_owned(), "sandbox".to_owned());
    machine.env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "sandboxsecret".to_owned());
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    let with = json!({ "command": "apply", "plan": "plan.toml", "args": "--auto-approve", "comment": "true" });
    machine.action(&with).ended(Status::Success);
    assert_eq!(github.of(BOT).len(), 1);
}

/// What the step warned of.
fn warnings(job: &Job) -> Vec<String> {
    let told = job.action().told().into_iter().filter(|told| told.command == "warning");
    told.map(|told| told.text).collect()
}

fn plan() -> Json {
    json!({ "command": "plan", "plan": "plan.toml", "comment": "true" })
}

#[test]
fn pages_that_are_short_are_not_the_last() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    (0..5).for_each(|_| github.has_hidden());
    (0..120).for_each(|_| github.has("somebody", "what do you think?"));
    for _ in 0..2 {
        on_pull_request(&machine, &plan()).ended(Status::Success);
        assert_eq!(github.of(BOT).len(), 1);
    }
}

#[test]
fn a_comment_is_not_written_twice_where_github_does_not_say_whose_the_token_is() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    let write = |prefix: &str| machine.write("plan.toml", cloud.plan("tag", &PREFIX.replace("2024/", prefix)));
    github.kept.lock().expect("the state").login = Some("acme-plans[bot]");
    write("2024/");
    on_pull_request(&machine, &plan()).ended(Status::Success);
    let [first] = github.of("acme-plans[bot]").try_into().expect("one comment");
    github.has("mallory", &first);
    for (status, prefix) in [(502, "2023/"), (200, "")] {
        github.kept.lock().expect("the state").silent = Some(status);
        write(prefix);
        let job = on_pull_request(&machine, &plan());
        job.ended(Status::Success);
        assert_eq!(warnings(&job), Vec::<String>::new());
        let [second] = github.of("acme-plans[bot]").try_into().expect("one comment");
        assert_ne!(first, second, "it is kept up to date");
        assert_eq!(github.of("mallory"), std::slice::from_ref(&first));
    }
    // Where another app has one of the same, it cannot be told which is whose.
    github.has("other[bot]", &first);
    let job = on_pull_request(&machine, &plan());
    job.ended(Status::Success);
    let warned = warnings(&job);
    let why = "pull request comment not written: cannot tell which comment is batchplan's: ";
    assert!(matches!(&warned[..], [one] if one.starts_with(why)), "{warned:?}");
    assert_eq!(github.kept.lock().expect("the state").comments.len(), 3);
}

#[test]
fn a_rate_limit_is_no_missing_permission() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    for (status, with, said) in [
        (
            403,
            "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1893456000\r\n",
            "GitHub answered 403: rate limit exceeded; it resets at 2030-01-01T00:00:00Z",
        ),
        (403, "retry-after: 60\r\n", "GitHub answered 403: rate limit exceeded; retry in 60 s"),
        (429, "", "GitHub answered 429: rate limit exceeded"),
        (401, "", "GitHub answered 401: GITHUB_TOKEN is not valid"),
    ] {
        {
            let mut kept = github.kept.lock().expect("the state");
            (kept.refuses, kept.with) = (Some(status), with);
        }
        let job = on_pull_request(&machine, &plan());
        job.ended(Status::Success);
        assert_eq!(warnings(&job), [format!("pull request comment not written: {said}")]);
    }
}

#[test]
fn a_comment_that_vanishes_is_written_anew_and_one_that_only_seems_to_is_not() {
    let (cloud, github) = (Cloud::start(), GitHub::start());
    let machine = machine(&github);
    machine.write("plan.toml", cloud.plan("tag", PREFIX));
    on_pull_request(&machine, &plan()).ended(Status::Success);
    github.kept.lock().expect("the state").gone = Some(true);
    let job = on_pull_request(&machine, &plan());
    assert_eq!(warnings(&job), Vec::<String>::new());
    assert_eq!(github.of(BOT).len(), 1);
    github.kept.lock().expect("the state").gone = Some(false);
    let job = on_pull_request(&machine, &plan());
    job.ended(Status::Success);
    let warned = warnings(&job);
    assert!(matches!(&warned[..], [one] if one.contains("cannot update the comment of an earlier run")), "{warned:?}");
    assert_eq!(github.of(BOT).len(), 1);
}
