//! Checksums of content, which AWS stores with objects and parts in addition to entity tags.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

use super::coded_enum::coded_enum;

coded_enum! {
    ChecksumAlgorithm {
        Crc32 = 0, "CRC32";
        Crc32c = 1, "CRC32C";
        /// What AWS calculates if a client sends no checksum.
        Crc64Nvme = 2, "CRC64NVME";
        Sha1 = 3, "SHA1";
        Sha256 = 4, "SHA256";
    }
}

coded_enum! {
    /// What the checksum of an object is calculated from.
    ChecksumType {
        /// The whole content.
        FullObject = 0, "FULL_OBJECT";
        /// The checksums of the parts, one after the other.
        Composite = 1, "COMPOSITE";
    }
}

impl ChecksumAlgorithm {
    /// Every algorithm.
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// Returns the name in lower case, as in header names and messages.
    pub(crate) fn lower_name(self) -> String {
        self.as_str().to_ascii_lowercase()
    }

    /// Returns the length of a checksum in bytes.
    pub(crate) fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Returns the type of a multipart upload's checksum if the client does not choose one.
    pub(crate) fn default_upload_type(self) -> ChecksumType {
        if self == Self::Crc64Nvme { ChecksumType::FullObject } else { ChecksumType::Composite }
    }

    /// Returns whether a multipart upload can have a checksum of this type. AWS combines the checksums of parts to the
    /// checksum of the whole only for CRCs.
    pub(crate) fn allows_upload_type(self, checksum_type: ChecksumType) -> bool {
        match checksum_type {
            ChecksumType::FullObject => !matches!(self, Self::Sha1 | Self::Sha256),
            ChecksumType::Composite => self != Self::Crc64Nvme,
        }
    }

    /// Returns the checksum that a client wrote in Base64, or `None` if it has not the form of this algorithm's.
    pub(crate) fn parse_digest(self, text: &[u8]) -> Option<Digest> {
        let digest = STANDARD.decode(text).ok().filter(|digest| digest.len() == self.digest_bytes());
        digest.map(Vec::into_boxed_slice)
    }

    /// Calculates the checksum of a text.
    pub(crate) fn digest_of(self, content: &[u8]) -> Digest {
        let mut hasher = ContentHasher::new(self);
        hasher.update(content);
        hasher.finish()
    }
}

/// The bytes of a checksum. Their number depends on the algorithm.
pub(crate) type Digest = Box<[u8]>;

/// Returns a checksum as requests and responses contain it.
pub(crate) fn digest_text(digest: &[u8]) -> String {
    STANDARD.encode(digest)
}

/// Calculates the checksum of content that arrives in pieces.
pub(crate) enum ContentHasher {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl ContentHasher {
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Self::Crc32(Crc32::new()),
            ChecksumAlgorithm::Crc32c => Self::Crc32c(Crc32c::new()),
            ChecksumAlgorithm::Crc64Nvme => Self::Crc64Nvme(Crc64Nvme::new()),
            ChecksumAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc32c(hasher) => hasher.update(bytes),
            Self::Crc64Nvme(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Crc32(hasher) => hasher.finalize().into(),
            Self::Crc32c(hasher) => hasher.finalize().into(),
            Self::Crc64Nvme(hasher) => hasher.finalize().into(),
            Self::Sha1(hasher) => hasher.finalize().into(),
            Self::Sha256(hasher) => hasher.finalize().into(),
        }
    }
}

/// The checksum of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectChecksum {
    pub(crate) algorithm: ChecksumAlgorithm,
    pub(crate) checksum_type: ChecksumType,
    pub(crate) digest: Digest,
}

impl ObjectChecksum {
    /// Creates the checksum of content that is not uploaded in parts.
    pub(crate) fn of_content(algorithm: ChecksumAlgorithm, digest: Digest) -> Self {
        Self { algorithm, checksum_type: ChecksumType::FullObject, digest }
    }

    /// Returns the checksum as responses contain it. A composite one ends with the number of parts.
    pub(crate) fn text(&self, parts: usize) -> String {
        let digest = digest_text(&self.digest);
        match self.checksum_type {
            ChecksumType::FullObject => digest,
            ChecksumType::Composite => format!("{digest}-{parts}"),
        }
    }
}

/// The checksum that a multipart upload is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UploadChecksum {
    pub(crate) algorithm: ChecksumAlgorithm,
    pub(crate) checksum_type: ChecksumType,
}

/// One of the parts that an object was uploaded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPart {
    pub(crate) number: u16,
    pub(crate) size: u64,
    /// The checksum, if the upload has chosen an algorithm.
    pub(crate) digest: Option<Digest>,
}

/// What an object has besides its size and entity tag, if it was written by an S3 client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContentDetails {
    pub(crate) checksum: Option<ObjectChecksum>,
    /// The parts in the order of the content. Empty if the object was not uploaded in parts.
    pub(crate) parts: Vec<ObjectPart>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_have_the_form_of_their_algorithm() {
        let sums = ChecksumAlgorithm::ALL.map(|algorithm| digest_text(&algorithm.digest_of(b"123456789")));
        let expected = [
            "y/Q5Jg==",
            "4waSgw==",
            "rosUhgp5mIg=",
            "98O8HYCOBHMq32eZZczDTKeuNEE=",
            "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
        ];
        for (algorithm, sum) in ChecksumAlgorithm::ALL.into_iter().zip(&sums) {
            let digest = algorithm.parse_digest(sum.as_bytes()).unwrap();
            assert_eq!((digest.len(), digest_text(&digest)), (algorithm.digest_bytes(), sum.clone()));
            for malformed in ["", "bad", "AAAAAAA", &format!("{sum}-1"), &format!("A{sum}")] {
                assert_eq!(algorithm.parse_digest(malformed.as_bytes()), None, "{malformed}");
            }
        }
        assert_eq!(sums, expected);
    }

    #[test]
    fn every_algorithm_allows_its_default_type() {
        for algorithm in ChecksumAlgorithm::ALL {
            assert!(algorithm.allows_upload_type(algorithm.default_upload_type()), "{algorithm:?}");
        }
        assert!(!ChecksumAlgorithm::Sha256.allows_upload_type(ChecksumType::FullObject));
        assert!(!ChecksumAlgorithm::Crc64Nvme.allows_upload_type(ChecksumType::Composite));
        assert!(ChecksumAlgorithm::Crc32.allows_upload_type(ChecksumType::FullObject));
    }
}
