//! Keeps one comment on a pull request up to date for each plan.
//! <https://docs.github.com/en/rest/issues/comments>
//!
//! The comment is found by a marker at its start, among the comments of the token's owner. Markers in other users'
//! comments do not count. The comment is best effort: a failure is one warning and never changes the exit code.

use std::time::Duration;

use batchplan_store::backoff::{RetryPolicy, retry};
use batchplan_store::hex::hex;
use batchplan_store::timeouts::{self, DisplaySeconds, scaled};
use batchplan_store::web::{HttpUrl, WebClient, WebRequest, WebRequestLimits, WebResponse};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::markdown::truncate_markdown;

/// The maximum length of a comment in UTF-16 code units. GitHub's own count is not stricter.
const MAX_COMMENT_UNITS: usize = 65_535;

/// The time limit for the whole update.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The time limit for one request.
const REQUEST_TIME_LIMIT: Duration = Duration::from_secs(10);

/// The maximum size of one response, in bytes: a page of comments, each of the maximum length.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// The number of comments on a page.
const PAGE_SIZE: usize = 50;

/// The maximum number of pages to read. If there are more, it is unknown whether the comment exists.
const MAX_PAGES: usize = 60;

/// When requests that change nothing are retried.
const RETRIES: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(300), max_delay: Duration::from_secs(2), max_attempts: 3 };

/// The suffix of an app's login.
const APP_LOGIN_SUFFIX: &str = "[bot]";

/// How a refusal after too many requests is reported.
const RATE_LIMIT: &str = "rate limit exceeded";

/// Returns the text that a comment starts with. A new comment replaces the earlier one that starts with the same text.
/// `kind` is `plan`, `job` or `run`, `name` is the plan's name, and `file` is the plan file, as GitHub names it. Names
/// are hashed, so that no plan's name can end the marker.
pub(super) fn marker(kind: &str, name: &str, file: &str) -> String {
    let digest = Sha256::digest(json!([name, file]).to_string());
    format!("<!-- batchplan {kind} {} -->", &hex(&digest)[..16])
}

/// Creates or updates the comment that starts with a marker, and returns its URL. `run` is the URL of the workflow run,
/// if there is one.
///
/// # Errors
/// Returns why the comment could not be written.
pub(super) fn create_or_update(marker: &str, markdown: &str, run: Option<&str>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let updated = runtime.block_on(async {
        let api = GithubApi::from_env()?;
        let update = async {
            let number = api.pull_request_number().await?;
            let text = body(marker, markdown, run);
            api.write_comment(number, marker, &text).await
        };
        // The HTTP client reports a long wait for one response: of two reports for the same host, one is shown.
        let waiting_for = || "the comment is not written yet".to_owned();
        let updated = timeouts::with_time_limit(scaled(TIME_LIMIT), api.host(), waiting_for, update).await;
        updated.unwrap_or_else(|late| Err(format!("GitHub took longer than {}", DisplaySeconds(late.0))))
    });
    runtime.shutdown_background();
    match &updated {
        Ok(url) => info!(url, "pull request comment written"),
        Err(error) => warn!(error, "pull request comment not written"),
    }
    updated
}

/// Returns the whole comment, within GitHub's limit.
fn body(marker: &str, markdown: &str, run: Option<&str>) -> String {
    let units = |text: &str| text.encode_utf16().count();
    let end = run.map_or_else(String::new, |run| format!("\n[workflow run and summary]({run})\n"));
    let room = MAX_COMMENT_UNITS - units(marker) - 1 - units(&end);
    format!("{marker}\n{}{end}", truncate_markdown(markdown, room, units))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the URL of the GraphQL API. On GitHub Enterprise Server, only the other API has its version in the path.
/// <https://docs.github.com/en/enterprise-server@latest/graphql/guides/forming-calls-with-graphql>
fn graphql_url(base: &str) -> String {
    format!("{}/graphql", base.strip_suffix("/v3").unwrap_or(base))
}

/// A client of GitHub's API for one token and one repository.
struct GithubApi {
    client: WebClient,
    base: String,
    graphql: String,
    repository: String,
    token: HeaderValue,
}

/// The fields of a comment that matter here.
#[derive(Deserialize)]
struct GithubComment {
    id: u64,
    body: Option<String>,
    user: Option<GithubUser>,
}

#[derive(Deserialize)]
struct GithubUser {
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

impl GithubUser {
    /// Returns whether the user is an app. No person can have such a login.
    fn is_app(&self) -> bool {
        self.kind == "Bot" || self.login.ends_with(APP_LOGIN_SUFFIX)
    }

    /// Returns whether the user has this login. An app's login is written with and without its suffix.
    fn has_login(&self, login: &str) -> bool {
        self.login == login
            || (self.is_app()
                && self.login.trim_end_matches(APP_LOGIN_SUFFIX) == login.trim_end_matches(APP_LOGIN_SUFFIX))
    }
}

/// The owner of the token.
enum TokenOwner {
    /// The owner's login.
    Known(String),
    /// GitHub does not say who the owner is. Contains the reason.
    Unknown(String),
}

/// The result of a search for the comment.
enum CommentSearch {
    /// The id of the comment.
    Existing(u64),
    /// There is no comment.
    Missing,
    /// There may be a comment. Contains why that is not known.
    Unknown(String),
}

/// A request that GitHub refused or did not answer. The status is 0 without an answer.
struct GithubApiError {
    status: u16,
    message: String,
}

impl GithubApiError {
    fn no_response(message: String) -> Self {
        Self { status: 0, message }
    }

    /// Returns whether a retry may succeed.
    fn is_transient(&self) -> bool {
        matches!(self.status, 0 | 500..=599)
    }

    /// Returns whether the requested resource does not exist.
    fn is_not_found(&self) -> bool {
        matches!(self.status, 404 | 410)
    }
}

impl From<GithubApiError> for String {
    fn from(refusal: GithubApiError) -> Self {
        refusal.message
    }
}

impl GithubApi {
    /// Returns the host of the API, with its port.
    fn host(&self) -> &str {
        let rest = self.base.split_once("://").map_or(self.base.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    fn from_env() -> Result<Self, String> {
        let needed = |name: &str| variable(name).ok_or_else(|| format!("{name} is not set"));
        let base = variable("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());
        let token = needed("GITHUB_TOKEN")?;
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let header = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| is_token);
        let mut token = header
            .ok_or("GITHUB_TOKEN contains white space, a control or non-ASCII character: set it to the bare value")?;
        token.set_sensitive(true);
        Ok(Self {
            client: WebClient::new(),
            graphql: variable("GITHUB_GRAPHQL_URL").unwrap_or_else(|| graphql_url(&base)),
            base,
            repository: needed("GITHUB_REPOSITORY")?,
            token,
        })
    }

    /// Returns the pull request of the event, or the one that its commit came from.
    async fn pull_request_number(&self) -> Result<u64, String> {
        let event = variable("GITHUB_EVENT_PATH").and_then(|path| std::fs::read(path).ok());
        let event = event.and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()).unwrap_or_default();
        let issue = event["issue"].get("pull_request").is_some().then(|| &event["issue"]["number"]);
        if let Some(number) = event["pull_request"]["number"].as_u64().or_else(|| issue?.as_u64()) {
            return Ok(number);
        }
        let commit = variable("GITHUB_SHA").filter(|sha| sha.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let commit = commit.ok_or("the run has no pull request")?;
        let found =
            self.request_with_retry(Method::GET, &self.api_url(&format!("commits/{commit}/pulls")), None).await?;
        let found: Json = serde_json::from_slice(&found.body).map_err(|error| error.to_string())?;
        found[0]["number"].as_u64().ok_or_else(|| "the commit belongs to no pull request".to_owned())
    }

    /// Writes the comment and returns its URL. A new comment is created only if there is certainly none yet.
    async fn write_comment(&self, number: u64, marker: &str, text: &str) -> Result<String, String> {
        let author = self.token_owner().await;
        let mut gone = None;
        loop {
            let id = match self.find_comment(number, marker, &author).await? {
                CommentSearch::Existing(id) if gone == Some(id) => {
                    return Err(
                        "cannot update the comment of an earlier run: it was just deleted, or the job needs the \
                         permission pull-requests: write"
                            .to_owned(),
                    );
                }
                CommentSearch::Existing(id) => id,
                CommentSearch::Missing => {
                    let path = self.api_url(&format!("issues/{number}/comments"));
                    return Ok(comment_url(&self.request(Method::POST, &path, Some(&json!({ "body": text }))).await?));
                }
                CommentSearch::Unknown(why) => {
                    return Err(format!("cannot tell which comment is batchplan's: {why}"));
                }
            };
            let path = self.api_url(&format!("issues/comments/{id}"));
            match self.request(Method::PATCH, &path, Some(&json!({ "body": text }))).await {
                Ok(written) => return Ok(comment_url(&written)),
                // The comment was deleted after it was listed.
                Err(refusal) if refusal.is_not_found() => gone = Some(id),
                Err(refusal) => return Err(refusal.message),
            }
        }
    }

    /// Finds the comment that has the marker and belongs to the token's owner. Reads every page, because a page that is
    /// not full need not be the last one.
    async fn find_comment(&self, number: u64, marker: &str, author: &TokenOwner) -> Result<CommentSearch, String> {
        let mut candidates = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("issues/{number}/comments?per_page={PAGE_SIZE}&page={page}");
            let answer = self.request_with_retry(Method::GET, &self.api_url(&path), None).await?;
            let comments: Vec<GithubComment> = serde_json::from_slice(&answer.body)
                .map_err(|error| format!("unexpected response from GitHub: {error}"))?;
            let with_it = comments.iter().filter(|comment| {
                let has_it = comment.body.as_deref().is_some_and(|body| body.starts_with(marker));
                has_it && comment.user.is_some()
            });
            for comment in with_it {
                let Some(user) = &comment.user else { continue };
                match author {
                    TokenOwner::Known(login) if user.has_login(login) => {
                        return Ok(CommentSearch::Existing(comment.id));
                    }
                    TokenOwner::Known(_) => {}
                    TokenOwner::Unknown(_) => candidates.push((user.is_app(), comment.id)),
                }
            }
            if is_last_page(&answer) || (comments.is_empty() && !has_next_page(&answer)) {
                return Ok(choose_comment(&candidates, author));
            }
        }
        Ok(CommentSearch::Unknown(format!("the pull request has more than {MAX_PAGES} pages of comments")))
    }

    /// Returns the owner of the token. Uses GraphQL, because a workflow's token may not read `/user`.
    async fn token_owner(&self) -> TokenOwner {
        let query = json!({ "query": "{ viewer { login } }" });
        let answer = match self.request_with_retry(Method::POST, &self.graphql, Some(&query)).await {
            Ok(answer) => answer,
            Err(refusal) => return TokenOwner::Unknown(refusal.message),
        };
        let response = serde_json::from_slice::<Json>(&answer.body).unwrap_or_default();
        match response["data"]["viewer"]["login"].as_str() {
            Some(login) => TokenOwner::Known(login.to_owned()),
            None if response["errors"][0]["type"] == "RATE_LIMITED" => TokenOwner::Unknown(RATE_LIMIT.to_owned()),
            None => TokenOwner::Unknown("GitHub did not name the token's owner".to_owned()),
        }
    }

    fn api_url(&self, rest: &str) -> String {
        format!("{}/repos/{}/{rest}", self.base, self.repository)
    }

    /// Sends a request that changes nothing, and retries it if GitHub fails.
    async fn request_with_retry(
        &self,
        method: Method,
        url: &str,
        body: Option<&Json>,
    ) -> Result<WebResponse, GithubApiError> {
        let answer = retry(RETRIES, GithubApiError::is_transient, || self.request(method.clone(), url, body));
        answer.await.map_err(|exhausted| exhausted.error)
    }

    async fn request(&self, method: Method, url: &str, body: Option<&Json>) -> Result<WebResponse, GithubApiError> {
        let no_url = |_| GithubApiError { status: 400, message: "the URL of GitHub's API is not valid".to_owned() };
        let url = HttpUrl::parse(url).map_err(no_url)?;
        let headers = [
            (AUTHORIZATION, self.token.clone()),
            (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28")),
        ];
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let message = WebRequest { method, url: &url, headers: &headers, body, allow_http: false };
        let limits = WebRequestLimits {
            max_time: scaled(REQUEST_TIME_LIMIT),
            max_body_bytes: MAX_RESPONSE_BYTES,
            ..WebRequestLimits::default()
        };
        let sent = self.client.send(message, limits).await;
        let answer = sent.map_err(|error| GithubApiError::no_response(error.to_string()))?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(GithubApiError { status: answer.status.as_u16(), message: describe_refusal(&answer) })
    }
}

/// Describes GitHub's refusal.
fn describe_refusal(answer: &WebResponse) -> String {
    let status = answer.status.as_u16();
    if matches!(status, 403 | 429) && is_rate_limited(answer) {
        let until = header(answer, "x-ratelimit-reset").and_then(|time| time.trim().parse().ok());
        let until = until.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let seconds = header(answer, "retry-after").and_then(|seconds| seconds.trim().parse::<u64>().ok());
        let again = match (seconds, until) {
            (Some(seconds), _) => format!("; retry in {seconds} s"),
            (None, Some(until)) => format!("; it resets at {until}"),
            (None, None) => String::new(),
        };
        return format!("GitHub answered {status}: {RATE_LIMIT}{again}");
    }
    match status {
        401 => "GitHub answered 401: GITHUB_TOKEN is not valid".to_owned(),
        403 => "GitHub answered 403; the job needs the permission pull-requests: write".to_owned(),
        404 => "GitHub answered 404: the token has no access to this repository or pull request; the job needs the \
             permission pull-requests: write"
            .to_owned(),
        410 => "GitHub answered 410: it no longer exists".to_owned(),
        status => format!("GitHub answered {status}"),
    }
}

fn header<'a>(answer: &'a WebResponse, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns whether there were too many requests.
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>
fn is_rate_limited(answer: &WebResponse) -> bool {
    let message = serde_json::from_slice::<Json>(&answer.body).unwrap_or_default();
    let says_so = message["message"].as_str().is_some_and(|text| text.to_lowercase().contains("rate limit"));
    answer.status.as_u16() == 429
        || header(answer, "x-ratelimit-remaining").is_some_and(|left| left.trim() == "0")
        || header(answer, "retry-after").is_some()
        || says_so
}

fn has_next_page(answer: &WebResponse) -> bool {
    header(answer, "link").is_some_and(|links| links.contains("rel=\"next\""))
}

/// Returns whether a page is explicitly the last one: it links to other pages, but not to a next one.
fn is_last_page(answer: &WebResponse) -> bool {
    header(answer, "link").is_some_and(|links| links.contains("rel=\"prev\"") && !has_next_page(answer))
}

/// Chooses the token's own comment among those with the marker. If the token's owner is not known, only a single
/// comment by an app is certain: people may copy a marker, and no app does.
fn choose_comment(candidates: &[(bool, u64)], author: &TokenOwner) -> CommentSearch {
    match (author, candidates) {
        (TokenOwner::Known(_), _) | (TokenOwner::Unknown(_), []) => CommentSearch::Missing,
        (TokenOwner::Unknown(why), candidates) => {
            let apps: Vec<_> = candidates.iter().filter(|(is_app, _)| *is_app).collect();
            match apps[..] {
                [(_, id)] => CommentSearch::Existing(*id),
                _ => CommentSearch::Unknown(why.clone()),
            }
        }
    }
}

/// Returns the URL of a comment that was written.
fn comment_url(written: &WebResponse) -> String {
    let written: Json = serde_json::from_slice(&written.body).unwrap_or_default();
    written["html_url"].as_str().unwrap_or("written").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_is_a_single_html_comment_for_any_plan_name() {
        let hostile = marker("plan", "x --> <script>", "a\nb");
        assert!(hostile.starts_with("<!-- batchplan plan ") && hostile.ends_with(" -->"), "{hostile}");
        assert_eq!(hostile.matches("--").count(), 2);
        assert_ne!(marker("plan", "a", "bc"), marker("plan", "ab", "c"));
    }

    #[test]
    fn graphql_is_beside_the_api_of_an_enterprise_server() {
        assert_eq!(graphql_url("https://api.github.com"), "https://api.github.com/graphql");
        assert_eq!(graphql_url("https://ghe.example/api/v3"), "https://ghe.example/api/graphql");
    }

    #[test]
    fn comment_fits_the_github_limit() {
        let end = Some("https://github.com/a/b/actions/runs/1");
        assert_eq!(
            body("<!-- m -->", "text\n", end),
            "<!-- m -->\ntext\n\n[workflow run and summary](https://github.com/a/b/actions/runs/1)\n"
        );
        for line in ["a\n", "é\n", "😀\n"] {
            let long = body("<!-- m -->", &line.repeat(70_000), end);
            let units = long.encode_utf16().count();
            assert!((65_500..=65_535).contains(&units), "{units}");
            assert!(
                long.ends_with(
                    "... (truncated)\n\n[workflow run and summary](https://github.com/a/b/actions/runs/1)\n"
                )
            );
        }
    }
}
