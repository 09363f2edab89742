//! A folder with a plan, a sandbox that is filled from the folder, and a gate before it that sees every request.

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroU32;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{ObjectOwnership, OwnershipControls, OwnershipControlsRule};
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::task::StoreError;
use batchplan_store::{AddressingStyle, HttpStore, Store, StoreConfig, StoreProvider};
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::gate::{Gate, Rule};
use crate::sdk_http::sdk_http_client;
use crate::world::{Ran, World};

/// Whose dialect a plan speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// AWS's S3, by its prices and rules.
    Aws,
    /// OSS's own.
    Oss,
}

/// The folder, the sandbox and the gate.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) gate: Gate,
    pub(crate) dialect: Dialect,
    runtime: Runtime,
}

impl Scene {
    /// A sandbox that holds these rows, and the files that `write` puts into the folder.
    pub(crate) fn filled(dialect: Dialect, table: &str, write: impl FnOnce(&World)) -> Self {
        Self::guarded(dialect, table, write, &[])
    }

    /// Likewise, with a gate that turns away what the rules say.
    pub(crate) fn guarded(dialect: Dialect, table: &str, write: impl FnOnce(&World), rules: &[Rule]) -> Self {
        let world = World::filled(table);
        write(&world);
        let sandbox = Sandbox::in_memory(Some(&world.path("fill.csv")), real_time()).expect("a sandbox");
        Self::before(dialect, world, sandbox, rules)
    }

    /// Before a sandbox that is there already.
    pub(crate) fn before(dialect: Dialect, world: World, sandbox: Sandbox, rules: &[Rule]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { world, gate: Gate::to(sandbox, rules), dialect, runtime }
    }

    /// Writes `plan.toml`: the store behind the gate, and this.
    pub(crate) fn plan(&self, rest: &str) {
        self.plan_of("", rest);
    }

    /// The same, which trusts the store: what is sent is about the objects alone.
    pub(crate) fn plan_unchecked(&self, rest: &str) {
        self.plan_of("skip_server_check = true\n", rest);
    }

    fn plan_of(&self, trust: &str, rest: &str) {
        let (provider, region, book) = match self.dialect {
            Dialect::Aws => ("aws", "us-east-1", "aws-us-east-1"),
            Dialect::Oss => ("oss", "cn-hangzhou", "oss-cn"),
        };
        let store = format!(
            "[store]\n{trust}provider = \"{provider}\"\nendpoint = \"{}\"\nregion = \"{region}\"\naddressing = \"path\"\n",
            self.gate.endpoint()
        );
        // The gate is at an endpoint of its own, for which no prices are known.
        let prices = format!("[prices]\nbook = \"{book}\"\n");
        let prices = if rest.contains("[prices]") { "" } else { &prices };
        self.world.write("plan.toml", format!("name = \"test\"\n{store}{prices}{rest}"));
    }

    /// The binary in the folder, with the sandbox's keys.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.world.command(args);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", SECRET_KEY);
        Ran::of(&command.output().expect("the binary runs"))
    }

    /// `plan plan.toml` with these flags besides, laid out for so many columns.
    pub(crate) fn look_at_width(&self, columns: u32, args: &[&str]) -> Ran {
        let mut command = self.world.command(&[&["plan", "plan.toml"], args].concat());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Ran::of(&command.env("COLUMNS", columns.to_string()).output().expect("the binary runs"))
    }

    /// `plan plan.toml` with these flags besides.
    pub(crate) fn look(&self, args: &[&str]) -> Ran {
        self.run(&[&["plan", "plan.toml"], args].concat())
    }

    /// The objects of `plan --all --json`, and what it says of all of them.
    #[track_caller]
    pub(crate) fn objects(&self) -> (Vec<Json>, Json) {
        let ran = self.look(&["--all", "--json"]).ended(0);
        let mut lines: Vec<Json> = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let whole = lines.pop().expect("a result");
        (lines, whole)
    }

    /// What the store itself says of an object, past the gate.
    pub(crate) fn ask(&self, bucket: &str, key: &str, call: &ObjectRequest) -> Result<ResponseData, StoreError> {
        let object = ObjectId { bucket: BucketName::new(bucket), key: ObjectKey::from(key), version: None };
        let store = store(self.dialect, &self.gate.behind());
        self.runtime.block_on(store.send_request(&object, call)).map(|reply| reply.data)
    }

    /// Has a bucket take no ACLs.
    pub(crate) fn close(&self, bucket: &str) {
        let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced);
        let controls = OwnershipControls::builder().rules(rule.build().expect("a rule")).build().expect("controls");
        let put = client(&self.gate.behind()).put_bucket_ownership_controls().bucket(bucket);
        self.runtime.block_on(put.ownership_controls(controls).send()).expect("closed");
    }
}

/// A sandbox in which a restore takes as long as it does in earnest: for the length of a test it stays under way.
pub(crate) fn real_time() -> SandboxOptions {
    SandboxOptions { time_scale: NonZeroU32::MIN, ..SandboxOptions::default() }
}

/// The store port to a server in a dialect.
pub(crate) fn store(dialect: Dialect, endpoint: &str) -> Box<dyn Store> {
    let provider = SharedCredentialsProvider::new(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"));
    if dialect == Dialect::Oss {
        return Box::new(HttpStore::oss(endpoint, AddressingStyle::Path, "cn-hangzhou", provider).expect("a store"));
    }
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    Box::new(HttpStore::s3(&config, "us-east-1", provider).expect("a store"))
}

/// The S3 client of a server.
pub(crate) fn client(endpoint: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .http_client(sdk_http_client())
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"))
        .build();
    Client::from_conf(config)
}

/// Puts an inventory into the folder from which the bucket `lists` is filled, begun at this time (milliseconds).
pub(crate) fn inventory(world: &World, dialect: Dialect, schema: &str, rows: &str, created: &str) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(rows.as_bytes()).expect("compressed");
    let data = encoder.finish().expect("compressed");
    let cloud = if dialect == Dialect::Oss { "acs:oss" } else { "arn:aws:s3" };
    let manifest = serde_json::json!({
        "sourceBucket": "bkt", "destinationBucket": format!("{cloud}:::lists"), "version": "2016-11-30",
        "creationTimestamp": created, "fileFormat": "CSV", "fileSchema": schema,
        "files": [{ "key": "i/data.csv.gz", "size": data.len(), "MD5checksum": hex(&Md5::digest(&data)) }],
    })
    .to_string();
    world.write("fill.files/lists/i/data.csv.gz", data);
    world.write("fill.files/lists/i/manifest.checksum", hex(&Md5::digest(&manifest)));
    world.write("fill.files/lists/i/manifest.json", manifest);
}

/// The manifest of a plan that takes what [`inventory`] put there.
pub(crate) const INVENTORY: &str = "[manifest.inventory]\nbucket = \"lists\"\nobject = \"i/manifest.json\"\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
