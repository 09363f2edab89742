//! Connections through proxies and with TLS, to servers of the test's own.

use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::super::client::{WebClient, WebRequest, WebRequestLimits};
use super::super::url::HttpUrl;
use super::*;

#[path = "../../../../../tests/support/proxy.rs"]
mod proxy_server;

use proxy_server::{EXPIRED, Heads, Proxy as ProxyServer, ProxyOptions, VALID, answering, blurting, tls_front};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The user name and password `user:p@ss`, as they are sent.
const BASIC: &str = "Basic dXNlcjpwQHNz";

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tls").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// Sends a request with these variables. Returns the body, or what the error says.
async fn ask(url: &str, variables: &[(&str, &str)]) -> Result<Bytes, String> {
    let ca = fixture("ca.pem");
    let found = |name: &str| {
        let given = variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        given.or_else(|| (name == "AWS_CA_BUNDLE").then(|| ca.clone().into()))
    };
    let settings = Arc::new(ConnectionSettings::from_variables(&found));
    let url = HttpUrl::parse(url).expect("a URL");
    let token: (HeaderName, HeaderValue) = (AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"));
    let headers = [token];
    let request =
        WebRequest { method: Method::GET, url: &url, headers: &headers, body: Bytes::new(), allow_http: true };
    let limits = WebRequestLimits { max_connect_time: Duration::from_secs(5), ..WebRequestLimits::default() };
    let sent = WebClient::with_settings(settings, "an answer".to_owned()).send(request, limits).await;
    match sent {
        Ok(response) if response.status.is_success() => Ok(response.body),
        Ok(response) => Err(response.status.to_string()),
        Err(error) => {
            let said = error.to_string();
            assert!(!format!("{said} {error:?}").contains("p@ss"), "{said}");
            Err(said)
        }
    }
}

/// A server behind a proxy, which both are reached with and without TLS.
fn behind_proxy(encrypted_server: bool, encrypted_proxy: bool) -> (Heads, ProxyServer) {
    let (port, heads) = answering(ANSWER);
    let port = if encrypted_server { tls_front(VALID, port) } else { port };
    let proxy = ProxyServer::start(ProxyOptions {
        hosts: vec![(".batchplan.test", port)],
        authorization: Some(BASIC),
        certificate: encrypted_proxy.then_some(VALID),
        ..ProxyOptions::default()
    });
    (heads, proxy)
}

#[tokio::test]
async fn every_combination_of_tls_goes_through_a_proxy() {
    for (https, encrypted_proxy) in [(false, false), (false, true), (true, false), (true, true)] {
        let (server, proxy) = behind_proxy(https, encrypted_proxy);
        let through = if encrypted_proxy { "https" } else { "http" };
        let proxy_url = format!("{through}://user:p%40ss@localhost:{}", proxy.port);
        let (variable, url, target) = if https {
            ("HTTPS_PROXY", "https://store.batchplan.test/a?b", "CONNECT store.batchplan.test:443")
        } else {
            ("http_proxy", "http://store.batchplan.test:9000/a?b", "GET http://store.batchplan.test:9000/a?b")
        };
        let answer = ask(url, &[(variable, &proxy_url)]).await;
        assert_eq!(answer.as_deref(), Ok(&b"hi"[..]), "{https} {encrypted_proxy}");
        assert_eq!(proxy.heads.targets(), [target]);
        let [head] = &server.all()[..] else { panic!("one request") };
        assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
        // In a tunnel the proxy gets nothing of the request, and the server nothing of the proxy.
        assert_eq!(proxy.heads.all()[0].contains("t0ken"), !https);
        assert!(!https || !head.contains("proxy-authorization"), "{head}");
    }
}

#[tokio::test]
async fn a_host_that_no_proxy_names_and_this_machine_are_reached_directly() {
    let (port, heads) = answering(ANSWER);
    let proxy = ProxyServer::to(&[]);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    for host in ["localhost", "127.0.0.1"] {
        assert!(ask(&format!("http://{host}:{port}/"), &[("ALL_PROXY", &url)]).await.is_ok());
    }
    // The name does not exist, so that a direct connection fails.
    let said = ask("http://a.invalid/", &[("ALL_PROXY", &url), ("NO_PROXY", "invalid")]).await.expect_err("no host");
    assert!(said.starts_with("http://a.invalid: the host name does not resolve: "), "{said}");
    assert_eq!((heads.all().len(), proxy.heads.all().len()), (2, 0));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_reason() {
    let [(_, open), (_, closed)] = [behind_proxy(true, false), behind_proxy(false, false)];
    for (url, proxy, variable) in
        [("https://store.batchplan.test/", open, "HTTPS_PROXY"), ("http://store.batchplan.test/", closed, "HTTP_PROXY")]
    {
        let at = format!("127.0.0.1:{}", proxy.port);
        let origin = url.trim_end_matches('/');
        let said = ask(url, &[(variable, &format!("http://{at}"))]).await.expect_err("no password");
        assert_eq!(
            said,
            format!(
                "{origin} through the proxy http://{at}: the proxy requires a user name and password (407 Proxy \
                 Authentication Required): set {variable} to http://USER:PASSWORD@{at}"
            )
        );
        let said = ask(url, &[(variable, &format!("http://user:other@{at}"))]).await.expect_err("another password");
        assert!(said.contains(&format!("the proxy rejected the user name and password in {variable} (407 ")), "{said}");
    }
    for (answer, why) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 9999\r\n\r\n<html>", "refused the connection: 403 Forbidden"),
        ("HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n", "refused the connection: 302 Found"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "the CONNECT request failed: "),
        ("", "the CONNECT request failed: "),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "the proxy sent data before the TLS handshake"),
    ] {
        let proxy = ProxyServer::start(ProxyOptions { answer: Some(answer), ..ProxyOptions::default() });
        let url = format!("http://user:p%40ss@127.0.0.1:{}", proxy.port);
        let said = ask("https://store.batchplan.test/", &[("HTTPS_PROXY", &url)]).await.expect_err(answer);
        let start = format!("https://store.batchplan.test through the proxy http://127.0.0.1:{}: ", proxy.port);
        assert!(said.starts_with(&start) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn the_head_of_a_proxys_answer_is_bounded() {
    let endless: &str = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)).leak();
    let many: &str = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(2000)).leak();
    for answer in [endless, many] {
        let proxy = ProxyServer::start(ProxyOptions { answer: Some(answer), ..ProxyOptions::default() });
        let url = format!("http://127.0.0.1:{}", proxy.port);
        let said = ask("https://store.batchplan.test/", &[("HTTPS_PROXY", &url)]).await.expect_err("too much");
        assert!(said.contains("64 KiB"), "{said}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_speaks_something_else_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let plain = blurting("HTTP/1.1 400 Bad Request\r\n\r\n");
    for (proxy, why) in [
        (format!("http://127.0.0.1:{gone}"), "cannot reach the proxy: connection refused"),
        ("http://proxy.invalid:1".to_owned(), "cannot reach the proxy: the host name does not resolve"),
        (
            format!("https://localhost:{plain}"),
            "the proxy does not speak TLS on this port: use http:// in the proxy's URL",
        ),
    ] {
        let said = ask("https://store.batchplan.test/", &[("HTTPS_PROXY", &proxy)]).await.expect_err("no proxy");
        assert!(said.contains(&format!("through the proxy {proxy}: {why}")), "{said}");
    }
}

#[tokio::test]
async fn a_tls_error_says_what_would_mend_it() {
    let plain = blurting("HTTP/1.1 400 Bad Request\r\n\r\n");
    let (port, _) = answering(ANSWER);
    let (valid, expired) = (tls_front(VALID, port), tls_front(EXPIRED, port));
    let (closing, other) = (blurting(""), fixture("server.pem"));
    let unknown = format!(
        "the certificate of the server is signed by an unknown issuer, which is not in {other} (AWS_CA_BUNDLE): \
                 add the issuer's certificate to that file"
    );
    for (url, bundle, why) in [
        (format!("https://localhost:{valid}"), Some(&other), unknown.as_str()),
        (
            format!("https://127.0.0.1:{valid}"),
            None,
            "the certificate of the server is for localhost, *.batchplan.test, *.us-east-1.amazonaws.com, \
             *.eu-west-1.amazonaws.com, *.sso.eu-west-1.amazonaws.com and 3 more, not for 127.0.0.1",
        ),
        (
            format!("https://localhost:{expired}"),
            None,
            "the certificate of the server expired at 2020-02-01T00:00:00Z: renew it, or correct the clock (this \
             machine's clock says ",
        ),
        (
            format!("https://localhost:{plain}"),
            None,
            "the server does not speak TLS on this port: use http:// if it speaks plain HTTP",
        ),
        (
            format!("https://localhost:{closing}"),
            None,
            "the server closed the connection during the TLS handshake: check that it serves https on this port",
        ),
    ] {
        let bundle: Vec<_> = bundle.map(|path| ("AWS_CA_BUNDLE", path.as_str())).into_iter().collect();
        let said = ask(&format!("{url}/"), &bundle).await.expect_err(why);
        assert!(said.starts_with(&format!("{url}: {why}")), "{said}");
    }
    let said = ask(&format!("http://localhost:{valid}/"), &[]).await.expect_err("no TLS");
    assert!(said.contains("the server speaks TLS on this port: use https://"), "{said}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_names_the_host() {
    // A backlog that nobody empties: the proxy accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = format!("http://{}", silent.local_addr().expect("an address"));
    let found = |name: &str| (name == "HTTPS_PROXY").then(|| proxy.clone().into());
    let settings = ConnectionSettings::from_variables(&|name| match name {
        "AWS_CA_BUNDLE" => Some(fixture("ca.pem").into()),
        name => found(name),
    });
    let connector = settings.connector_to(true, "store.batchplan.test").expect("a connector");
    let error = connector.connect(Duration::from_millis(100)).await.map(drop).expect_err("no answer");
    assert_eq!(
        error.to_string(),
        format!(
            "https://store.batchplan.test through the proxy {proxy}: the proxy did not answer CONNECT within 0.1 s"
        )
    );
}
