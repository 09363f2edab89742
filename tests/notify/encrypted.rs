//! Receivers that speak TLS are told by whoever trusts their certificates, and by nobody else.

use std::path::{Path, PathBuf};

use crate::receiver::{Receiver, SECRET};
use crate::scene::{Scene, TAG};
use crate::world::Ran;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn apply(scene: &Scene, url: &str, bundle: &Path) -> Ran {
    scene.plan(&format!("{TAG}[[notify]]\nurl = \"{url}\"\nsecret_env = \"HOOK\"\n"));
    let mut command = scene.command(&["apply", "plan.toml", "--auto-approve"]);
    Ran::of(&command.env("HOOK", SECRET).env("SSL_CERT_FILE", bundle).output().expect("the binary runs")).ended(0)
}

#[test]
fn a_receiver_whose_certificate_is_trusted_is_told() {
    let (scene, receiver) = (Scene::with_objects(2), Receiver::encrypted());
    let ran = apply(&scene, &receiver.url_at("localhost"), &fixture("ca.pem"));
    assert_eq!(receiver.events(), ["complete"], "{}", ran.stderr);
    receiver.letters()[0].assert_signed();
    assert!(!ran.stderr.contains("\nwarning: "), "{}", ran.stderr);
}

#[test]
fn a_receiver_with_a_certificate_for_another_host_hears_nothing() {
    let (scene, receiver) = (Scene::with_objects(2), Receiver::encrypted());
    let ran = apply(&scene, &receiver.url_at("127.0.0.1"), &fixture("ca.pem"));
    assert!(receiver.letters().is_empty());
    assert!(ran.stderr.contains("\nwarning: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
}

#[test]
fn a_receiver_whom_nobody_vouches_for_hears_nothing() {
    let (scene, receiver) = (Scene::with_objects(2), Receiver::encrypted());
    // A certificate that others have signed vouches for nobody, not even for itself.
    let ran = apply(&scene, &receiver.url_at("localhost"), &fixture("server.pem"));
    assert!(receiver.letters().is_empty());
    // Whether it is given up or the time is up before: the waits between its attempts are drawn at random.
    assert!(ran.stderr.contains("signed by an unknown issuer"), "{}", ran.stderr);
}
