//! Jobs at AWS's own endpoints, which no test can reach: a proxy sees where they would go.

use std::net::TcpListener;

use crate::proxy::Proxy;
use crate::run;
use crate::scene::{Running, Scene, TAG, until};

/// Where the requests go for the bucket of the plan.
const HOST: &str = "bkt.s3-fips.us-east-1.amazonaws.com";

const PLAN: &str = "name = \"t\"\n[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\n";

#[test]
fn a_job_stays_with_the_variant_of_awss_endpoints() {
    let scene = Scene::with_objects(0);
    scene.write("plan.toml", format!("{PLAN}{TAG}"));
    // A server that accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::to(&[(HOST, silent.local_addr().expect("an address").port())]);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let through = ("HTTPS_PROXY", url.as_str());
    let (fips, dual_stack) = (("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true"));
    // Kills the command once it has connected.
    let connects = |args: &[&str]| {
        let before = proxy.heads.targets().len();
        let mut command = scene.command(args);
        command.envs([through, fips]);
        let running = Running::of(command);
        until("a connection", || proxy.heads.targets().len() > before);
        drop(running);
        let targets = proxy.heads.targets();
        assert!(targets.iter().all(|target| *target == format!("CONNECT {HOST}:443")), "{targets:?}");
    };
    connects(&["create", "plan.toml"]);
    let id = scene.newest().id;
    let resume = ["resume", id.as_str(), "--auto-approve"];
    let requests = proxy.heads.targets().len();
    for (variables, now) in [
        (&[through][..], "AWS's default"),
        (&[through, dual_stack], "AWS's dual-stack endpoint (from AWS_USE_DUALSTACK_ENDPOINT)"),
        (
            &[through, fips, dual_stack],
            "AWS's dual-stack FIPS endpoint (from AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT)",
        ),
    ] {
        let ran = run(&scene, &resume, variables).ended(6);
        let said = format!("it was AWS's FIPS endpoint (from the environment), and is now {now}\n");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    }
    assert_eq!(proxy.heads.targets().len(), requests, "nothing was sent");
    connects(&resume);
}
