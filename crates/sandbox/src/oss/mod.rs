//! The OSS dialect of Alibaba Cloud, for the same objects. Signatures, routes, and XML are implemented here.
//!
//! A request is treated as an OSS request if it contains something that only OSS has: an `OSS4-HMAC-SHA256` or `OSS`
//! signature, or, without an `Authorization` header, a header or query parameter whose name starts with `x-oss-`. The
//! bucket is in the path, or it is the first label of the host, as in `bucket.localhost` and
//! `bucket.oss-cn-hangzhou.aliyuncs.com`.
//!
//! A value that one dialect does not have is shown as the nearest one:
//!
//! | stored as | OSS | S3 |
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
//! A storage class in an OSS request is stored as the first S3 class of its row. A restore follows the rules of the
//! request's dialect. Keys can start with a slash, which OSS rejects, because they may come from S3.
//!
//! | file | contents |
//! |---|---|
//! | `request`, `signature` | the request and its signature |
//! | `error`, `document`, `body` | error responses, XML documents, bodies |
//! | `service`, `bucket`, `lifecycle`, `object`, `subresources`, `multipart`, `list` | the operations |

mod body;
mod bucket;
mod document;
mod error;
mod lifecycle;
mod list;
mod multipart;
mod object;
mod request;
mod service;
mod signature;
mod subresources;

pub(super) use body::OssResponseBody;
pub(super) use service::{handle_request, is_oss, throttled_response};
