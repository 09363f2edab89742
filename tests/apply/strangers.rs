//! Servers that are not what they should be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::edges::signal;
use crate::world::{Ran, World};

/// Answers each request line, or never, where there is no answer; gives the endpoint and the lines as they come.
fn server(answer: fn(&str) -> Option<(&'static str, &'static str)>) -> (String, Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", server.local_addr().expect("an address"));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in server.incoming() {
            let (mut stream, tell) = (stream.expect("a connection"), tell.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let (mut request, mut body) = (String::new(), 0);
                reader.read_line(&mut request).expect("a request");
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a header");
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                        body = length.trim().parse().expect("a length");
                    }
                }
                std::io::copy(&mut reader.take(body), &mut std::io::sink()).expect("a body");
                // The test may be over.
                let _ = tell.send(request.clone());
                let Some((status, body)) = answer(&request) else { return thread::park() };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close", body.len());
                stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("answered");
            });
        }
    });
    (endpoint, told)
}

fn world(endpoint: &str, rest: &str) -> World {
    let world = World::filled("");
    world.write("list.csv", "bkt,a\n");
    world.write(
        "plan.toml",
        format!(
            "name = \"t\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{endpoint}\"\n{rest}"
        ),
    );
    world
}

/// `apply plan.toml --auto-approve`, with credentials.
fn start(world: &World) -> std::process::Child {
    world
        .command(&["apply", "plan.toml", "--auto-approve"])
        .env("AWS_ACCESS_KEY_ID", "AKIDSEEN")
        .env("AWS_SECRET_ACCESS_KEY", "hushhush")
        .env("CI", "true")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

#[test]
fn what_a_server_says_does_not_command_the_terminal() {
    let (endpoint, _told) = server(|_| {
        let body = "<Error><Code>AccessDenied</Code><Message>\u{9b}2J\u{202e}no</Message></Error>";
        Some(("403 Forbidden", body))
    });
    let tag = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    let world = world(&endpoint, &format!("[manifest.prefix]\nbucket = \"bkt\"\n{tag}"));
    let ran = Ran::of(&start(&world).wait_with_output().expect("it ends")).ended(4);
    assert!(ran.stderr.contains(r"403 AccessDenied: \u{9b}2J\u{202e}no"), "{}", ran.stderr);
}

#[test]
fn a_signal_ends_the_wait_for_a_report_that_is_never_taken() {
    let (endpoint, told) = server(|request| (!request.contains("/results/")).then_some(("200 OK", "")));
    let acl =
        "[undo]\ncapture = false\n[operation.put_object_acl]\nacl = \"private\"\n[report]\nbucket = \"reports\"\n";
    let world = world(&endpoint, &format!("[manifest.csv]\npath = \"list.csv\"\n{acl}"));
    let child = start(&world);
    let sent = told.iter().find(|request| request.contains("/results/"));
    assert!(sent.is_some_and(|request| request.starts_with("PUT /reports/")));
    signal(child.id(), "TERM");
    let ran = Ran::of(&child.wait_with_output().expect("it ends")).ended(5);
    assert!(ran.stderr.contains("1 changed, 0 failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("publish it again: batchplan publish "), "{}", ran.stderr);
}

#[test]
fn a_redirect_is_not_followed() {
    let (endpoint, told) = server(|_| Some(("307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/", "")));
    let world =
        world(&endpoint, "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_acl]\nacl = \"private\"\n");
    let ran = Ran::of(&start(&world).wait_with_output().expect("it ends")).ended(4);
    assert!(ran.stderr.contains("0 changed, 1 failed"), "{}", ran.stderr);
    assert_eq!(told.try_iter().count(), 1, "it was not sent again, there or elsewhere");
}
