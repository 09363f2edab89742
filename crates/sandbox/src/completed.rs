//! The multipart uploads that were completed last. AWS answers a repeated request to complete an upload in the same way
//! again, so that a client can repeat a request whose response was lost.

use std::collections::VecDeque;

use md5::{Digest as _, Md5};

use super::checksum::{ChecksumAlgorithm, Digest, ObjectChecksum};
use super::model::{ETag, Md5Digest};

/// How many completed uploads are remembered.
const MAX_REMEMBERED: usize = 1000;

/// The multipart upload that a request names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadTarget<'r> {
    pub(crate) id: &'r str,
    pub(crate) bucket: &'r str,
    pub(crate) key: &'r str,
}

/// A part as the list of a request describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpectedPart {
    pub(crate) number: u16,
    /// The entity tag without quotation marks.
    pub(crate) etag: String,
    pub(crate) digest: Option<(ChecksumAlgorithm, Digest)>,
}

/// The object that a multipart upload has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompletedUpload {
    pub(crate) etag: ETag,
    /// `None` if the bucket never had versioning enabled.
    pub(crate) version_id: Option<String>,
    pub(crate) checksum: Option<ObjectChecksum>,
}

/// The uploads that were completed last, in the order of their completion.
#[derive(Debug, Default)]
pub(crate) struct CompletedUploads(VecDeque<RememberedUpload>);

#[derive(Debug)]
struct RememberedUpload {
    id: Box<str>,
    bucket: Box<str>,
    key: Box<str>,
    /// Identifies the list of parts.
    parts: Md5Digest,
    result: CompletedUpload,
}

impl CompletedUploads {
    pub(crate) fn remember(&mut self, target: UploadTarget<'_>, parts: &[ExpectedPart], result: CompletedUpload) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(RememberedUpload {
            id: target.id.into(),
            bucket: target.bucket.into(),
            key: target.key.into(),
            parts: parts_fingerprint(parts),
            result,
        });
    }

    /// Returns what an upload has become that was completed with the same parts.
    pub(crate) fn find(&self, target: UploadTarget<'_>, parts: &[ExpectedPart]) -> Option<&CompletedUpload> {
        let is_target =
            |it: &&RememberedUpload| *it.id == *target.id && *it.bucket == *target.bucket && *it.key == *target.key;
        let found = self.0.iter().rev().find(is_target)?;
        (found.parts == parts_fingerprint(parts)).then_some(&found.result)
    }
}

fn parts_fingerprint(parts: &[ExpectedPart]) -> Md5Digest {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(format!("{} {}\n", part.number, part.etag));
    }
    md5.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_uploads_are_remembered_and_no_more() {
        let mut completed = CompletedUploads::default();
        let result = CompletedUpload { etag: ETag::of_content([7; 16]), version_id: None, checksum: None };
        let part = |etag: &str| vec![ExpectedPart { number: 1, etag: etag.to_owned(), digest: None }];
        let target = |id| UploadTarget { id, bucket: "b", key: "k" };
        completed.remember(target("first"), &part("e"), result.clone());
        assert_eq!(completed.find(target("first"), &part("e")), Some(&result));
        assert_eq!(completed.find(target("first"), &part("f")), None);
        assert_eq!(completed.find(UploadTarget { key: "other", ..target("first") }, &part("e")), None);
        for id in 0..MAX_REMEMBERED {
            let id = id.to_string();
            completed.remember(UploadTarget { id: &id, ..target("") }, &part("e"), result.clone());
        }
        assert_eq!(completed.0.len(), MAX_REMEMBERED);
        assert_eq!(completed.find(target("first"), &part("e")), None);
    }
}
