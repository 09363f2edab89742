//! As much of GitHub's API as the comment on a pull request needs: it keeps comments, knows whom a token belongs to,
//! and can be told to refuse.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value as Json, json};

/// What it has and was asked for.
#[derive(Default)]
pub(crate) struct Kept {
    /// Every comment on pull request 7, oldest first.
    pub(crate) comments: Vec<Json>,
    /// Method and path of each request.
    pub(crate) asked: Vec<String>,
    /// The status that it refuses everything with.
    pub(crate) refuses: Option<u16>,
    /// Headers of a refusal, each with its line end.
    pub(crate) with: &'static str,
    /// The status of each answer to who the token belongs to, where it does not say.
    pub(crate) silent: Option<u16>,
    /// Who the token belongs to, if not the workflow.
    pub(crate) login: Option<&'static str>,
    /// Whether what is to be changed is not there, and whether it is deleted then.
    pub(crate) gone: Option<bool>,
}

pub(crate) struct GitHub {
    pub(crate) kept: Arc<Mutex<Kept>>,
    pub(crate) address: String,
}

impl GitHub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let kept = Arc::new(Mutex::new(Kept::default()));
        let state = Arc::clone(&kept);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut state.lock().expect("the state"));
            }
        });
        Self { kept, address }
    }

    /// One that GitHub counts and does not show.
    pub(crate) fn has_hidden(&self) {
        self.has("somebody", "hidden");
        self.kept.lock().expect("the state").comments.last_mut().expect("it")["hidden"] = json!(true);
    }

    /// A comment that is there already.
    pub(crate) fn has(&self, login: &str, body: &str) {
        let mut kept = self.kept.lock().expect("the state");
        let id = kept.comments.len() + 1;
        kept.comments.push(json!({ "id": id, "user": { "login": login }, "body": body }));
    }

    /// All comments of one user.
    pub(crate) fn of(&self, login: &str) -> Vec<String> {
        let kept = self.kept.lock().expect("the state");
        let comments = kept.comments.iter().filter(|comment| comment["user"]["login"] == login);
        comments.map(|comment| comment["body"].as_str().expect("a body").to_owned()).collect()
    }
}

fn answer(mut stream: TcpStream, kept: &mut Kept) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let (mut first, mut length, mut authorised) = (String::new(), 0, false);
    reader.read_line(&mut first).expect("a line");
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length"),
            "authorization" => authorised = value == "Bearer ghs_harness",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body: Json = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    kept.asked.push(format!("{method} {target}"));
    let (status, answer) = match kept.refuses {
        Some(status) => (status, json!({ "message": "no" })),
        None if !authorised => (401, json!({ "message": "Bad credentials" })),
        None => served(method, target, &body, kept),
    };
    let answer = answer.to_string();
    let with = if status < 300 { "" } else { kept.with };
    let head = format!("HTTP/1.1 {status} X\r\n{with}content-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
}

fn served(method: &str, target: &str, body: &Json, kept: &mut Kept) -> (u16, Json) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| -> usize {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        value.and_then(|value| value.parse().ok()).unwrap_or(1)
    };
    if body["body"].as_str().is_some_and(|body| body.encode_utf16().count() > 65_535) {
        return (422, json!({ "message": "body is too long (maximum is 65536 characters)" }));
    }
    let login = kept.login.unwrap_or("github-actions[bot]");
    match (method, path.strip_prefix("/repos/acme/data/").unwrap_or(path)) {
        ("POST", "/graphql") => match kept.silent {
            Some(status) => (status, json!({ "errors": [{ "type": "OTHER" }] })),
            None => (200, json!({ "data": { "viewer": { "login": login } } })),
        },
        ("GET", "issues/7/comments") => {
            let (size, page) = (parameter("per_page"), parameter("page"));
            let page = kept.comments.iter().skip((page - 1) * size).take(size);
            let page: Vec<_> = page.filter(|comment| comment["hidden"] != true).cloned().collect();
            (200, json!(page))
        }
        ("POST", "issues/7/comments") => {
            let id = kept.comments.len() + 1;
            let comment = json!({
                "id": id, "user": { "login": login, "type": "Bot" }, "body": body["body"],
                "html_url": format!("https://github.com/acme/data/pull/7#issuecomment-{id}"),
            });
            kept.comments.push(comment.clone());
            (201, comment)
        }
        ("PATCH", path) => {
            let id: u64 = path.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
            if let Some(deleted) = kept.gone {
                kept.comments.retain(|comment| !deleted || comment["id"] != id);
                return (404, json!({ "message": "Not Found" }));
            }
            match kept.comments.iter_mut().find(|comment| comment["id"] == id) {
                Some(comment) => {
                    comment["body"] = body["body"].clone();
                    (200, comment.clone())
                }
                None => (404, json!({ "message": "Not Found" })),
            }
        }
        ("GET", path) if path.starts_with("commits/") => (200, json!([{ "number": 7 }])),
        _ => (404, json!({ "message": "Not Found" })),
    }
}
