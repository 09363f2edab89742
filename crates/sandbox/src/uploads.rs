//! Multipart uploads, independent of the dialect.

use md5::{Digest as _, Md5};

use super::blobs::WrittenBlob;
use super::checksum::{
    ChecksumAlgorithm, ChecksumType, ContentDetails, ContentHasher, Digest, ObjectChecksum, ObjectPart, UploadChecksum,
};
use super::completed::{CompletedUpload, ExpectedPart, UploadTarget};
use super::model::{ETag, ObjectBlob, PendingUpload, UploadedPart, random_id};
use super::state::{SandboxRequestError, StateChange, WritePrecondition, part_changes, upload_changes};
use super::store::{NewObject, Sandbox};

/// A request to complete a multipart upload.
#[derive(Debug)]
pub(crate) struct UploadCompletion<'r> {
    pub(crate) target: UploadTarget<'r>,
    /// The parts that the object consists of, ordered by their numbers.
    pub(crate) parts: &'r [ExpectedPart],
    /// Every part but the last must have at least this many bytes.
    pub(crate) min_part_bytes: u64,
    pub(crate) condition: &'r WritePrecondition,
    /// The checksum that the whole object must have, if the request contains it.
    pub(crate) expected: Option<ExpectedChecksum>,
    /// The size that the object must have, if the request contains it.
    pub(crate) expected_size: Option<u64>,
    /// The algorithm of the checksum of the whole, for uploads that have chosen none.
    pub(crate) default_algorithm: Option<ChecksumAlgorithm>,
}

/// The checksum of a whole object in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedChecksum {
    pub(crate) algorithm: ChecksumAlgorithm,
    pub(crate) digest: Digest,
}

/// The content of an object that consists of parts.
struct JoinedParts {
    body: ObjectBlob,
    size: u64,
    etag: ETag,
    details: ContentDetails,
}

impl Sandbox {
    /// Starts a multipart upload. Returns its ID.
    pub(crate) fn create_upload(&self, upload: PendingUpload) -> Result<String, SandboxRequestError> {
        let mut locked = self.lock_state();
        locked.state.bucket(&upload.bucket)?;
        let id = random_id();
        self.commit(&mut locked, upload_changes(&id, upload).collect())?;
        Ok(id.into())
    }

    /// Returns a multipart upload.
    pub(crate) fn find_upload(&self, id: &str, bucket: &str, key: &str) -> Result<PendingUpload, SandboxRequestError> {
        self.with_state(|state| {
            state.bucket(bucket)?;
            let upload = state.uploads.get(id).filter(|upload| *upload.bucket == *bucket && *upload.key == *key);
            upload.cloned().ok_or(SandboxRequestError::NoSuchUpload)
        })
    }

    /// Adds a part that was received completely. `digest` is its checksum by the upload's algorithm.
    pub(crate) fn put_part(
        &self,
        id: &str,
        number: u16,
        blob: WrittenBlob,
        digest: Option<Digest>,
    ) -> Result<(), SandboxRequestError> {
        let WrittenBlob { body, size, md5 } = blob;
        let part = UploadedPart { size, md5, modified: self.now(), body: body.clone(), digest };
        let mut locked = self.lock_state();
        // The upload may have been completed or aborted while the part was received.
        let result = if locked.state.uploads.contains_key(id) {
            self.commit(&mut locked, part_changes(id, number, part).collect())
        } else {
            Err(SandboxRequestError::NoSuchUpload)
        };
        drop(locked);
        if result.is_err() {
            self.discard_blob(&body);
        }
        result
    }

    /// Creates an object from parts.
    pub(crate) fn complete_upload(
        &self,
        completion: &UploadCompletion<'_>,
    ) -> Result<CompletedUpload, SandboxRequestError> {
        let UploadCompletion { target: UploadTarget { id, bucket, key }, condition, .. } = *completion;
        let upload = self.find_upload(id, bucket, key)?;
        self.with_state(|state| state.check_precondition(bucket, key, condition))?;
        let parts = find_parts(&upload, completion)?;
        let joined = self.join_parts(&parts, &upload, completion)?;
        let body = joined.body.clone();
        let checked = check_joined(&joined, completion);
        let result = checked.and_then(|()| self.finish_upload(&upload, joined, completion));
        if result.is_err() {
            self.discard_blob(&body);
        }
        result
    }

    /// Returns the result of a request that already completed an upload, or `None` if it is not remembered.
    pub(crate) fn find_completed(&self, completion: &UploadCompletion<'_>) -> Option<CompletedUpload> {
        self.lock_state().completed.find(completion.target, completion.parts).cloned()
    }

    /// Writes the content of the parts into one blob, and calculates its entity tag and checksum.
    fn join_parts(
        &self,
        parts: &[(u16, &UploadedPart)],
        upload: &PendingUpload,
        completion: &UploadCompletion<'_>,
    ) -> Result<JoinedParts, SandboxRequestError> {
        let mut md5 = Md5::new();
        for (_, part) in parts {
            md5.update(part.md5);
        }
        let etag = ETag { md5: md5.finalize().into(), parts: u16::try_from(parts.len()).unwrap_or(u16::MAX) };
        let full_object_algorithm = match (upload.checksum, completion.default_algorithm) {
            (Some(UploadChecksum { algorithm, checksum_type: ChecksumType::FullObject }), _) => Some(algorithm),
            (Some(_), _) => None,
            (None, default) => default,
        };
        let stored_parts = parts.iter().map(|(number, part)| ObjectPart {
            number: *number,
            size: part.size,
            digest: part.digest.clone(),
        });
        let stored_parts = stored_parts.collect();
        if parts.iter().all(|(_, part)| part.body == ObjectBlob::Zeros) {
            let size = parts.iter().map(|(_, part)| part.size).sum();
            let details = ContentDetails { checksum: composite_checksum(parts, upload), parts: stored_parts };
            return Ok(JoinedParts { body: ObjectBlob::Zeros, size, etag, details });
        }
        let mut hasher = full_object_algorithm.map(ContentHasher::new);
        let mut writer = self.blob_writer();
        for (_, part) in parts {
            for chunk in self.open_blob(&part.body, part.size)? {
                let chunk = chunk?;
                writer.write(&chunk)?;
                if let Some(hasher) = &mut hasher {
                    hasher.update(&chunk);
                }
            }
        }
        let WrittenBlob { body, size, .. } = writer.finish();
        let full_object = full_object_algorithm
            .zip(hasher)
            .map(|(algorithm, hasher)| ObjectChecksum::of_content(algorithm, hasher.finish()));
        let checksum = full_object.or_else(|| composite_checksum(parts, upload));
        Ok(JoinedParts { body, size, etag, details: ContentDetails { checksum, parts: stored_parts } })
    }

    fn finish_upload(
        &self,
        upload: &PendingUpload,
        joined: JoinedParts,
        completion: &UploadCompletion<'_>,
    ) -> Result<CompletedUpload, SandboxRequestError> {
        let UploadCompletion { target, parts, condition, .. } = *completion;
        let UploadTarget { id, bucket, key } = target;
        let PendingUpload { class, access, tags, headers, .. } = upload.clone();
        let JoinedParts { body, size, etag, details } = joined;
        let checksum = details.checksum.clone();
        let details = Some(Box::new(details));
        let new = NewObject { size, etag, class, access, tags, headers, body, details };
        let mut locked = self.lock_state();
        if !locked.state.uploads.contains_key(id) {
            return Err(SandboxRequestError::NoSuchUpload);
        }
        let checked = locked.state.check_precondition(bucket, key, condition);
        checked.map_err(|error| condition.late_error(error))?;
        let (mut changes, version_id) = self.new_version_changes(&locked.state, bucket, key, new)?;
        changes.push(StateChange::DropUpload { id: id.into() });
        self.commit(&mut locked, changes)?;
        let result = CompletedUpload { etag, version_id, checksum };
        locked.completed.remember(target, parts, result.clone());
        Ok(result)
    }

    /// Aborts a multipart upload.
    pub(crate) fn abort_upload(&self, id: &str, bucket: &str, key: &str) -> Result<(), SandboxRequestError> {
        self.find_upload(id, bucket, key)?;
        let mut locked = self.lock_state();
        if !locked.state.uploads.contains_key(id) {
            return Err(SandboxRequestError::NoSuchUpload);
        }
        self.commit(&mut locked, vec![StateChange::DropUpload { id: id.into() }])
    }
}

/// Returns the parts that a request lists, with their numbers. Checks their entity tags, checksums, and sizes.
fn find_parts<'u>(
    upload: &'u PendingUpload,
    completion: &UploadCompletion<'_>,
) -> Result<Vec<(u16, &'u UploadedPart)>, SandboxRequestError> {
    let mut parts = Vec::with_capacity(completion.parts.len());
    for expected in completion.parts {
        let part = upload.parts.get(&expected.number).ok_or(SandboxRequestError::InvalidPart)?;
        if ETag::of_content(part.md5).to_string() != expected.etag {
            return Err(SandboxRequestError::InvalidPart);
        }
        check_part_digest(upload.checksum, part, expected)?;
        parts.push((expected.number, part));
    }
    let Some((_, all_but_last)) = parts.split_last() else { return Err(SandboxRequestError::InvalidPart) };
    if all_but_last.iter().any(|(_, part)| part.size < completion.min_part_bytes) {
        return Err(SandboxRequestError::PartTooSmall);
    }
    Ok(parts)
}

/// Compares the checksum of a part with the one in a request. If the checksum of the whole is calculated from those of
/// the parts, the request must contain each of them.
fn check_part_digest(
    upload: Option<UploadChecksum>,
    part: &UploadedPart,
    expected: &ExpectedPart,
) -> Result<(), SandboxRequestError> {
    match (upload, &expected.digest) {
        (Some(checksum), Some((algorithm, digest))) => {
            let is_expected = *algorithm == checksum.algorithm && part.digest.as_ref() == Some(digest);
            if is_expected { Ok(()) } else { Err(SandboxRequestError::InvalidPart) }
        }
        (Some(UploadChecksum { algorithm, checksum_type: ChecksumType::Composite }), None) => {
            Err(SandboxRequestError::PartChecksumMissing(algorithm, expected.number))
        }
        (None, Some(_)) => Err(SandboxRequestError::InvalidPart),
        (_, None) => Ok(()),
    }
}

/// Returns the checksum of the checksums of the parts, if the upload has chosen that.
fn composite_checksum(parts: &[(u16, &UploadedPart)], upload: &PendingUpload) -> Option<ObjectChecksum> {
    let UploadChecksum { algorithm, checksum_type } = upload.checksum?;
    let digests: Option<Vec<&[u8]>> = parts.iter().map(|(_, part)| part.digest.as_deref()).collect();
    let digest = (checksum_type == ChecksumType::Composite).then_some(algorithm.digest_of(&digests?.concat()))?;
    Some(ObjectChecksum { algorithm, checksum_type, digest })
}

/// Compares the size and the checksum of an object with those in the request.
fn check_joined(joined: &JoinedParts, completion: &UploadCompletion<'_>) -> Result<(), SandboxRequestError> {
    if let Some(expected) = completion.expected_size.filter(|expected| *expected != joined.size) {
        return Err(SandboxRequestError::SizeMismatch { expected, actual: joined.size });
    }
    if let (Some(expected), Some(checksum)) = (&completion.expected, &joined.details.checksum)
        && expected.algorithm == checksum.algorithm
        && expected.digest != checksum.digest
    {
        return Err(SandboxRequestError::ChecksumMismatch(expected.algorithm));
    }
    Ok(())
}
