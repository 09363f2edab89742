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

#[test]
fn a_job_and_a_saved_plan_stay_in_the_region_of_their_environment() {
    let scene = Scene::with_objects(0);
    scene.write("plan.toml", format!("name = \"t\"\n[store]\nprovider = \"aws\"\n{TAG}"));
    let host = "bkt.s3.us-east-1.amazonaws.com";
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::to(&[(host, silent.local_addr().expect("an address").port())]);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let (through, no_machine) = (("HTTPS_PROXY", url.as_str()), ("AWS_EC2_METADATA_DISABLED", "true"));
    let here = ("AWS_REGION", "us-east-1");
    let connects = |args: &[&str]| {
        let before = proxy.heads.targets().len();
        let mut command = scene.command(args);
        command.envs([through, no_machine, here]);
        let running = Running::of(command);
        until("a connection", || proxy.heads.targets().len() > before);
        drop(running);
        let targets = proxy.heads.targets();
        assert!(targets.iter().all(|target| *target == format!("CONNECT {host}:443")), "{targets:?}");
    };
    connects(&["create", "plan.toml"]);
    let id = scene.newest().id;
    let resume = ["resume", id.as_str(), "--auto-approve"];
    let requests = proxy.heads.targets().len();
    let variables = [through, no_machine, ("AWS_REGION", "cn-north-1")];
    let ran = run(&scene, &resume, &variables).ended(6);
    let said = "the endpoint has changed: it was AWS's default in us-east-1 (from the environment), and is now AWS's \
                default in cn-north-1 (from AWS_REGION)\n";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let again = run(&scene, &["apply", "plan.toml", "--auto-approve"], &variables).ended(6);
    let change = "`AWS's default, region us-east-1` is now `AWS's default, region cn-north-1`";
    assert!(again.stderr.contains(change), "{}", again.stderr);
    let ran = run(&scene, &resume, &[through, no_machine, ("AWS_REGION", "")]);
    assert!(ran.code != 0 && ran.stderr.contains("no region: "), "{}", ran.stderr);
    let shown = scene.run(&["show", id.as_str()]).ended(0);
    assert!(shown.stdout.contains("aws, us-east-1 (from the environment)"), "{}", shown.stdout);
    assert_eq!(proxy.heads.targets().len(), requests, "nothing was sent");
    connects(&resume);
}
