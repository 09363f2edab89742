//! The sandbox as a cloud of its own: it outlives the jobs that work in it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::{AddressingStyle, HttpStore, Store as _, StoreConfig, StoreProvider};

use crate::folders;
use crate::machine::root;

/// The bucket of the quick start, on loopback.
pub(crate) struct Cloud {
    server: SandboxServer,
    _folder: tempfile::TempDir,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        folders::copy(&root().join("plans"), &folder.path().join("plans"));
        let fill = folder.path().join("plans/quickstart/bucket.csv");
        let sandbox = Sandbox::open(&folder.path().join("data"), Some(&fill), SandboxOptions::default());
        let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let server = SandboxServer::start(sandbox.expect("a sandbox"), address, false).expect("a server");
        Self { server, _folder: folder }
    }

    /// A text with what changes from run to run replaced by names: this cloud's address, and what else there is.
    pub(crate) fn normal(&self, text: &str, replaced: &[(&str, &str)]) -> String {
        let text = text.replace(&self.endpoint(), "http://127.0.0.1:PORT");
        replaced.iter().fold(text, |text, (found, name)| text.replace(found, name))
    }

    fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// How a plan names it.
    pub(crate) fn store(&self) -> String {
        store(&self.endpoint())
    }

    /// A plan of the quick start, for this cloud.
    pub(crate) fn plan(&self, name: &str, manifest: &str) -> String {
        let report =
            "[report]\nenabled = true\nbucket = \"acme-archive\"\nprefix = \"reports/\"\nscope = \"all-tasks\"\n";
        let operation = "[operation.add_object_tagging]\ntags = { Reviewed = \"2024-11\" }\n";
        // Of a small job more than a fifth may fail.
        let limits = "[limits]\nfailure_threshold = 1.0\n";
        format!("name = \"{name}\"\n{}\n{manifest}\n{operation}\n{report}\n{limits}", self.store())
    }

    /// An object's tags as `a=1 b=2`.
    pub(crate) fn tags(&self, key: &str) -> String {
        let config = StoreConfig {
            provider: StoreProvider::S3,
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            addressing: AddressingStyle::Path,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
        };
        let credentials = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = Arc::new(HttpStore::s3(&config, "us-east-1", provider).expect("a store"));
        let id = ObjectId { bucket: BucketName::new("acme-archive"), key: ObjectKey::from(key), version: None };
        let learned = runtime
            .block_on(store.send_request(&id, &ObjectRequest::GetTags))
            .unwrap_or_else(|fault| panic!("{fault}"))
            .data;
        let ResponseData::Tags(tags) = learned else { panic!("no tags") };
        tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

/// How a plan names a server on loopback.
pub(crate) fn store(endpoint: &str) -> String {
    format!("[store]\nprovider = \"s3\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\naddressing = \"path\"\n")
}

/// Compares with what is kept beside this file; `UPDATE_EXPECTED=1` writes it anew.
#[track_caller]
pub(crate) fn expect(name: &str, found: &str) {
    let path: PathBuf = root().join("tests/action/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, found).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(found, expected, "{name}; UPDATE_EXPECTED=1 writes it anew");
}
