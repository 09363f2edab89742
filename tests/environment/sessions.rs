//! Profiles with a session of `aws sso login` or `aws login`, whose cached tokens are below HOME.

use std::process::Command;

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use serde_json::Value as Json;

use crate::portal::{Portal, Received, Respond};
use crate::{Scene, run_to};

/// The tokens. None of them may be printed.
const TOKEN: &str = "hush-access-token";
const NEW_TOKEN: &str = "hush-renewed-token";

pub(crate) const CONFIG: &str = "[profile dev]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = Reader\n\
                      [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n\
                      [profile old]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n\
                      sso_account_id = 123456789012\nsso_role_name = Reader\n\
                      [profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = dev\n\
                      region = eu-west-1\n\
                      [profile console]\nlogin_session = arn:aws:iam::123456789012:user/me\nregion = eu-west-1\n";

/// The cached token of the session `s`: the file is named after the SHA-1 of its name.
pub(crate) const SSO_CACHE: &str = ".aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json";

/// That of the profile `old`, named after its start URL.
const OLD_CACHE: &str = ".aws/sso/cache/3947de8b16688092197fa616c34e01335f21d256.json";

/// That of the profile `console`, named after the SHA-256 of its `login_session`.
pub(crate) const LOGIN_CACHE: &str =
    ".aws/login/cache/286187707741fc2ccb93cf9e56dbd0ee0a16208feed5fbc8ae1baa86d44c283f.json";

pub(crate) fn sso_token(expires: &str, rest: &str) -> String {
    format!("{{\"accessToken\": \"{TOKEN}\", \"expiresAt\": \"{expires}\"{rest}}}")
}

pub(crate) const FUTURE: &str = "2999-01-01T00:00:00Z";
pub(crate) const PAST: &str = "2026-01-01T00:00:00Z";
pub(crate) const RENEWABLE: &str = ", \"refreshToken\": \"hush-refresh\", \"clientId\": \"client\", \"clientSecret\": \"hush-client\", \
                         \"registrationExpiresAt\": \"2999-01-01T00:00:00Z\"";

/// Answers as the real services do, with the sandbox's keys.
pub(crate) fn services(request: &Received) -> (u16, String) {
    let keys = format!("\"accessKeyId\": \"{ACCESS_KEY}\", \"secretAccessKey\": \"{SECRET_KEY}\"");
    let path = request.line.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default();
    match path {
        "/federation/credentials" => (
            200,
            format!(
                "{{\"roleCredentials\": {{{keys}, \"sessionToken\": \"hush-t\", \"expiration\": 32472144000000}}}}"
            ),
        ),
        "/token" => {
            (200, format!("{{\"accessToken\": \"{NEW_TOKEN}\", \"expiresIn\": 28800, \"tokenType\": \"Bearer\"}}"))
        }
        "/v1/token" => (
            200,
            format!(
                "{{\"accessToken\": {{{keys}, \"sessionToken\": \"hush-t\"}}, \"tokenType\": \"aws_sigv4\", \
                 \"expiresIn\": 900, \"refreshToken\": \"hush-next\"}}"
            ),
        ),
        "/" => (
            200,
            format!(
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
                 <AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
                 <SessionToken>hush-t</SessionToken><Expiration>{FUTURE}</Expiration></Credentials></AssumeRoleResult>\
                 </AssumeRoleResponse>"
            ),
        ),
        _ => (404, "{}".to_owned()),
    }
}

/// `plan` with this profile, whose services are this portal.
fn plan(scene: &Scene, profile: &str, portal: &Portal) -> Command {
    scene.write(".aws/config", CONFIG);
    let mut command = scene.command(&["plan", "plan.toml"]);
    command.env("AWS_PROFILE", profile);
    for service in ["SSO", "SSO_OIDC", "SIGNIN", "STS"] {
        command.env(format!("AWS_ENDPOINT_URL_{service}"), &portal.endpoint);
    }
    command
}

fn lines(portal: &Portal) -> Vec<String> {
    portal.received().iter().map(|request| request.line.clone()).collect()
}

const PORTAL_REQUEST: &str = "GET /federation/credentials?role_name=Reader&account_id=123456789012";

#[test]
fn a_session_provides_credentials() {
    for (profile, cache) in [("dev", SSO_CACHE), ("old", OLD_CACHE)] {
        let (scene, portal) = (Scene::new(), Portal::start(services));
        scene.write(cache, &sso_token(FUTURE, ""));
        let said = run_to(0, plan(&scene, profile, &portal));
        assert!(said.contains("2 objects"), "{said}");
        assert_eq!(lines(&portal), [PORTAL_REQUEST], "{profile}");
        assert_eq!(portal.received()[0].header("x-amz-sso_bearer_token"), Some(TOKEN));
    }
}

#[test]
fn a_role_is_assumed_with_a_session() {
    let (scene, portal) = (Scene::new(), Portal::start(services));
    scene.write(SSO_CACHE, &sso_token(FUTURE, ""));
    run_to(0, plan(&scene, "role", &portal));
    assert_eq!(lines(&portal), [PORTAL_REQUEST, "POST /"]);
    assert_eq!(portal.received()[1].header("x-amz-security-token"), Some("hush-t"));
}

#[test]
fn an_expired_token_is_renewed_and_cached() {
    let (scene, portal) = (Scene::new(), Portal::start(services));
    scene.write(SSO_CACHE, &sso_token(PAST, RENEWABLE));
    run_to(0, plan(&scene, "dev", &portal));
    assert_eq!(lines(&portal), ["POST /token", PORTAL_REQUEST]);
    let [renewal, exchange] = portal.received().try_into().expect("two requests");
    let body: Json = serde_json::from_str(&renewal.body).expect("JSON");
    assert_eq!((&body["grantType"], &body["refreshToken"]), (&"refresh_token".into(), &"hush-refresh".into()));
    assert_eq!(exchange.header("x-amz-sso_bearer_token"), Some(NEW_TOKEN));
    assert!(scene.read(SSO_CACHE).contains(NEW_TOKEN));
    // The cached token is valid now.
    run_to(0, plan(&scene, "dev", &portal));
    assert_eq!(lines(&portal).len(), 3);
}

#[test]
fn a_login_is_renewed_and_cached() {
    let (scene, portal) = (Scene::new(), Portal::start(services));
    scene.write(LOGIN_CACHE, &login_token(PAST));
    run_to(0, plan(&scene, "console", &portal));
    assert_eq!(lines(&portal), ["POST /v1/token"]);
    let request = &portal.received()[0];
    let body: Json = serde_json::from_str(&request.body).expect("JSON");
    assert_eq!((&body["grantType"], &body["refreshToken"]), (&"refresh_token".into(), &"hush-refresh".into()));
    assert_eq!(request.header("dpop").map(|proof| proof.split('.').count()), Some(3));
    let cached: Json = serde_json::from_str(&scene.read(LOGIN_CACHE)).expect("JSON");
    assert_eq!(
        (&cached["refreshToken"], &cached["accessToken"]["accessKeyId"]),
        (&"hush-next".into(), &ACCESS_KEY.into())
    );
    run_to(0, plan(&scene, "console", &portal));
    assert_eq!(lines(&portal).len(), 1);
}

/// The cached token of `aws login`. Its key was made for these tests.
pub(crate) fn login_token(expires: &str) -> String {
    serde_json::json!({
        "accessToken": {
            "accessKeyId": ACCESS_KEY,
            "secretAccessKey": SECRET_KEY,
            "sessionToken": "hush-t",
            "accountId": "123456789012",
            "expiresAt": expires,
        },
        "tokenType": "aws_sigv4",
        "refreshToken": "hush-refresh",
        "clientId": "arn:aws:signin:::devtools/same-device",
        "dpopKey": include_str!("../fixtures/login-key.pem"),
    })
    .to_string()
}

#[test]
fn a_session_that_ended_names_the_command_that_starts_it() {
    for (profile, cached, command) in [
        ("dev", None, "aws sso login --profile dev"),
        ("dev", Some((SSO_CACHE, sso_token(PAST, ""))), "aws sso login --profile dev"),
        ("role", None, "aws sso login --profile dev"),
        ("old", None, "aws sso login --profile old"),
        ("console", None, "aws login --profile console"),
    ] {
        let (scene, portal) = (Scene::new(), Portal::start(services));
        if let Some((file, token)) = cached {
            scene.write(file, &token);
        }
        let said = run_to(1, plan(&scene, profile, &portal));
        assert!(
            said.contains("has expired or was never started") && said.contains(&format!("run `{command}`")),
            "{said}"
        );
        assert!(!said.contains("AWS_ACCESS_KEY_ID"), "{said}");
        assert_eq!(lines(&portal), [""; 0], "{profile}");
    }
}

#[test]
fn a_cached_token_that_is_not_whole_is_named() {
    let whole = [("dev", SSO_CACHE, sso_token(FUTURE, "")), ("console", LOGIN_CACHE, login_token(FUTURE))];
    for (profile, file, token) in whole {
        for part in [&token[..token.len() / 2], "", "hush no JSON"] {
            let (scene, portal) = (Scene::new(), Portal::start(services));
            scene.write(file, part);
            let said = run_to(1, plan(&scene, profile, &portal));
            let named =
                format!("provided no credentials: the file ~/{file} is incomplete or damaged: if no other program");
            assert!(said.contains(&named) && said.contains(&format!("login --profile {profile}`")), "{part:?}: {said}");
            assert_eq!(lines(&portal), [""; 0]);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_named() {
    for (profile, file) in [("dev", SSO_CACHE), ("console", LOGIN_CACHE), ("dev", ".aws/credentials")] {
        let (scene, portal) = (Scene::new(), Portal::start(services));
        let command = plan(&scene, profile, &portal);
        let path = scene.folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let said = run_to(1, command);
        assert!(said.contains(&format!("{} is a pipe, and reading it may never end", path.display())), "{said}");
        assert!(!said.contains("copied with a line break"), "{said}");
    }
    // With `aws`, the files are read before anything asks for credentials.
    for file in [".aws/config", ".aws/credentials"] {
        let scene = Scene::new();
        let path = scene.folder.path().join(file);
        scene.write("plan.toml", &scene.read("plan.toml").replace("provider = \"s3\"", "provider = \"aws\""));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let mut command = scene.command_with_keys(&["plan", "plan.toml"]);
        command.env("AWS_REGION", "us-east-1");
        let said = run_to(1, command);
        assert!(said.contains(&format!("{} is a pipe, and reading it may never end", path.display())), "{said}");
    }
}

/// Refuses every token, and repeats it.
fn refusing(request: &Received) -> (u16, String) {
    let token = request.header("x-amz-sso_bearer_token").unwrap_or("hush-refresh");
    let body = format!(
        "{{\"__type\": \"UnauthorizedException\", \"message\": \"no session {token} {TOKEN}\", \
         \"error\": \"TOKEN_EXPIRED\"}}"
    );
    (401, body)
}

#[test]
fn a_token_that_is_refused_is_not_shown() {
    for token in [sso_token(FUTURE, ""), sso_token(PAST, RENEWABLE)] {
        let (scene, portal) = (Scene::new(), Portal::start(refusing));
        scene.write(SSO_CACHE, &token);
        let said = run_to(1, plan(&scene, "dev", &portal));
        assert!(said.contains("run `aws sso login --profile dev`") && said.contains("no session"), "{said}");
    }
}

#[test]
fn broken_responses_are_errors() {
    let bodies: [Respond; 5] = [
        |_| (200, String::new()),
        |_| (200, "{}".to_owned()),
        |_| (200, "{\"roleCredentials\": {\"accessKeyId\": \"A\\u0007\", \"secretAccessKey\": \"hush\"}}".to_owned()),
        |_| (200, "{\"accessToken\": null, \"expiresIn\": -1, \"refreshToken\": \"hush\"}".to_owned()),
        |_| (404, "{\"__type\": \"ResourceNotFoundException\", \"message\": \"no role\"}".to_owned()),
    ];
    for respond in bodies {
        let (scene, portal) = (Scene::new(), Portal::start(respond));
        scene.write(SSO_CACHE, &sso_token(FUTURE, ""));
        scene.write(LOGIN_CACHE, &login_token(PAST));
        for profile in ["dev", "console"] {
            let said = run_to(1, plan(&scene, profile, &portal));
            assert!(said.contains(&format!("session of the profile \"{profile}\" provided no credentials")), "{said}");
        }
    }
}

#[test]
fn a_token_is_not_sent_unencrypted_to_another_machine() {
    let (scene, portal) = (Scene::new(), Portal::start(services));
    scene.write(SSO_CACHE, &sso_token(FUTURE, ""));
    let mut command = plan(&scene, "dev", &portal);
    command.env("AWS_ENDPOINT_URL_SSO", "http://portal.invalid");
    let said = run_to(1, command);
    assert!(said.contains("cannot send a token to http://portal.invalid unencrypted: use an https URL"), "{said}");
}

#[test]
fn keys_in_the_environment_come_before_a_session() {
    let (scene, portal) = (Scene::new(), Portal::start(services));
    let mut command = plan(&scene, "dev", &portal);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    run_to(0, command);
    assert_eq!(lines(&portal), [""; 0]);
}
