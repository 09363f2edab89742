//! One comment on a pull request for each plan, kept up to date.
//! <https://docs.github.com/en/rest/issues/comments>
//!
//! It is found again by a marker at its beginning, among the comments of whoever the token belongs to: a marker that somebody
//! else writes is a stranger's word. The comment is a courtesy: what goes wrong is one warning, and never an exit code.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::annotations::warning;
use crate::cli::markdown::fitted;
use crate::cli::terminal::Terminal;
use crate::hex::hex;
use crate::timeouts::{self, Seconds, scaled};
use crate::web::{Answer, Bounds, Client, Message, Url};

/// The most characters of a comment, which GitHub counts no stricter than in UTF-16.
const MOST: usize = 65_535;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one answer may take: a page of comments, each as long as may be.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), body: 16 << 20 };

/// Comments that are asked for at once.
const PAGE: usize = 50;

/// Pages that are read: who has more comments than fit on them gets another one.
const MOST_PAGES: usize = 40;

/// Whose comments are the workflow's own, where the token does not say: those of `github.token`.
const BOT: &str = "github-actions[bot]";

/// What a comment is about: it takes the place of the one that is about the same.
pub(in crate::cli) struct Subject<'a> {
    /// `plan`, `job` or `run`.
    pub(in crate::cli) kind: &'static str,
    /// The plan's name.
    pub(in crate::cli) name: &'a str,
    /// Its file, as GitHub names it.
    pub(in crate::cli) file: &'a str,
}

impl Subject<'_> {
    /// What the comment begins with. The words are hashed: nothing that a plan is called ends it.
    fn marker(&self) -> String {
        let digest = Sha256::digest(json!([self.name, self.file]).to_string());
        format!("<!-- batchplan {} {} -->", self.kind, &hex(&digest)[..16])
    }
}

/// Writes the comment, or writes it anew, where the step wants one.
pub(super) fn comment(subject: &Subject<'_>, markdown: &str, terminal: Terminal) {
    let wanted = std::env::var_os("BATCHPLAN_COMMENT").is_some_and(|wanted| wanted == "true");
    if !wanted || !super::is_here() {
        return;
    }
    // Whoever calls may be at work on a runtime of its own, on which nothing may be waited for.
    let kept = std::thread::scope(|scope| scope.spawn(|| keep_up_to_date(subject, markdown)).join());
    match kept.unwrap_or_else(|_| Err("it failed".to_owned())) {
        Ok(url) => terminal.say(format_args!("comment: {url}")),
        Err(why) => terminal.command(warning(&format!("the pull request has no new comment: {why}"))),
    }
}

fn keep_up_to_date(subject: &Subject<'_>, markdown: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let kept = runtime.block_on(async {
        let keeping = async {
            let api = Api::of_environment()?;
            let number = api.pull_request().await?;
            let marker = subject.marker();
            let text = body(&marker, markdown, super::run_url().as_deref());
            api.keep(number, &marker, &text).await
        };
        timeouts::within(scaled(PATIENCE), "GitHub", || "the comment is not written yet".to_owned(), keeping).await
    });
    runtime.shutdown_background();
    kept.unwrap_or_else(|late| Err(format!("GitHub took longer than {}", Seconds(late.0))))
}

/// The whole comment, within what GitHub takes.
fn body(marker: &str, markdown: &str, run: Option<&str>) -> String {
    let units = |text: &str| text.encode_utf16().count();
    let end = run.map_or_else(String::new, |run| format!("\n[the run and its summary]({run})\n"));
    let room = MOST - units(marker) - 1 - units(&end);
    format!("{marker}\n{}{end}", fitted(markdown, room, units))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// GitHub's API, as one token sees one repository.
struct Api {
    client: Client,
    base: String,
    graphql: String,
    repository: String,
    token: HeaderValue,
}

/// A comment, as far as it matters.
#[derive(Deserialize)]
struct Comment {
    id: u64,
    body: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

impl Api {
    fn of_environment() -> Result<Self, String> {
        let needed = |name: &str| variable(name).ok_or_else(|| format!("{name} is not set"));
        let base = variable("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());
        let token = needed("GITHUB_TOKEN")?;
        let mut token = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "GITHUB_TOKEN is no token")?;
        token.set_sensitive(true);
        Ok(Self {
            client: Client::new(),
            graphql: variable("GITHUB_GRAPHQL_URL").unwrap_or_else(|| format!("{base}/graphql")),
            base,
            repository: needed("GITHUB_REPOSITORY")?,
            token,
        })
    }

    /// The pull request that the event is of, or that its commit came from.
    async fn pull_request(&self) -> Result<u64, String> {
        let event = variable("GITHUB_EVENT_PATH").and_then(|path| std::fs::read(path).ok());
        let event = event.and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()).unwrap_or_default();
        let issue = event["issue"].get("pull_request").is_some().then(|| &event["issue"]["number"]);
        if let Some(number) = event["pull_request"]["number"].as_u64().or_else(|| issue?.as_u64()) {
            return Ok(number);
        }
        let commit = variable("GITHUB_SHA").filter(|sha| sha.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let commit = commit.ok_or("there is no pull request")?;
        let found = self.ask(Method::GET, &self.path(&format!("commits/{commit}/pulls")), None).await?;
        let found: Json = serde_json::from_slice(&found.body).map_err(|error| error.to_string())?;
        found[0]["number"].as_u64().ok_or_else(|| "the commit came from no pull request".to_owned())
    }

    /// Writes the comment, and tells where it is.
    async fn keep(&self, number: u64, marker: &str, text: &str) -> Result<String, String> {
        let own = self.own(number, marker).await?;
        let (method, path) = match own {
            Some(id) => (Method::PATCH, format!("issues/comments/{id}")),
            None => (Method::POST, format!("issues/{number}/comments")),
        };
        let written = self.ask(method, &self.path(&path), Some(json!({ "body": text }))).await?;
        let written: Json = serde_json::from_slice(&written.body).unwrap_or_default();
        Ok(written["html_url"].as_str().unwrap_or("written").to_owned())
    }

    /// The comment with the marker that whoever the token belongs to wrote.
    async fn own(&self, number: u64, marker: &str) -> Result<Option<u64>, String> {
        let login = self.login().await;
        for page in 1..=MOST_PAGES {
            let path = format!("issues/{number}/comments?per_page={PAGE}&page={page}");
            let answer = self.ask(Method::GET, &self.path(&path), None).await?;
            let comments: Vec<Comment> =
                serde_json::from_slice(&answer.body).map_err(|error| format!("GitHub's answer is odd: {error}"))?;
            let is_own = |comment: &&Comment| {
                comment.user.as_ref().is_some_and(|user| user.login == login)
                    && comment.body.as_deref().is_some_and(|body| body.starts_with(marker))
            };
            if let Some(own) = comments.iter().find(is_own) {
                return Ok(Some(own.id));
            }
            if comments.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }

    /// Who the token belongs to. A workflow's token may not ask for `/user`, and is told here.
    async fn login(&self) -> String {
        let asked = self.ask(Method::POST, &self.graphql, Some(json!({ "query": "{ viewer { login } }" }))).await;
        let told = asked.ok().and_then(|answer| serde_json::from_slice::<Json>(&answer.body).ok());
        let login = told.as_ref().and_then(|told| told["data"]["viewer"]["login"].as_str());
        login.unwrap_or(BOT).to_owned()
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/repos/{}/{rest}", self.base, self.repository)
    }

    async fn ask(&self, method: Method, url: &str, body: Option<Json>) -> Result<Answer, String> {
        let url = Url::parse(url).map_err(|_| "the address of GitHub's API is no URL".to_owned())?;
        let headers = [
            (AUTHORIZATION, self.token.clone()),
            (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28")),
        ];
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let message = Message { method, url: &url, headers: &headers, body, allow_http: false };
        let answer = self
            .client
            .send(message, Bounds { time: scaled(BOUNDS.time), ..BOUNDS })
            .await
            .map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status.as_u16();
        let hint = match status {
            403 | 404 => "; the job needs the permission pull-requests: write",
            _ => "",
        };
        Err(format!("GitHub answered {status}{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(name: &'a str, file: &'a str) -> Subject<'a> {
        Subject { kind: "plan", name, file }
    }

    #[test]
    fn a_marker_is_one_comment_whatever_the_plan_is_called() {
        let hostile = subject("x --> <script>", "a\nb").marker();
        assert!(hostile.starts_with("<!-- batchplan plan ") && hostile.ends_with(" -->"), "{hostile}");
        assert_eq!(hostile.matches("--").count(), 2);
        assert_ne!(subject("a", "bc").marker(), subject("ab", "c").marker());
    }

    #[test]
    fn a_comment_fits_as_github_counts() {
        let end = Some("https://github.com/a/b/actions/runs/1");
        assert_eq!(
            body("<!-- m -->", "text\n", end),
            "<!-- m -->\ntext\n\n[the run and its summary](https://github.com/a/b/actions/runs/1)\n"
        );
        for line in ["a\n", "é\n", "😀\n"] {
            let long = body("<!-- m -->", &line.repeat(70_000), end);
            let units = long.encode_utf16().count();
            assert!((65_500..=65_535).contains(&units), "{units}");
            assert!(long.ends_with("room for\n\n[the run and its summary](https://github.com/a/b/actions/runs/1)\n"));
        }
    }
}
