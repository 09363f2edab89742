//! Each cell of the table of environment variables, by what servers saw: that a client obeys a variable, or that a
//! request is the same with the variable and without it.

use std::collections::BTreeSet;

use crate::clients::{Client, Observed, Variable};
use crate::table;

use Client::{
    AwsStore, AwsSts, Comments, Container, Login, Machine, OssStore, OssSts, Renewal, Sso, State, WebIdentity, Webhooks,
};
use Effect::{Says, Sees, SeesNo};

/// What becomes true if the variable is set.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// A server sees a request with this in it.
    Sees(&'static str),
    /// No server sees a request with this in it.
    SeesNo(&'static str),
    /// The program says this.
    Says(&'static str),
}

/// That a client obeys a variable.
struct Proof {
    variable: &'static str,
    client: Client,
    value: &'static str,
    /// Other variables for this run. An empty value removes one.
    beside: &'static [Variable],
    effect: Effect,
}

const fn proof(client: Client, variable: &'static str, value: &'static str, effect: Effect) -> Proof {
    Proof { variable, client, value, beside: &[], effect }
}

impl Proof {
    const fn beside(self, beside: &'static [Variable]) -> Self {
        Self { beside, ..self }
    }
}

/// Takes away the keys, so that a profile provides them.
const NO_KEYS: &[Variable] = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
const NO_REGION: &[Variable] = &[("AWS_REGION", "")];
const NO_PROFILE: &[Variable] = &[("AWS_PROFILE", "")];
const NAMED: &[Variable] = &[("AWS_ENDPOINT_URL", "NAMED")];
const MACHINE_HERE: Variable = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "METADATA");
const MACHINE_ELSEWHERE: Variable = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");

/// The variables of AWS's keys, profiles, region and endpoint, which a store and a state in a bucket obey alike.
const fn of_store(client: Client) -> [Proof; 13] {
    [
        proof(client, "AWS_ACCESS_KEY_ID", "AKIDOTHER", Sees("s3 key=AKIDOTHER ")),
        proof(client, "AWS_SECRET_ACCESS_KEY", "hush", Sees("s3 key=AKIDBASE ")),
        proof(client, "AWS_SESSION_TOKEN", "session", Sees("token=session ")),
        proof(client, "AWS_PROFILE", "keys", Sees("s3 key=AKIDPROFILE ")).beside(NO_KEYS),
        proof(client, "AWS_CONFIG_FILE", "HOME/keys.config", Sees("s3 key=AKIDFILE ")).beside(NO_KEYS),
        proof(client, "AWS_SHARED_CREDENTIALS_FILE", "HOME/keys.credentials", Sees("s3 key=AKIDFILE ")).beside(NO_KEYS),
        proof(client, "AWS_REGION", "eu-west-1", Sees("s3.eu-west-1.amazonaws.com s3 key=AKIDBASE region=eu-west-1 ")),
        proof(client, "AWS_DEFAULT_REGION", "eu-west-1", Sees("s3.eu-west-1.amazonaws.com s3 ")).beside(NO_REGION),
        proof(client, "AWS_ENDPOINT_URL", "NAMED", Sees("named s3 ")),
        proof(client, "AWS_ENDPOINT_URL_S3", "NAMED", Sees("named s3 ")),
        proof(client, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", Sees("s3.us-east-1.amazonaws.com s3 "))
            .beside(NAMED),
        proof(client, "AWS_USE_FIPS_ENDPOINT", "true", Sees("CONNECT s3-fips.us-east-1.amazonaws.com:443")),
        proof(client, "AWS_USE_DUALSTACK_ENDPOINT", "true", Sees("CONNECT s3.dualstack.us-east-1.amazonaws.com:443")),
    ]
}

/// The STS of a plan's role and that of a web identity.
const STS: [Proof; 19] = [
    proof(AwsSts, "AWS_ACCESS_KEY_ID", "AKIDOTHER", Sees("sts key=AKIDOTHER ")),
    proof(AwsSts, "AWS_SECRET_ACCESS_KEY", "hush", Sees("sts key=AKIDBASE ")),
    proof(AwsSts, "AWS_SESSION_TOKEN", "session", Sees("token=session ")),
    proof(AwsSts, "AWS_PROFILE", "keys", Sees("sts key=AKIDPROFILE ")).beside(NO_KEYS),
    proof(AwsSts, "AWS_CONFIG_FILE", "HOME/keys.config", Sees("sts key=AKIDFILE ")).beside(NO_KEYS),
    proof(AwsSts, "AWS_SHARED_CREDENTIALS_FILE", "HOME/keys.credentials", Sees("sts key=AKIDFILE ")).beside(NO_KEYS),
    proof(AwsSts, "AWS_REGION", "eu-west-1", Sees("sts.eu-west-1.amazonaws.com sts key=AKIDBASE region=eu-west-1 ")),
    proof(AwsSts, "AWS_DEFAULT_REGION", "eu-west-1", Sees("sts.eu-west-1.amazonaws.com sts ")).beside(NO_REGION),
    proof(
        WebIdentity,
        "AWS_ROLE_ARN",
        "arn:aws:iam::1:role/other",
        Sees("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fother"),
    ),
    proof(WebIdentity, "AWS_ROLE_SESSION_NAME", "there", Sees("RoleSessionName=there")),
    proof(WebIdentity, "AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/token.txt", Sees("WebIdentityToken=token-of-the-file")),
    proof(AwsSts, "AWS_ENDPOINT_URL", "NAMED", Sees("named sts ")),
    proof(WebIdentity, "AWS_ENDPOINT_URL", "NAMED", Sees("named POST / ")),
    proof(AwsSts, "AWS_ENDPOINT_URL_STS", "NAMED", Sees("named sts ")),
    proof(WebIdentity, "AWS_ENDPOINT_URL_STS", "NAMED", Sees("named POST / ")),
    proof(AwsSts, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", Sees("sts.us-east-1.amazonaws.com sts "))
        .beside(NAMED),
    proof(AwsSts, "AWS_USE_FIPS_ENDPOINT", "true", Sees("CONNECT sts-fips.us-east-1.amazonaws.com:443")),
    proof(AwsSts, "AWS_USE_DUALSTACK_ENDPOINT", "true", Sees("CONNECT sts.us-east-1.api.aws:443")),
    proof(WebIdentity, "AWS_USE_FIPS_ENDPOINT", "true", Sees("CONNECT sts-fips.us-east-1.amazonaws.com:443")),
];

/// The texts in the header `User-Agent`, and the variables of OSS and of the action.
const OTHERS: [Proof; 11] = [
    proof(AwsSts, "AWS_EXECUTION_ENV", "execution", Sees("exec-env/execution")),
    proof(WebIdentity, "AWS_EXECUTION_ENV", "execution", Sees("exec-env/execution")),
    proof(Sso, "AWS_EXECUTION_ENV", "execution", Sees("exec-env/execution")),
    proof(Machine, "AWS_EXECUTION_ENV", "execution", Sees("exec-env/execution")),
    proof(OssStore, "OSS_ACCESS_KEY_ID", "OSSOTHER", Sees("oss key=OSSOTHER ")),
    proof(OssStore, "OSS_ACCESS_KEY_SECRET", "hush", Sees("oss key=OSSBASE ")),
    proof(OssStore, "OSS_SESSION_TOKEN", "session", Sees("token=session ")),
    proof(OssSts, "OSS_ACCESS_KEY_ID", "OSSOTHER", Sees("sts.cn-hangzhou.aliyuncs.com POST / key=OSSOTHER ")),
    proof(OssSts, "OSS_ACCESS_KEY_SECRET", "hush", Sees("sts.cn-hangzhou.aliyuncs.com POST / key=OSSBASE ")),
    proof(OssSts, "OSS_SESSION_TOKEN", "session", Sees("token=session ")),
    proof(Comments, "BATCHPLAN_COMMENT", "true", Sees("CONNECT api.batchplan.test:443")),
];

/// AWS SSO and AWS Sign-In.
const SSO: [Proof; 12] = [
    proof(Sso, "AWS_PROFILE", "dev", Sees("portal.sso.eu-west-1.amazonaws.com GET /federation/credentials ")),
    proof(Sso, "AWS_CONFIG_FILE", "HOME/sso.config", Sees("portal.sso.eu-west-1.amazonaws.com GET /federation"))
        .beside(NO_PROFILE),
    proof(Sso, "AWS_SHARED_CREDENTIALS_FILE", "HOME/sso.credentials", Sees("portal.sso.eu-west-1.amazonaws.com GET /"))
        .beside(NO_PROFILE),
    proof(Login, "AWS_REGION", "eu-west-1", Sees("eu-west-1.signin.aws.amazon.com POST /v1/token ")),
    proof(Login, "AWS_DEFAULT_REGION", "eu-west-1", Sees("eu-west-1.signin.aws.amazon.com POST /v1/token "))
        .beside(NO_REGION),
    proof(Login, "AWS_LOGIN_CACHE_DIRECTORY", "HOME/nowhere", SeesNo("POST /v1/token ")),
    proof(Sso, "AWS_ENDPOINT_URL", "NAMED", Sees("named GET /federation/credentials ")),
    proof(Sso, "AWS_ENDPOINT_URL_SSO", "NAMED", Sees("named GET /federation/credentials ")),
    proof(Renewal, "AWS_ENDPOINT_URL_SSO_OIDC", "NAMED", Sees("named POST /token ")),
    proof(Login, "AWS_ENDPOINT_URL_SIGNIN", "NAMED", Sees("named POST /v1/token ")),
    proof(Sso, "AWS_USE_FIPS_ENDPOINT", "true", Sees("CONNECT portal.sso-fips.eu-west-1.amazonaws.com:443")),
    proof(Sso, "AWS_USE_DUALSTACK_ENDPOINT", "true", Sees("CONNECT portal.sso.eu-west-1.api.aws:443")),
];

/// The metadata services.
const METADATA: [Proof; 10] = [
    proof(Machine, "AWS_PROFILE", "keys", SeesNo("metadata PUT /latest/api/token ")),
    proof(Machine, "AWS_CONFIG_FILE", "HOME/keys.config", SeesNo("metadata PUT /latest/api/token ")),
    proof(Machine, "AWS_SHARED_CREDENTIALS_FILE", "HOME/keys.credentials", SeesNo("metadata PUT /latest/api/token ")),
    proof(Container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "NAMED/creds", Sees("named GET /creds ")),
    proof(Container, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "container", Sees("authorization=container ")),
    proof(
        Container,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "HOME/token.txt",
        Sees("authorization=token-of-the-file "),
    ),
    // Its host is not on this machine, so only a value that names no path on it can be tried.
    proof(
        Container,
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "no path",
        Says("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    ),
    proof(Machine, "AWS_EC2_METADATA_DISABLED", "true", SeesNo("metadata PUT /latest/api/token ")),
    proof(Machine, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "NAMED", Sees("named PUT /latest/api/token ")),
    // Likewise: both modes are addresses.
    proof(Machine, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv5", Says("`IPv5` is not a valid endpoint mode"))
        .beside(&[MACHINE_ELSEWHERE]),
];

fn proofs() -> Vec<Proof> {
    let all = [of_store(AwsStore).into_iter().collect::<Vec<_>>(), of_store(State).into_iter().collect()];
    all.into_iter().flatten().chain(STS).chain(OTHERS).chain(SSO).chain(METADATA).collect()
}

/// Tries a part of the proofs, each with its variable and without it.
fn prove(proofs: impl IntoIterator<Item = Proof>) {
    let mut failures = Vec::new();
    for Proof { variable, client, value, beside, effect } in proofs {
        let tried = |changes: &[Variable]| {
            let run = client.run(&[beside, changes].concat());
            let sees = |part: &str| run.seen.iter().any(|request| request.contains(part));
            let holds = match effect {
                Sees(part) => sees(part),
                SeesNo(part) => !sees(part),
                Says(part) => run.said.contains(part),
            };
            (holds, run)
        };
        let (with, run) = tried(&[(variable, value)]);
        if !with {
            failures.push(format!("{client:?} with {variable}={value}: not {effect:?}: {:#?}\n{}", run.seen, run.said));
        }
        // No run asks the real metadata service of this machine.
        let here = if client == Machine { &[MACHINE_HERE][..] } else { &[] };
        let (without, run) = tried(&[&[(variable, "")], here].concat());
        if without {
            failures.push(format!("{client:?} without {variable}: {effect:?}: {:#?}\n{}", run.seen, run.said));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn stores_obey_their_variables() {
    prove(of_store(AwsStore));
}

#[test]
fn a_state_in_a_bucket_obeys_the_variables_of_a_store() {
    prove(of_store(State));
}

#[test]
fn every_sts_obeys_its_variables() {
    prove(STS);
}

#[test]
fn sessions_obey_their_variables() {
    prove(SSO);
}

#[test]
fn metadata_services_obey_their_variables() {
    prove(METADATA);
}

#[test]
fn other_variables_are_obeyed() {
    prove(OTHERS);
}

#[test]
fn every_cell_is_proven() {
    let proven: BTreeSet<_> = proofs().iter().map(|proof| (proof.variable.to_owned(), proof.client.column())).collect();
    let mut obeyed = BTreeSet::new();
    for (variable, client, does) in table::cells() {
        match does.as_str() {
            // The tests of the action have this column.
            _ if client == "releases" => {}
            "obeyed" => drop(obeyed.insert((variable, client))),
            "ignored" => {}
            other => panic!("{variable}, {client}: {other}"),
        }
    }
    assert_eq!(obeyed.difference(&proven).collect::<Vec<_>>(), Vec::<&_>::new(), "obeyed, but without a proof");
    assert_eq!(proven.difference(&obeyed).collect::<Vec<_>>(), Vec::<&_>::new(), "proven, but not in the table");
}

/// A value that would change something where the variable is obeyed.
fn effective_value(variable: &str) -> &'static str {
    match variable {
        "AWS_ACCESS_KEY_ID" | "OSS_ACCESS_KEY_ID" => "AKIDOTHER",
        "AWS_SECRET_ACCESS_KEY" | "OSS_ACCESS_KEY_SECRET" => "hush-other",
        "AWS_PROFILE" | "AWS_DEFAULT_PROFILE" => "keys",
        "AWS_CONFIG_FILE" => "HOME/keys.config",
        "AWS_SHARED_CREDENTIALS_FILE" => "HOME/keys.credentials",
        "AWS_REGION" | "AWS_DEFAULT_REGION" => "eu-west-1",
        "AWS_ROLE_ARN" => "arn:aws:iam::123456789012:role/web",
        "AWS_WEB_IDENTITY_TOKEN_FILE" | "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => "HOME/token.txt",
        "AWS_LOGIN_CACHE_DIRECTORY" => "HOME/nowhere",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => "NAMED/creds",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" => "/creds",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE" => "IPv6",
        "AWS_MAX_ATTEMPTS" => "1",
        "AWS_RETRY_MODE" => "adaptive",
        "AWS_STS_REGIONAL_ENDPOINTS" => "legacy",
        "AWS_EC2_METADATA_DISABLED"
        | "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
        | "AWS_USE_FIPS_ENDPOINT"
        | "AWS_USE_DUALSTACK_ENDPOINT"
        | "BATCHPLAN_COMMENT" => "true",
        name if name.contains("_URL") || name.ends_with("_ENDPOINT") || name == "BATCHPLAN_RELEASES" => "NAMED",
        name if name.starts_with("AWS_") || name.starts_with("OSS_") => "other",
        name => panic!("{name} has no value"),
    }
}

/// The sources of credentials that come before a client's: while they provide some, the client is not asked.
fn precedes(client: Client, variable: &str) -> bool {
    let asks_chain = matches!(client, Sso | Renewal | Login | Machine | Container);
    let is_key = matches!(variable, "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN");
    let is_web_identity = matches!(variable, "AWS_ROLE_ARN" | "AWS_ROLE_SESSION_NAME" | "AWS_WEB_IDENTITY_TOKEN_FILE");
    (asks_chain && is_key) || (matches!(client, Machine | Container) && is_web_identity)
}

#[test]
fn other_variables_are_ignored() {
    let names: BTreeSet<String> = table::cells().into_iter().map(|(variable, ..)| variable).collect();
    of_every_client(|client| {
        let mut ignored = table::ignored_by(client.column());
        // Each provider has variables of its own.
        let foreign = if matches!(client, OssStore | OssSts) { "AWS_" } else { "OSS_" };
        ignored.extend(names.iter().filter(|name| name.starts_with(foreign)).cloned());
        ignored.retain(|variable| !precedes(client, variable));
        let names: Vec<&'static str> = ignored.into_iter().map(|name| &*name.leak()).collect();
        let changes: Vec<_> = names.iter().map(|name| (*name, effective_value(name))).collect();
        let (without, with) = (client.run(&[]), client.run(&changes));
        let own = |run: &Observed| -> BTreeSet<String> {
            run.seen.iter().filter(|seen| seen.contains(client.request())).cloned().collect()
        };
        assert!(!own(&without).is_empty(), "{client:?}: {:?} {}", without.seen, without.said);
        assert_eq!(own(&with), own(&without), "{client:?}: {}", with.said);
    });
}

#[test]
fn a_session_ignores_that_endpoints_are_to_be_ignored() {
    for (client, variable) in [(Sso, "AWS_ENDPOINT_URL_SSO"), (WebIdentity, "AWS_ENDPOINT_URL_STS")] {
        let named = client.run(&[(variable, "NAMED")]);
        let told = client.run(&[(variable, "NAMED"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]);
        assert_eq!(named.seen, told.seen, "{client:?}");
        assert!(told.seen.iter().any(|request| request.starts_with("named ")), "{:?}", told.seen);
    }
}

#[test]
fn credentials_are_searched_in_one_order() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDOTHER"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    let web_identity = [("AWS_ROLE_ARN", "arn:aws:iam::1:role/web"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/token.jwt")];
    for (client, first) in [
        (Sso, &keys),
        (Renewal, &keys),
        (Login, &keys),
        (Machine, &keys),
        (Container, &keys),
        (Machine, &web_identity),
        (Container, &web_identity),
    ] {
        let asked = |changes: &[Variable]| client.run(changes).seen.iter().any(|seen| seen.contains(client.request()));
        assert!(asked(&[]) && !asked(first), "{client:?} {first:?}");
    }
}

fn uses_the_proxy_and_the_ca_certificates(client: Client) {
    let with = client.run(&[]);
    let (tunnels, requests): (Vec<_>, Vec<_>) = with.seen.iter().partition(|seen| seen.starts_with("CONNECT "));
    let is_metadata = client.column() == "metadata";
    let first = if is_metadata { "metadata " } else { tunnels[0].trim_start_matches("CONNECT ") };
    let first = first.split(':').next().unwrap_or_default();
    assert!(requests.iter().any(|request| request.starts_with(first)), "{client:?}: {:?}", with.seen);
    assert!(tunnels.iter().all(|tunnel| !tunnel.contains("127.0.0.1")), "{client:?}: {tunnels:?}");
    // A webhook is tried for long.
    if client == Webhooks {
        return;
    }
    // Without the CA, nothing is said in a tunnel.
    let without = client.run(&[("AWS_CA_BUNDLE", "")]);
    let is_tunnel = |seen: &String| seen.starts_with("CONNECT ");
    assert!(
        without.seen.iter().all(|seen| is_tunnel(seen) || seen.starts_with("metadata ")),
        "{client:?}: {:?}",
        without.seen
    );
    assert!(is_metadata || without.seen.iter().any(is_tunnel), "{client:?}: {}", without.said);
}

/// Tries each client in a thread of its own: most of them wait before they give up.
fn of_every_client(check: impl Fn(Client) + Sync) {
    std::thread::scope(|scope| {
        for client in Client::ALL {
            let check = &check;
            scope.spawn(move || check(client));
        }
    });
}

#[test]
fn every_client_uses_the_proxy_and_the_ca_certificates() {
    of_every_client(uses_the_proxy_and_the_ca_certificates);
}
