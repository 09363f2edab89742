//! Checksums in requests and responses: their headers, and the rules of AWS for them.

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::{S3Result, TrailingHeaders, dto, s3_error};

use super::response::{checksum_mismatch, invalid_request};
use crate::checksum::{ChecksumAlgorithm, ChecksumType, ContentHasher, Digest, UploadChecksum};
use crate::model::StoredObject;

/// Returns the name of the header with a checksum.
fn header_name(algorithm: ChecksumAlgorithm) -> HeaderName {
    HeaderName::from_static(match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    })
}

/// Sets the field of a structure that belongs to the algorithm of a checksum.
macro_rules! set_checksum {
    ($target:expr, $algorithm:expr, $text:expr) => {{
        let text = Some($text);
        match $algorithm {
            $crate::checksum::ChecksumAlgorithm::Crc32 => $target.checksum_crc32 = text,
            $crate::checksum::ChecksumAlgorithm::Crc32c => $target.checksum_crc32c = text,
            $crate::checksum::ChecksumAlgorithm::Crc64Nvme => $target.checksum_crc64nvme = text,
            $crate::checksum::ChecksumAlgorithm::Sha1 => $target.checksum_sha1 = text,
            $crate::checksum::ChecksumAlgorithm::Sha256 => $target.checksum_sha256 = text,
        }
    }};
}
pub(super) use set_checksum;

/// Returns the checksums in the fields of a structure, with their algorithms.
macro_rules! checksum_fields {
    ($source:expr) => {
        [
            ($crate::checksum::ChecksumAlgorithm::Crc32, $source.checksum_crc32.as_deref()),
            ($crate::checksum::ChecksumAlgorithm::Crc32c, $source.checksum_crc32c.as_deref()),
            ($crate::checksum::ChecksumAlgorithm::Crc64Nvme, $source.checksum_crc64nvme.as_deref()),
            ($crate::checksum::ChecksumAlgorithm::Sha1, $source.checksum_sha1.as_deref()),
            ($crate::checksum::ChecksumAlgorithm::Sha256, $source.checksum_sha256.as_deref()),
        ]
    };
}
pub(super) use checksum_fields;

/// Parses the one checksum that a structure may contain.
pub(super) fn parse_checksum(
    fields: [(ChecksumAlgorithm, Option<&str>); ChecksumAlgorithm::ALL.len()],
) -> S3Result<Option<(ChecksumAlgorithm, Digest)>> {
    let mut given = fields.into_iter().filter_map(|(algorithm, text)| Some((algorithm, text?)));
    let Some((algorithm, text)) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(multiple_checksums());
    }
    // A composite checksum ends with the number of parts.
    let digest = text.split_once('-').map_or(text, |(digest, _)| digest);
    let digest = algorithm.parse_digest(digest.as_bytes()).ok_or_else(|| invalid_value(algorithm, ""))?;
    Ok(Some((algorithm, digest)))
}

fn multiple_checksums() -> s3s::S3Error {
    invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

fn invalid_value(algorithm: ChecksumAlgorithm, kind: &str) -> s3s::S3Error {
    s3_error!(InvalidRequest, "Value for {} {kind}header is invalid.", header_name(algorithm))
}

/// The checksum that a client sends with a body, in a header or after the body as a trailer.
pub(super) struct SentChecksum {
    algorithm: ChecksumAlgorithm,
    /// `None` if the checksum follows as a trailer.
    header: Option<Digest>,
    hasher: ContentHasher,
}

impl SentChecksum {
    /// Returns the checksum that the headers of a request announce.
    ///
    /// # Errors
    /// Returns an error if there are several, or if the value of the header is not a checksum.
    pub(super) fn from_headers(headers: &HeaderMap) -> S3Result<Option<Self>> {
        let trailers = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_trailer =
            |name: &HeaderName| trailers.split(',').any(|trailer| trailer.trim().eq_ignore_ascii_case(name.as_str()));
        let mut announced = ChecksumAlgorithm::ALL.into_iter().filter_map(|algorithm| {
            let name = header_name(algorithm);
            match headers.get(&name) {
                Some(value) => Some((algorithm, Some(value))),
                None => is_trailer(&name).then_some((algorithm, None)),
            }
        });
        let Some((algorithm, value)) = announced.next() else { return Ok(None) };
        if announced.next().is_some() {
            return Err(multiple_checksums());
        }
        let parse =
            |value: &HeaderValue| algorithm.parse_digest(value.as_bytes()).ok_or_else(|| invalid_value(algorithm, ""));
        let header = value.map(parse).transpose()?;
        Ok(Some(Self { algorithm, header, hasher: ContentHasher::new(algorithm) }))
    }

    pub(super) fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Compares the checksum of the body with the one that the client sent. Returns the checksum.
    pub(super) fn verify(self, trailers: Option<&TrailingHeaders>) -> S3Result<Digest> {
        let Self { algorithm, header, hasher } = self;
        let sent = if let Some(sent) = header {
            sent
        } else {
            let name = header_name(algorithm);
            let trailer = trailers.and_then(|trailers| trailers.read(|all| all.get(&name).cloned()).flatten());
            let sent = trailer.and_then(|value| algorithm.parse_digest(value.as_bytes()));
            sent.ok_or_else(|| invalid_value(algorithm, "trailing "))?
        };
        let digest = hasher.finish();
        if digest == sent { Ok(digest) } else { Err(checksum_mismatch(algorithm)) }
    }
}

/// Returns the checksum that a request to start a multipart upload chooses.
pub(super) fn upload_checksum(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    checksum_type: Option<&dto::ChecksumType>,
) -> S3Result<Option<UploadChecksum>> {
    let Some(name) = algorithm else {
        return match checksum_type {
            None => Ok(None),
            Some(_) => Err(invalid_request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )),
        };
    };
    let algorithm = parse_algorithm(name)?;
    let checksum_type = match checksum_type {
        None => algorithm.default_upload_type(),
        Some(name) => ChecksumType::parse(name.as_str())
            .ok_or_else(|| invalid_request("Value for x-amz-checksum-type header is invalid."))?,
    };
    if !algorithm.allows_upload_type(checksum_type) {
        return Err(s3_error!(
            InvalidRequest,
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            checksum_type.as_str(),
            algorithm.lower_name()
        ));
    }
    Ok(Some(UploadChecksum { algorithm, checksum_type }))
}

/// Parses the name of an algorithm.
pub(super) fn parse_algorithm(name: &dto::ChecksumAlgorithm) -> S3Result<ChecksumAlgorithm> {
    let known = ChecksumAlgorithm::parse(&name.as_str().to_ascii_uppercase());
    known.ok_or_else(|| invalid_request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"))
}

/// Checks that a part has a checksum by the algorithm that its upload has chosen.
pub(super) fn check_part_algorithm(chosen: Option<UploadChecksum>, sent: Option<ChecksumAlgorithm>) -> S3Result<()> {
    match chosen {
        Some(UploadChecksum { algorithm, .. }) if sent != Some(algorithm) => {
            let actual = sent.map_or_else(|| "null".to_owned(), ChecksumAlgorithm::lower_name);
            let expected = algorithm.lower_name();
            Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
            ))
        }
        _ => Ok(()),
    }
}

/// Returns the algorithm for the copy of an object: the one of the source, or the default.
pub(super) fn copy_algorithm(source: &StoredObject) -> ChecksumAlgorithm {
    let checksum = source.details.as_ref().and_then(|details| details.checksum.as_ref());
    checksum.map_or(ChecksumAlgorithm::Crc64Nvme, |checksum| checksum.algorithm)
}

/// Returns the checksum of an object as responses show it, with its type.
pub(super) fn object_checksum(object: &StoredObject) -> Option<(ChecksumAlgorithm, String, dto::ChecksumType)> {
    let checksum = object.details.as_ref()?.checksum.as_ref()?;
    let text = checksum.text(object.part_count().unwrap_or_default());
    Some((checksum.algorithm, text, s3_type(checksum.checksum_type)))
}

/// Converts an algorithm for s3s.
pub(super) fn s3_algorithm(algorithm: ChecksumAlgorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm.as_str())
}

/// Converts a checksum type for s3s.
pub(super) fn s3_type(checksum_type: ChecksumType) -> dto::ChecksumType {
    dto::ChecksumType::from_static(checksum_type.as_str())
}
