//! The clients beside that of the store: STS, webhooks, and comments on pull requests.

use crate::proxy::{Heads, Proxy, ProxyOptions, VALID, answering, tls_front};
use crate::receiver::Receiver;
use crate::scene::{APPLY, Scene, TAG};
use crate::{BASIC, fixture, run, with_password};

/// A host that gives this answer to everything, encrypted and behind a proxy.
fn behind_proxy(host: &'static str, answer: &'static str) -> (Heads, Proxy) {
    let (port, heads) = answering(answer);
    let hosts = vec![(host, tls_front(VALID, port))];
    (heads, Proxy::start(ProxyOptions { hosts, authorization: Some(BASIC), ..ProxyOptions::default() }))
}

#[test]
fn the_sts_of_both_services_is_reached_through_the_proxy() {
    let aws = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/xml\r\nconnection: close\r\n\r\n<ErrorResponse \
               xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Code>AccessDenied</Code><Message>not \
               you</Message></Error></ErrorResponse>";
    let oss =
        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"Code\": \"NoPermission\", \"Message\": \"not you\"}";
    for (provider, host, answer, region, code) in [
        ("aws", "sts.us-east-1.amazonaws.com", aws, "us-east-1", "AccessDenied"),
        ("oss", "sts.cn-hangzhou.aliyuncs.com", oss, "cn-hangzhou", "NoPermission"),
    ] {
        let (sts, proxy) = behind_proxy(host, answer);
        let scene = Scene::with_objects(1);
        let endpoint = if provider == "oss" { "endpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n" } else { "" };
        let arn =
            if provider == "oss" { "acs:ram::123456789:role/Role" } else { "arn:aws:iam::123456789012:role/Role" };
        let store = format!("provider = \"{provider}\"\nregion = \"{region}\"\nrole_arn = \"{arn}\"\n{endpoint}");
        scene.write("plan.toml", format!("name = \"t\"\n[store]\n{store}{TAG}"));
        let variables = [
            ("HTTPS_PROXY", &*with_password(proxy.port)),
            ("AWS_CA_BUNDLE", &*fixture("ca.pem")),
            ("OSS_ACCESS_KEY_ID", "AKIDSEEN"),
            ("OSS_ACCESS_KEY_SECRET", "hushhush"),
        ];
        let ran = run(&scene, &APPLY, &variables).ended(1);
        let said = format!("cannot assume the role: {code}: not you");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(proxy.heads.targets(), [format!("CONNECT {host}:443")]);
        let [request] = &sts.all()[..] else { panic!("one request") };
        assert!(request.contains(&format!("\r\nhost: {host}\r\n")), "{request}");
    }
}

#[test]
fn a_webhook_is_reached_through_the_proxy() {
    let (scene, receiver) = (Scene::with_objects(2), Receiver::encrypted());
    let port = receiver.url_at("h").split([':', '/']).nth(4).and_then(|port| port.parse().ok()).expect("a port");
    let proxy = Proxy::to(&[("hooks.batchplan.test", port)]);
    scene.plan(&format!("{TAG}[[notify]]\nurl = \"https://hooks.batchplan.test/hook\"\n"));
    let variables = [
        ("HTTPS_PROXY", &*with_password(proxy.port)),
        ("AWS_CA_BUNDLE", &*fixture("ca.pem")),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
    ];
    let ran = run(&scene, &APPLY, &variables).ended(0);
    assert_eq!(receiver.events(), ["complete"], "{}", ran.stderr);
    assert_eq!(proxy.heads.targets(), ["CONNECT hooks.batchplan.test:443"]);
}

#[test]
fn a_webhook_is_verified_with_the_bundle_of_aws_alone() {
    let right = fixture("ca.pem");
    for (variables, events) in [
        ([("AWS_CA_BUNDLE", right.as_str()), ("SSL_CERT_FILE", "/nowhere")], &["complete"][..]),
        ([("AWS_CA_BUNDLE", &fixture("server.pem")), ("SSL_CERT_FILE", &right)], &[]),
    ] {
        let (scene, receiver) = (Scene::with_objects(2), Receiver::encrypted());
        scene.plan(&format!("{TAG}[[notify]]\nurl = \"{}\"\n", receiver.url_at("localhost")));
        let ran = run(&scene, &APPLY, &variables).ended(0);
        assert_eq!(receiver.events(), events, "{}", ran.stderr);
    }
}

#[test]
fn a_comment_is_written_through_the_proxy() {
    let (github, proxy) = behind_proxy("api.batchplan.test", "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    let scene = Scene::with_objects(2);
    scene.plan(TAG);
    scene.write("event.json", "{\"pull_request\": {\"number\": 7}}");
    let variables = [
        ("HTTPS_PROXY", &*with_password(proxy.port)),
        ("AWS_CA_BUNDLE", &*fixture("ca.pem")),
        ("GITHUB_ACTIONS", "true"),
        ("BATCHPLAN_COMMENT", "true"),
        ("GITHUB_TOKEN", "t0ken"),
        ("GITHUB_API_URL", "https://api.batchplan.test"),
        ("GITHUB_REPOSITORY", "acme/data"),
        ("GITHUB_EVENT_NAME", "pull_request"),
        ("GITHUB_EVENT_PATH", "event.json"),
    ];
    let ran = run(&scene, &["plan", "plan.toml"], &variables).ended(0);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("GitHub answered 401: GITHUB_TOKEN is not valid"), "{said}");
    assert!(github.all().iter().any(|head| head.contains("host: api.batchplan.test\r\n")), "{:?}", github.all());
    assert!(proxy.heads.targets().iter().all(|target| target == "CONNECT api.batchplan.test:443"));
}
