//! Requests to servers that respond and to servers that do not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{HttpUrl, WebClient, WebRequest, WebRequestError, WebRequestLimits};

/// What the server does with the connection after it has sent its bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Reset,
    Silence,
    /// Sends the same bytes repeatedly.
    Repeat(&'static str),
}

/// Starts a server that accepts one request and sends `answer`. Returns its origin, and a task that returns the
/// request and the number of connections.
async fn server(answer: &'static str, then: Then) -> (String, JoinHandle<(String, u32)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut asked = Vec::new();
        while !asked.ends_with(b"over") {
            if stream.read_buf(&mut asked).await.expect("a request") == 0 {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).await.expect("sent");
        match then {
            Then::Close => stream.shutdown().await.expect("closed"),
            Then::Reset => {
                stream.set_zero_linger().expect("a socket");
                drop(stream);
            }
            Then::Silence => while stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {},
            Then::Repeat(piece) => while stream.write_all(piece.as_bytes()).await.is_ok() {},
        }
        let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        (String::from_utf8_lossy(&asked).into_owned(), 1 + u32::from(again.is_ok()))
    });
    (format!("http://{address}"), serving)
}

fn message<'a>(url: &'a HttpUrl, headers: &'a [(HeaderName, HeaderValue)]) -> WebRequest<'a> {
    WebRequest { method: Method::POST, url, headers, body: Bytes::from_static(b"it is over"), allow_http: false }
}

fn url(origin: &str) -> HttpUrl {
    HttpUrl::parse(&format!("{origin}/hook/pathsecret?token=querysecret")).expect("a URL")
}

/// Sends a request to such a server. Returns the result and the number of connections that the server got.
async fn exchange(
    answer: &'static str,
    then: Then,
    bounds: WebRequestLimits,
) -> (Result<super::WebResponse, WebRequestError>, u32) {
    let (origin, serving) = server(answer, then).await;
    let token = (AUTHORIZATION, HeaderValue::from_static("Bearer headersecret"));
    let url = url(&origin);
    let answer = WebClient::new().send(message(&url, &[token]), bounds).await;
    let (asked, times) = serving.await.expect("it served");
    assert!(asked.starts_with("POST /hook/pathsecret?token=querysecret HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer headersecret\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {}\r\n", &origin[7..])), "{asked}");
    if let Err(error) = &answer {
        let said = format!("{error} {error:?}");
        assert!(!said.contains("secret"), "{said}");
        assert!(said.contains(&origin), "{said}");
    }
    (answer, times)
}

fn brief() -> WebRequestLimits {
    WebRequestLimits { max_time: Duration::from_millis(200), ..WebRequestLimits::default() }
}

#[tokio::test]
async fn an_answer_is_read_whole_whatever_it_says() {
    for (sent, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi", 200, "hi"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 500, "abc"),
        ("HTTP/1.0 404 No\r\n\r\nuntil the end", 404, "until the end"),
    ] {
        let (answer, _) = exchange(sent, Then::Close, WebRequestLimits::default()).await;
        let answer = answer.expect("an answer");
        assert_eq!((answer.status.as_u16(), &*answer.body), (status, body.as_bytes()), "{sent}");
        assert_eq!(answer.headers.contains_key("x-a"), status == 200);
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    for sent in [
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Again\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (answer, times) = exchange(sent, Then::Close, WebRequestLimits::default()).await;
        assert_eq!((answer.expect("an answer").status.is_redirection(), times), (true, 1));
    }
}

#[tokio::test]
async fn rejects_incomplete_responses() {
    for (sent, then) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Then::Close),
        ("HTTP/1.1 200 OK\r\nContent-Le", Then::Close),
        ("", Then::Close),
        ("", Then::Reset),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Then::Reset),
        ("SSH-2.0-OpenSSH\r\n\r\n", Then::Close),
        (
            "HTTP/1.1 200 OK\r\nX-Long: ",
            Then::Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ),
    ] {
        let (answer, times) = exchange(sent, then, WebRequestLimits::default()).await;
        assert!(matches!(answer, Err(WebRequestError::UnreadableResponse { .. })), "{sent} {answer:?}");
        assert_eq!(times, 1, "{sent}");
    }
}

#[tokio::test]
async fn limits_endless_bodies() {
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    let bounds = WebRequestLimits { max_body_bytes: 1000, ..WebRequestLimits::default() };
    let (answer, _) = exchange(endless, Then::Repeat("more and more"), bounds).await;
    assert!(
        matches!(answer, Err(WebRequestError::ResponseTooLong { most: 1000, status, .. }) if status == 200),
        "{answer:?}"
    );

    let (origin, serving) = server(endless, Then::Repeat("more and more")).await;
    let url = url(&origin);
    let head = WebClient::new().send_for_head(message(&url, &[]), Duration::from_secs(30)).await.expect("a head");
    assert_eq!(head.status, 200);
    serving.await.expect("the connection was closed");
}

#[tokio::test]
async fn time_is_bounded_from_the_first_byte_to_the_last() {
    for (sent, then) in [
        ("", Then::Silence),
        ("HTTP/1.1 200", Then::Silence),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Then::Silence),
    ] {
        let began = Instant::now();
        let (answer, _) = exchange(sent, then, brief()).await;
        assert!(matches!(answer, Err(WebRequestError::TimedOut { .. })), "{sent} {answer:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_message_that_is_given_up_closes_its_connection() {
    let (origin, serving) = server("", Then::Silence).await;
    let url = url(&origin);
    let client = WebClient::new();
    let given_up =
        tokio::time::timeout(Duration::from_millis(200), client.send(message(&url, &[]), WebRequestLimits::default()));
    assert!(given_up.await.is_err());
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("the server is left").expect("it served");
}

#[tokio::test]
async fn sends_plain_http_only_to_loopback_unless_allowed() {
    // 192.0.2.0/24 is reserved for documentation: no host responds there.
    let elsewhere = HttpUrl::parse("http://192.0.2.1:9/secret").expect("a URL");
    let refused = WebClient::new().send(message(&elsewhere, &[]), brief()).await.expect_err("refused");
    assert_eq!(refused.to_string(), "http://192.0.2.1:9 uses unencrypted http to another machine");
    let allowed = WebRequest { allow_http: true, ..message(&elsewhere, &[]) };
    let tried = WebClient::new().send(allowed, brief()).await.expect_err("nothing listens there");
    assert!(!matches!(tried, WebRequestError::NotEncrypted(_)), "{tried}");
}

#[tokio::test]
async fn fails_to_connect_if_nothing_listens_or_tls_is_missing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let nobody =
        WebClient::new().send(message(&url(&format!("http://{address}")), &[]), WebRequestLimits::default()).await;
    assert!(matches!(nobody, Err(WebRequestError::ConnectFailed(_))), "{nobody:?}");

    let (origin, serving) = server("HTTP/1.1 200 OK\r\n\r\n", Then::Close).await;
    let encrypted = url(&origin.replace("http", "https"));
    let plain = WebClient::new().send(message(&encrypted, &[]), brief()).await.expect_err("no encryption");
    let no_connection = matches!(
        plain,
        WebRequestError::ConnectFailed(_) | WebRequestError::TimedOut { .. } | WebRequestError::InvalidSetup(_)
    );
    assert!(no_connection, "{plain}");
    serving.abort();
}

#[test]
fn a_wait_names_the_api_call_or_else_the_method() {
    assert_eq!(WebClient::new().waiting_for(&Method::POST), "no response to POST");
    assert_eq!(WebClient::for_api_call("AssumeRole").waiting_for(&Method::POST), "no response to AssumeRole");
}

/// A response with this many headers.
fn with_headers(count: usize) -> &'static str {
    let headers = (0..count).map(|n| format!("x-amz-meta-{n}: {n}\r\n")).collect::<Vec<_>>().concat();
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n").leak()
}

#[tokio::test]
async fn many_headers_are_read_and_too_many_are_named() {
    let (answer, _) = exchange(with_headers(1000), Then::Close, WebRequestLimits::default()).await;
    assert_eq!(answer.expect("an answer").headers.len(), 1000);
    let (answer, _) = exchange(with_headers(1001), Then::Close, WebRequestLimits::default()).await;
    let said = answer.expect_err("too many").to_string();
    assert!(said.ends_with("the response has more than 1000 headers, or more than 64 KiB of them"), "{said}");
    let long: &str = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "a".repeat(1 << 20)).leak();
    let (answer, _) = exchange(long, Then::Close, WebRequestLimits::default()).await;
    let said = answer.expect_err("too long").to_string();
    assert!(said.contains("64 KiB"), "{said}");
}

#[tokio::test]
async fn plain_http_on_a_port_with_tls_names_the_scheme_to_use() {
    // The alert "unexpected message" of TLS 1.2.
    let (answer, _) = exchange("\u{15}\u{3}\u{3}\0\u{2}\u{2}\n", Then::Close, WebRequestLimits::default()).await;
    let said = answer.expect_err("no HTTP").to_string();
    assert!(said.ends_with("the server speaks TLS on this port: use https://"), "{said}");
}
