//! Multipart uploads, independent of the dialect.

use md5::{Digest, Md5};

use super::bodies::Arrived;
use super::find::{Condition, Refusal};
use super::model::{Body, ETag, Part, Upload};
use super::state::Change;
use super::vault::{NewObject, Sandbox, random_id};

impl Sandbox {
    /// Starts a multipart upload. Returns its ID.
    pub(super) fn create_upload(&self, upload: Upload) -> Result<String, Refusal> {
        let mut vault = self.vault();
        vault.state().bucket(&upload.bucket)?;
        let id = random_id();
        self.commit(&mut vault, vec![Change::CreateUpload { id: id.clone(), upload }])?;
        Ok(id.into())
    }

    /// Returns a multipart upload.
    pub(super) fn upload(&self, id: &str, bucket: &str, key: &str) -> Result<Upload, Refusal> {
        self.view(|state| {
            state.bucket(bucket)?;
            let upload = state.uploads.get(id).filter(|upload| *upload.bucket == *bucket && *upload.key == *key);
            upload.cloned().ok_or(Refusal::NoSuchUpload)
        })
    }

    /// Adds a part that was received completely.
    pub(super) fn put_part(&self, id: &str, number: u16, arrived: Arrived) -> Result<(), Refusal> {
        let Arrived { body, size, md5 } = arrived;
        let part = Part { size, md5, modified: self.now(), body: body.clone() };
        let mut vault = self.vault();
        // The upload may have been completed or aborted while the part was received.
        let put = if vault.state().uploads.contains_key(id) {
            self.commit(&mut vault, vec![Change::PutPart { id: id.into(), number, part }])
        } else {
            Err(Refusal::NoSuchUpload)
        };
        drop(vault);
        if put.is_err() {
            self.discard(&body);
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
        condition: &Condition,
    ) -> Result<(ETag, Option<String>), Refusal> {
        let upload = self.upload(id, bucket, key)?;
        let mut parts = Vec::with_capacity(wanted.len());
        for (number, etag) in wanted {
            let part = upload.parts.get(number).ok_or(Refusal::InvalidPart)?;
            let held = ETag { md5: part.md5, parts: 0 };
            if held.to_string() != *etag {
                return Err(Refusal::InvalidPart);
            }
            parts.push(part);
        }
        let Some((_, but_last)) = parts.split_last() else { return Err(Refusal::InvalidPart) };
        if but_last.iter().any(|part| part.size < min_part) {
            return Err(Refusal::PartTooSmall);
        }
        let mut writer = self.body_writer();
        let mut md5 = Md5::new();
        for part in &parts {
            md5.update(part.md5);
            for chunk in self.open_body(&part.body, part.size)? {
                writer.write(&chunk?)?;
            }
        }
        let etag = ETag { md5: md5.finalize().into(), parts: u16::try_from(parts.len()).unwrap_or(u16::MAX) };
        let Arrived { body, size, .. } = writer.finish();
        let id_told = self.finish_upload(id, &upload, size, etag, body.clone(), condition);
        if id_told.is_err() {
            self.discard(&body);
        }
        Ok((etag, id_told?))
    }

    fn finish_upload(
        &self,
        id: &str,
        upload: &Upload,
        size: u64,
        etag: ETag,
        body: Body,
        condition: &Condition,
    ) -> Result<Option<String>, Refusal> {
        let Upload { bucket, key, class, acl, tags, headers, .. } = upload.clone();
        let new = NewObject { size, etag, class, acl, tags, headers, body };
        let mut vault = self.vault();
        if !vault.state().uploads.contains_key(id) {
            return Err(Refusal::NoSuchUpload);
        }
        vault.state().allows(&bucket, &key, condition)?;
        let (put, told) = self.put_change(vault.state(), &bucket, &key, new)?;
        self.commit(&mut vault, vec![put, Change::DropUpload { id: id.into() }])?;
        Ok(told)
    }

    /// Aborts a multipart upload.
    pub(super) fn abort_upload(&self, id: &str, bucket: &str, key: &str) -> Result<(), Refusal> {
        self.upload(id, bucket, key)?;
        let mut vault = self.vault();
        if !vault.state().uploads.contains_key(id) {
            return Err(Refusal::NoSuchUpload);
        }
        self.commit(&mut vault, vec![Change::DropUpload { id: id.into() }])
    }
}
