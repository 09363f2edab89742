//! Stores behind a proxy.

use crate::proxy::{Proxy, ProxyOptions, VALID, tls_front};
use crate::scene::{APPLY, Scene, TAG};
use crate::{BASIC, fixture, move_to, port_of, run, with_password};

const OBJECTS: usize = 5;

fn scene() -> Scene {
    let scene = Scene::with_objects(OBJECTS);
    scene.plan(TAG);
    scene
}

fn proxy_to(port: u16) -> Proxy {
    Proxy::start(ProxyOptions {
        hosts: vec![("store.batchplan.test", port)],
        authorization: Some(BASIC),
        ..ProxyOptions::default()
    })
}

#[test]
fn a_plain_store_gets_whole_urls_through_the_proxy() {
    let scene = scene();
    let proxy = proxy_to(port_of(&scene.server.endpoint()));
    move_to(&scene, "http://store.batchplan.test:9000", "allow_http = true");
    run(&scene, &APPLY, &[("HTTP_PROXY", &with_password(proxy.port))]).ended(0);
    assert_eq!(scene.written().len(), OBJECTS);
    let targets = proxy.heads.targets();
    assert!(targets.iter().all(|target| target.contains(" http://store.batchplan.test:9000/bkt")), "{targets:?}");
    assert!(targets.contains(&"PUT http://store.batchplan.test:9000/bkt/k0000?tagging".to_owned()), "{targets:?}");
}

#[test]
fn an_encrypted_store_is_reached_through_a_tunnel_with_a_private_ca() {
    for (bundle, proxy_variable) in [("AWS_CA_BUNDLE", "HTTPS_PROXY"), ("SSL_CERT_FILE", "all_proxy")] {
        let scene = scene();
        let proxy = proxy_to(tls_front(VALID, port_of(&scene.server.endpoint())));
        move_to(&scene, "https://store.batchplan.test", "");
        let variables = [(proxy_variable, &*with_password(proxy.port)), (bundle, &*fixture("ca.pem"))];
        run(&scene, &APPLY, &variables).ended(0);
        assert_eq!(scene.written().len(), OBJECTS);
        let targets = proxy.heads.targets();
        assert!(targets.iter().all(|target| target == "CONNECT store.batchplan.test:443"), "{targets:?}");
        assert!(!proxy.heads.all().concat().contains("AKIDSEEN"), "the proxy sees no request");
    }
}

#[test]
fn a_store_on_this_machine_and_a_host_in_no_proxy_are_reached_directly() {
    let scene = scene();
    let proxy = Proxy::to(&[]);
    let url = with_password(proxy.port);
    run(&scene, &APPLY, &[("HTTP_PROXY", &url), ("ALL_PROXY", &url)]).ended(0);
    assert_eq!((scene.written().len(), proxy.heads.all().len()), (OBJECTS, 0));
}

#[test]
fn a_proxy_that_wants_a_password_says_so_and_nothing_is_changed() {
    let scene = scene();
    let port = port_of(&scene.server.endpoint());
    let proxy = proxy_to(port);
    move_to(&scene, "http://store.batchplan.test:9000", "allow_http = true");
    let ran = run(&scene, &APPLY, &[("HTTP_PROXY", &format!("http://127.0.0.1:{}", proxy.port))]);
    assert!(
        ran.stderr.contains("http://store.batchplan.test:9000 through the proxy http://127.0.0.1:"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("the proxy requires a user name and password (407 "), "{}", ran.stderr);
    assert!(ran.stderr.contains("set HTTP_PROXY to http://USER:PASSWORD@127.0.0.1:"), "{}", ran.stderr);
    assert_eq!(scene.written().len(), 0);
}

#[test]
fn a_407_of_the_server_behind_a_proxy_is_not_taken_for_the_proxys() {
    let scene = scene();
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
    let proxy = Proxy::start(ProxyOptions { answer: Some(answer), ..ProxyOptions::default() });
    move_to(&scene, "http://store.batchplan.test:9000", "allow_http = true");
    let ran = run(&scene, &["plan", "plan.toml"], &[("HTTP_PROXY", &format!("http://127.0.0.1:{}", proxy.port))]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("407") && !ran.stderr.contains("the proxy requires"), "{}", ran.stderr);
    // It is not a failure of the objects.
    let list = "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    scene.write("list.csv", "bkt,a\nbkt,b\n");
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    let store = plan.split("[manifest").next().unwrap_or_default();
    scene.write("plan.toml", format!("{store}{list}"));
    let ran = run(&scene, &APPLY, &[("HTTP_PROXY", &format!("http://127.0.0.1:{}", proxy.port))]);
    assert!(ran.stderr.contains("407 ProxyAuthenticationRequired"), "{}", ran.stderr);
    assert_ne!(scene.newest().status, batchplan::job::JobStatus::Complete);
    assert_eq!(scene.newest().progress.failed, 0);
}

#[test]
fn a_proxy_that_repeats_its_password_is_not_quoted_with_it() {
    let scene = scene();
    let answer = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n<Error><Code>AccessDenied</Code><Message>no \
                  dXNlcjpwQHNz, user:p@ss or p%40ss</Message></Error>";
    let proxy = Proxy::start(ProxyOptions { answer: Some(answer), ..ProxyOptions::default() });
    move_to(&scene, "http://store.batchplan.test:9000", "allow_http = true");
    // That nothing shows the password is checked of every run.
    let ran = run(&scene, &["plan", "plan.toml"], &[("HTTP_PROXY", &with_password(proxy.port))]);
    assert!(ran.stderr.contains("no [hidden], user:[hidden] or [hidden]"), "{}", ran.stderr);
}

#[test]
fn an_entry_of_no_proxy_that_names_no_host_is_named() {
    let scene = scene();
    let variables = [("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "<local>,10.0.0.0/99,example.com")];
    let ran = run(&scene, &["plan", "plan.toml"], &variables).ended(0);
    for entry in ["<local>", "10.0.0.0/99"] {
        let said = format!("NO_PROXY has the entry `{entry}`, which names no host and has no effect");
        assert!(ran.stdout.contains(&said), "{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("`example.com`"), "{}", ran.stdout);
    // That nothing shows the password is checked of every run.
    let variables = [("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "example.com,http://user:p@ss@h:1")];
    let ran = run(&scene, &["plan", "plan.toml"], &variables).ended(0);
    assert!(ran.stdout.contains("entry 2 of NO_PROXY names no host and has no effect"), "{}", ran.stdout);
}

#[test]
fn the_bundle_of_aws_is_used_in_place_of_all_others() {
    let scene = scene();
    let front = tls_front(VALID, port_of(&scene.server.endpoint()));
    move_to(&scene, &format!("https://localhost:{front}"), "");
    let (right, wrong) = (fixture("ca.pem"), fixture("server.pem"));
    let both = [("AWS_CA_BUNDLE", &*wrong), ("SSL_CERT_FILE", &*right)];
    let ran = run(&scene, &["plan", "plan.toml"], &both);
    let said = format!("is signed by an unknown issuer, which is not in {wrong} (AWS_CA_BUNDLE): add");
    assert!(ran.stderr.contains(&said) && !ran.stderr.contains("tried"), "{}", ran.stderr);
    run(&scene, &APPLY, &[("AWS_CA_BUNDLE", &right), ("SSL_CERT_FILE", &wrong), ("SSL_CERT_DIR", "/nowhere")]).ended(0);
    assert_eq!(scene.written().len(), OBJECTS);
}

#[test]
fn a_profile_names_the_bundle_for_its_store() {
    let scene = scene();
    let front = tls_front(VALID, port_of(&scene.server.endpoint()));
    move_to(&scene, &format!("https://localhost:{front}"), "");
    scene.write(".aws/config", format!("[default]\nca_bundle = {}\n", fixture("ca.pem")));
    run(&scene, &APPLY, &[]).ended(0);
    assert_eq!(scene.written().len(), OBJECTS);
    scene.write(".aws/config", "[default]\nca_bundle = /nowhere/ca.pem\n");
    let ran = run(&scene, &["plan", "plan.toml"], &[]).ended(1);
    let said = "error: cannot load the CA certificates of ca_bundle of the profile \"default\": /nowhere/ca.pem: ";
    assert!(ran.stderr.starts_with(said), "{}", ran.stderr);
}
