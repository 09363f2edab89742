//! What the test has the server do with single requests, beyond what a seed draws.

use super::asked::{Asked, Kind};

/// A request, as the test is asked about it and finds it in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) bucket: String,
    /// The key, where it is text.
    pub(crate) key: String,
    /// The access key that it is signed with; empty where it is not signed.
    pub(crate) signer: String,
}

impl Seen {
    pub(super) fn of(asked: &Asked) -> Self {
        let key = String::from_utf8_lossy(&asked.key).into_owned();
        let credential = asked.header("authorization").and_then(|header| header.split_once("Credential="));
        let signer = credential.and_then(|(_, rest)| rest.split(['/', ',']).next()).unwrap_or_default().to_owned();
        Self { kind: asked.kind, bucket: asked.bucket.clone(), key, signer }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It is answered on its merits.
    Serve,
    /// It is refused with this status and code.
    Refuse(u16, &'static str),
    /// It is answered with this status and body.
    Say(u16, String),
    /// It waits until the test behaves otherwise, and is judged again then.
    Wait,
}

/// Decides about requests, in the order in which they arrive.
pub(super) type Judge = Box<dyn FnMut(&Seen) -> Manner + Send>;
