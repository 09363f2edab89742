//! Variables that are not valid, and servers that are not what a plan says: the message names what to change.

use crate::proxy::{EXPIRED, VALID, blurting, tls_front};
use crate::scene::{APPLY, Scene, TAG};
use crate::{fixture, move_to, port_of, run};

fn encrypted(certificate: &'static [u8]) -> (Scene, u16) {
    let scene = Scene::with_objects(2);
    scene.plan(TAG);
    let port = tls_front(certificate, port_of(&scene.server.endpoint()));
    (scene, port)
}

#[test]
fn a_variable_that_is_not_valid_is_named_before_anything_is_sent() {
    let (scene, _) = encrypted(VALID);
    move_to(&scene, "https://store.batchplan.test", "");
    let ca = fixture("ca.pem");
    for (name, value, said) in [
        ("HTTPS_PROXY", "socks5://user:p%40ss@proxy:1080", "HTTPS_PROXY names a SOCKS proxy, which is not supported"),
        ("https_proxy", "http://user:p%40ss@", "https_proxy has no host"),
        ("ALL_PROXY", "ftp://user:p%40ss@proxy", "ALL_PROXY has a scheme other than http or https"),
        (
            "AWS_CA_BUNDLE",
            "/nowhere/ca.pem",
            "cannot load the CA certificates of AWS_CA_BUNDLE: /nowhere/ca.pem: No such file",
        ),
        (
            "SSL_CERT_FILE",
            "plan.toml",
            "cannot load the CA certificates of SSL_CERT_FILE: plan.toml: it contains no certificate",
        ),
        ("SSL_CERT_DIR", "/nowhere", "cannot load the CA certificates of SSL_CERT_DIR: /nowhere: No such file"),
    ] {
        let mut variables = vec![(name, value)];
        if !name.contains("CERT") && !name.contains("CA_") {
            variables.push(("AWS_CA_BUNDLE", &*ca));
        }
        let ran = run(&scene, &APPLY, &variables).ended(1);
        assert!(ran.stderr.starts_with(&format!("error: {said}")), "{}", ran.stderr);
        assert!(ran.stderr.contains("\nhelp: ") || ran.stderr.contains("help"), "{}", ran.stderr);
    }
    assert_eq!(scene.server.requests(), 0);
    assert!(scene.jobs().is_empty());
}

#[test]
fn a_variable_that_is_not_valid_is_named_before_a_role_is_assumed() {
    let scene = Scene::with_objects(1);
    let store = "provider = \"oss\"\nregion = \"cn-hangzhou\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n";
    let role = "role_arn = \"acs:ram::123456789:role/Role\"\n";
    scene.write("plan.toml", format!("name = \"t\"\n[store]\n{store}{role}{TAG}"));
    let keys = [("OSS_ACCESS_KEY_ID", "AKIDSEEN"), ("OSS_ACCESS_KEY_SECRET", "hushhush")];
    let variables = [("HTTPS_PROXY", "socks5://proxy:1080"), ("AWS_CA_BUNDLE", &*fixture("ca.pem")), keys[0], keys[1]];
    let ran = run(&scene, &APPLY, &variables).ended(1);
    assert!(ran.stderr.starts_with("error: HTTPS_PROXY names a SOCKS proxy"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("role_arn"), "{}", ran.stderr);
}

#[test]
fn what_is_wrong_with_a_connection_is_said_with_the_host_and_what_to_do() {
    let (scene, valid) = encrypted(VALID);
    let expired = tls_front(EXPIRED, port_of(&scene.server.endpoint()));
    let plain = blurting("HTTP/1.1 400 Bad Request\r\n\r\n");
    let go = blurting("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    let (ca, server) = (fixture("ca.pem"), fixture("server.pem"));
    for (endpoint, bundle, said) in [
        (format!("https://localhost:{valid}"), &server, "(AWS_CA_BUNDLE): add the issuer's certificate to that file"),
        (format!("https://127.0.0.1:{valid}"), &ca, "the certificate of the server is for localhost, "),
        (format!("https://localhost:{expired}"), &ca, "the certificate of the server expired at 2020-02-01T00:00:00Z"),
        (format!("https://localhost:{plain}"), &ca, "use http:// if it speaks plain HTTP"),
        (format!("http://localhost:{valid}"), &ca, "the server speaks TLS on this port: use https://"),
        (format!("http://localhost:{go}"), &ca, "the server speaks TLS on this port: use https://"),
    ] {
        scene.plan(TAG);
        move_to(&scene, &endpoint, "");
        let ran = run(&scene, &["plan", "plan.toml"], &[("AWS_CA_BUNDLE", bundle)]);
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains(said) && ran.stderr.contains(&endpoint), "{said}: {}", ran.stderr);
    }
}
