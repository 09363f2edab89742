//! Where a store is and how it is spoken to. Credentials are no part of it.

use std::path::PathBuf;

/// Whose API and whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// AWS S3.
    Aws,
    /// Alibaba Cloud OSS, through its native API.
    Oss,
    /// Any other server that speaks S3.
    S3,
    /// The object store inside the binary.
    Sandbox,
}

impl Provider {
    /// The name in plan files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Oss => "oss",
            Self::S3 => "s3",
            Self::Sandbox => "sandbox",
        }
    }
}

/// Where the bucket's name stands in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// In the host: `https://bucket.endpoint/key`.
    Virtual,
    /// In the path: `https://endpoint/bucket/key`.
    Path,
}

/// A plan's `[store]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whose API.
    pub provider: Provider,
    /// The endpoint's URL; `None` lets aws derive it from the region.
    pub endpoint: Option<String>,
    /// The region to sign for; `None` takes the environment's, where the provider has one.
    pub region: Option<String>,
    /// How buckets are addressed.
    pub addressing: Addressing,
    /// The role to work in, by its ARN; `None` works as whoever the credentials are.
    pub role_arn: Option<String>,
    /// Sandbox only: the folder that holds its state.
    pub data: Option<PathBuf>,
    /// Sandbox only: the CSV that says what the bucket holds at first use.
    pub fill: Option<PathBuf>,
}
