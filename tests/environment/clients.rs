//! The clients of the program, each in a run of its own: what every server saw of it.
//!
//! All services of the internet are one server behind a proxy and a private CA. Another server stands for the
//! endpoints that variables name, and one for the metadata service of a machine or container.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::portal::{Portal, Received};
use crate::proxy::{Proxy, ProxyOptions, VALID, tls_front};
use crate::run;
use crate::sessions::{self, FUTURE, LOGIN_CACHE, PAST, RENEWABLE, SSO_CACHE, login_token, sso_token};

/// A run in which one client sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    AwsStore,
    OssStore,
    /// The store that keeps the state.
    State,
    /// The STS of `role_arn`.
    AwsSts,
    OssSts,
    /// The STS that exchanges the token of a web identity.
    WebIdentity,
    /// The portal of AWS SSO.
    Sso,
    /// The service that renews the token of AWS SSO.
    Renewal,
    /// AWS Sign-In.
    Login,
    /// The metadata service of a machine.
    Machine,
    /// That of a container.
    Container,
    Webhooks,
    Comments,
}

/// A variable and its value. In the value, `NAMED` stands for the URL of the server that variables name, and `HOME` for
/// the folder.
pub(crate) type Variable = (&'static str, &'static str);

const KEYS: [Variable; 2] = [("AWS_ACCESS_KEY_ID", "AKIDBASE"), ("AWS_SECRET_ACCESS_KEY", "hush")];
const OSS_KEYS: [Variable; 2] = [("OSS_ACCESS_KEY_ID", "OSSBASE"), ("OSS_ACCESS_KEY_SECRET", "hush")];
const REGION: Variable = ("AWS_REGION", "us-east-1");
const NO_MACHINE: Variable = ("AWS_EC2_METADATA_DISABLED", "true");
const WEB_IDENTITY: [Variable; 3] = [
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
    ("AWS_ROLE_SESSION_NAME", "here"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/token.jwt"),
];
const GITHUB: [Variable; 7] = [
    ("GITHUB_ACTIONS", "true"),
    ("BATCHPLAN_COMMENT", "true"),
    ("GITHUB_TOKEN", "hush"),
    ("GITHUB_API_URL", "https://api.batchplan.test"),
    ("GITHUB_REPOSITORY", "acme/data"),
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("GITHUB_EVENT_PATH", "HOME/event.json"),
];

const AWS_PLAN: &str = "[store]\nprovider = \"aws\"\naddressing = \"path\"\n";
const AWS_ROLE_PLAN: &str = "[store]\nprovider = \"aws\"\naddressing = \"path\"\n\
                             role_arn = \"arn:aws:iam::123456789012:role/r\"\n";
const OSS_PLAN: &str = "[store]\nprovider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n\
                        region = \"cn-hangzhou\"\n";
const OSS_ROLE_PLAN: &str = "[store]\nprovider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n\
                             region = \"cn-hangzhou\"\nrole_arn = \"acs:ram::1234567890123456:role/r\"\n";
const SANDBOX_PLAN: &str = "[store]\nprovider = \"sandbox\"\ndata = \"sandbox\"\nfill = \"objects.csv\"\n";

impl Client {
    pub(crate) const ALL: [Self; 13] = [
        Self::AwsStore,
        Self::OssStore,
        Self::State,
        Self::AwsSts,
        Self::OssSts,
        Self::WebIdentity,
        Self::Sso,
        Self::Renewal,
        Self::Login,
        Self::Machine,
        Self::Container,
        Self::Webhooks,
        Self::Comments,
    ];

    /// The column of the table.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::AwsStore | Self::OssStore | Self::State => "store",
            Self::AwsSts | Self::OssSts | Self::WebIdentity => "STS",
            Self::Sso | Self::Renewal | Self::Login => "SSO",
            Self::Machine | Self::Container => "metadata",
            Self::Webhooks => "webhooks",
            Self::Comments => "comments",
        }
    }

    /// What only the requests of this client have in [`Observed::seen`].
    pub(crate) fn request(self) -> &'static str {
        match self {
            Self::AwsStore | Self::State => " s3 key=",
            Self::OssStore => " oss key=",
            Self::AwsSts => " sts key=",
            Self::OssSts | Self::WebIdentity => " POST / ",
            Self::Sso => " GET /federation/credentials ",
            Self::Renewal => " POST /token ",
            Self::Login => " POST /v1/token ",
            Self::Machine => " /latest/",
            Self::Container => " GET /creds ",
            Self::Webhooks => "hooks.batchplan.test",
            Self::Comments => "api.batchplan.test",
        }
    }

    /// The variables that the client needs.
    pub(crate) fn needs(self) -> Vec<Variable> {
        match self {
            Self::AwsStore | Self::State | Self::AwsSts => [&KEYS[..], &[REGION, NO_MACHINE]].concat(),
            Self::OssStore | Self::OssSts => OSS_KEYS.to_vec(),
            Self::WebIdentity => [&WEB_IDENTITY[..], &[REGION, NO_MACHINE]].concat(),
            Self::Sso | Self::Renewal => vec![("AWS_PROFILE", "dev"), REGION, NO_MACHINE],
            Self::Login => vec![("AWS_PROFILE", "console"), REGION, NO_MACHINE],
            Self::Machine => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", "METADATA"), REGION],
            Self::Container => vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "METADATA/creds"), REGION, NO_MACHINE],
            Self::Webhooks => Vec::new(),
            Self::Comments => GITHUB.to_vec(),
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::State => &["list", "--state", "s3://bkt/team?addressing=path"],
            Self::Webhooks => &["apply", "plan.toml", "--auto-approve"],
            _ => &["plan", "plan.toml"],
        }
    }

    fn plan(self) -> String {
        let (store, more) = match self {
            Self::OssStore => (OSS_PLAN, ""),
            Self::OssSts => (OSS_ROLE_PLAN, ""),
            Self::AwsSts => (AWS_ROLE_PLAN, ""),
            Self::Webhooks => (SANDBOX_PLAN, "[[notify]]\nurl = \"https://hooks.batchplan.test/hook\"\n"),
            Self::Comments => (SANDBOX_PLAN, ""),
            _ => (AWS_PLAN, ""),
        };
        format!(
            "name = \"t\"\n{store}[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\n\
             tags = {{ t = \"1\" }}\n{more}"
        )
    }

    /// Runs the client with what it needs, and with changes to that: an empty value removes a variable.
    pub(crate) fn run(self, changes: &[Variable]) -> Observed {
        let folder = tempfile::tempdir().expect("a folder");
        self.fill(folder.path());
        let [internet, named, metadata] = [(); 3].map(|()| Portal::start(answer));
        let port = internet.endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let front = tls_front(VALID, port);
        let hosts = [".amazonaws.com", ".aws.amazon.com", ".api.aws", ".aliyuncs.com", ".batchplan.test"];
        let hosts = hosts.map(|host| (host, front)).to_vec();
        let proxy = Proxy::start(ProxyOptions { hosts, ..ProxyOptions::default() });
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.args(self.arguments()).current_dir(folder.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin").env("HOME", folder.path());
        command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port)).env("AWS_CA_BUNDLE", ca_file());
        let home = folder.path().to_string_lossy();
        for (name, value) in self.needs().iter().chain(changes) {
            let value = value.replace("NAMED", &named.endpoint).replace("METADATA", &metadata.endpoint);
            match value.as_str() {
                "" => command.env_remove(name),
                value => command.env(name, value.replace("HOME", &home)),
            };
        }
        let (_, said) = run(command);
        let servers = [("internet", internet), ("named", named), ("metadata", metadata)];
        let seen = servers.iter().flat_map(|(name, server)| server.received().into_iter().map(|it| seen(name, &it)));
        let seen = seen.chain(proxy.heads.targets()).collect();
        Observed { seen, said, _folder: folder }
    }

    /// Writes the plan, and all that variables point to.
    fn fill(self, home: &Path) {
        let write = |file: &str, text: &str| {
            let path = home.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("written");
        };
        write("plan.toml", &self.plan());
        write("objects.csv", "bucket,key\nbkt,k0\n");
        write("event.json", "{\"pull_request\": {\"number\": 7}}");
        write("token.jwt", "jwt");
        write("token.txt", "token-of-the-file");
        let keys = |key: &str| format!("aws_access_key_id = {key}\naws_secret_access_key = hush\n");
        write(
            ".aws/config",
            &format!(
                "{}[profile keys]\n{}[profile imds]\nec2_metadata_service_endpoint = http://127.0.0.1:1\n",
                sessions::CONFIG.replace("user/me\nregion = eu-west-1\n", "user/me\n"),
                keys("AKIDPROFILE")
            ),
        );
        for name in ["config", "credentials"] {
            write(&format!("keys.{name}"), &format!("[default]\n{}", keys("AKIDFILE")));
            write(
                &format!("sso.{name}"),
                "[default]\nsso_start_url = s\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n",
            );
        }
        let (expires, rest) = if self == Self::Renewal { (PAST, RENEWABLE) } else { (FUTURE, "") };
        write(SSO_CACHE, &sso_token(expires, rest));
        write(LOGIN_CACHE, &login_token(PAST));
        let name = LOGIN_CACHE.rsplit('/').next().expect("a name");
        write(&format!("elsewhere/{name}"), &login_token(PAST));
    }
}

/// What was seen and said in a run.
pub(crate) struct Observed {
    /// Each request once, with what variables can change in it; and each `CONNECT` to the proxy.
    pub(crate) seen: BTreeSet<String>,
    pub(crate) said: String,
    _folder: TempDir,
}

fn ca_file() -> String {
    format!("{}/tests/fixtures/tls/ca.pem", env!("CARGO_MANIFEST_DIR"))
}

/// Answers as the services do. The store refuses everything, so that a run ends with its first request.
fn answer(request: &Received) -> (u16, String) {
    let target = request.line.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let keys = "\"AccessKeyId\": \"AKIDGIVEN\", \"SecretAccessKey\": \"hush\"";
    let host = request.header("host").unwrap_or_default();
    match path {
        "/latest/api/token" => (200, "hush-metadata".to_owned()),
        "/latest/meta-data/iam/security-credentials/" => (200, "machine".to_owned()),
        "/latest/meta-data/iam/security-credentials/machine" | "/creds" => {
            (200, format!("{{\"Code\": \"Success\", {keys}, \"Token\": \"hush-t\", \"Expiration\": \"{FUTURE}\"}}"))
        }
        "/hook" => (200, String::new()),
        "/" if host.starts_with("sts.cn-") => (
            200,
            "{\"Credentials\": {\"AccessKeyId\": \"OSSGIVEN\", \"AccessKeySecret\": \"hush\", \"SecurityToken\": \
             \"hush-t\", \"Expiration\": \"2999-01-01T00:00:00Z\"}}"
                .to_owned(),
        ),
        "/" if request.body.contains("WithWebIdentity") => {
            let (status, body) = sessions::services(request);
            (status, body.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes"))
        }
        "/" | "/federation/credentials" | "/token" | "/v1/token" => sessions::services(request),
        _ => (403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned()),
    }
}

/// What a variable can change in a request: where it went, who signed it for where, and the texts that variables hold.
fn seen(server: &str, request: &Received) -> String {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let authorization = header("authorization");
    let scope = authorization.split_once("Credential=").map(|(_, scope)| scope);
    let scope = scope.and_then(|scope| scope.split([',', ' ']).next()).unwrap_or_default();
    let part = |at: usize| scope.split('/').nth(at).unwrap_or_default();
    let host = if server == "internet" { header("host") } else { server };
    // The requests of a run to a store differ with what ends it first.
    let call = match part(3) {
        "" => request.line.split('?').next().unwrap_or_default(),
        service => service,
    };
    let token = ["x-amz-security-token", "x-oss-security-token", "x-acs-security-token"].map(header).concat();
    let agent = [header("user-agent"), header("x-amz-user-agent")].concat();
    let plain = if scope.is_empty() { authorization } else { "" };
    let form = if request.body.starts_with("Action=") { request.body.as_str() } else { "" };
    format!(
        "{host} {call} key={} region={} token={token} authorization={plain} agent={agent} form={form}",
        part(0),
        part(2)
    )
}
