//! The OSS dialect: the same objects, in Alibaba Cloud's words. Signatures, routes and XML are our own here.
//!
//! A request is taken for OSS when it carries something that only OSS has: an `OSS4-HMAC-SHA256` signature, or a header
//! or query parameter whose name begins with `x-oss-`. Buckets are addressed in the path, or by the host where it has a
//! bucket's label in front: `bucket.localhost`, `bucket.oss-cn-hangzhou.aliyuncs.com`.
//!
//! What one dialect has and the other has not is shown as its nearest:
//!
//! | held as | OSS | S3 |
//! |---|---|---|
//! | class | `Standard` | `STANDARD`, `INTELLIGENT_TIERING`, `REDUCED_REDUNDANCY` |
//! | class | `IA` | `STANDARD_IA`, `ONEZONE_IA`, `GLACIER_IR` |
//! | class | `Archive` | `GLACIER` |
//! | class | `ColdArchive` | `GLACIER` |
//! | class | `DeepColdArchive` | `DEEP_ARCHIVE` |
//! | ACL `default` | `default` | the bucket's ACL |
//! | ACL `authenticated-read` | `private` | `authenticated-read` |
//! | user metadata | `x-oss-meta-` | `x-amz-meta-` |
//!
//! A class that comes in OSS's words is held as the first of its row. A restore follows the rules of the dialect that
//! asks for it. Keys may begin with a slash, which OSS refuses, because S3 may have put them there.
//!
//! | file | what is in it |
//! |---|---|
//! | `request`, `sign` | what a request says, and who says it |
//! | `error`, `document`, `content` | answers: refusals, XML, bodies |
//! | `service`, `bucket`, `settings`, `object`, `aspects`, `multipart`, `list` | the operations |

mod aspects;
mod bucket;
mod content;
mod document;
mod error;
mod list;
mod multipart;
mod object;
mod request;
mod service;
mod settings;
mod sign;

pub(super) use content::Content;
pub(super) use service::{answer, is_oss, throttled};
