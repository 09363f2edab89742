//! Multipart uploads, independent of the dialect.

use md5::{Digest, Md5};

use super::blobs::WrittenBlob;
use super::lookup::{SandboxRequestError, WritePrecondition};
use super::model::{ETag, ObjectBlob, PendingUpload, UploadedPart};
use super::state::StateChange;
use super::store::{NewObject, Sandbox, random_id};

impl Sandbox {
    /// Starts a multipart upload. Returns its ID.
    pub(super) fn create_upload(&self, upload: PendingUpload) -> Result<String, SandboxRequestError> {
        let mut vault = self.lock_state();
        vault.state().bucket(&upload.bucket)?;
        let id = random_id();
        self.commit(&mut vault, vec![StateChange::CreateUpload { id: id.clone(), upload }])?;
        Ok(id.into())
    }

    /// Returns a multipart upload.
    pub(super) fn find_upload(&self, id: &str, bucket: &str, key: &str) -> Result<PendingUpload, SandboxRequestError> {
        self.with_state(|state| {
            state.bucket(bucket)?;
            let upload = state.uploads.get(id).filter(|upload| *upload.bucket == *bucket && *upload.key == *key);
            upload.cloned().ok_or(SandboxRequestError::NoSuchUpload)
        })
    }

    /// Adds a part that was received completely.
    pub(super) fn put_part(&self, id: &str, number: u16, arrived: WrittenBlob) -> Result<(), SandboxRequestError> {
        let WrittenBlob { body, size, md5 } = arrived;
        let part = UploadedPart { size, md5, modified: self.now(), body: body.clone() };
        let mut vault = self.lock_state();
        // The upload may have been completed or aborted while the part was received.
        let put = if vault.state().uploads.contains_key(id) {
            self.commit(&mut vault, vec![StateChange::PutPart { id: id.into(), number, part }])
        } else {
            Err(SandboxRequestError::NoSuchUpload)
        };
        drop(vault);
        if put.is_err() {
            self.discard_blob(&body);
        }
        put
    }

    /// Creates an object from the parts in `wanted`, each with the MD5 that the client expects. Every part but the last
    /// must have at least `min_part` bytes. Returns the entity tag, and the version ID unless the bucket never had
    /// versioning enabled.
    pub(super) fn complete_upload(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        wanted: &[(u16, String)],
        min_part: u64,
        condition: &WritePrecondition,
    ) -> Result<(ETag, Option<String>), SandboxRequestError> {
        let upload = self.find_upload(id, bucket, key)?;
        let mut parts = Vec::with_capacity(wanted.len());
        for (number, etag) in wanted {
            let part = upload.parts.get(number).ok_or(SandboxRequestError::InvalidPart)?;
            let held = ETag { md5: part.md5, parts: 0 };
            if held.to_string() != *etag {
                return Err(SandboxRequestError::InvalidPart);
            }
            parts.push(part);
        }
        let Some((_, but_last)) = parts.split_last() else { return Err(SandboxRequestError::InvalidPart) };
        if but_last.iter().any(|part| part.size < min_part) {
            return Err(SandboxRequestError::PartTooSmall);
        }
        let mut writer = self.blob_writer();
        let mut md5 = Md5::new();
        for part in &parts {
            md5.update(part.md5);
            for chunk in self.open_blob(&part.body, part.size)? {
                writer.write(&chunk?)?;
            }
        }
        let etag = ETag { md5: md5.finalize().into(), parts: u16::try_from(parts.len()).unwrap_or(u16::MAX) };
        let WrittenBlob { body, size, .. } = writer.finish();
        let id_told = self.finish_upload(id, &upload, size, etag, body.clone(), condition);
        if id_told.is_err() {
            self.discard_blob(&body);
        }
        Ok((etag, id_told?))
    }

    fn finish_upload(
        &self,
        id: &str,
        upload: &PendingUpload,
        size: u64,
        etag: ETag,
        body: ObjectBlob,
        condition: &WritePrecondition,
    ) -> Result<Option<String>, SandboxRequestError> {
        let PendingUpload { bucket, key, class, acl, tags, headers, .. } = upload.clone();
        let new = NewObject { size, etag, class, acl, tags, headers, body };
        let mut vault = self.lock_state();
        if !vault.state().uploads.contains_key(id) {
            return Err(SandboxRequestError::NoSuchUpload);
        }
        vault.state().check_precondition(&bucket, &key, condition)?;
        let (put, told) = self.new_version_change(vault.state(), &bucket, &key, new)?;
        self.commit(&mut vault, vec![put, StateChange::DropUpload { id: id.into() }])?;
        Ok(told)
    }

    /// Aborts a multipart upload.
    pub(super) fn abort_upload(&self, id: &str, bucket: &str, key: &str) -> Result<(), SandboxRequestError> {
        self.find_upload(id, bucket, key)?;
        let mut vault = self.lock_state();
        if !vault.state().uploads.contains_key(id) {
            return Err(SandboxRequestError::NoSuchUpload);
        }
        self.commit(&mut vault, vec![StateChange::DropUpload { id: id.into() }])
    }
}
