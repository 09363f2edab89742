//! Interprets the answers to a first write.

use super::reads::is_unknown_to_server;
use crate::call::{Call, Learned};
use crate::object::{Acl, ObjectId, TagSet};
use crate::task::Fault;

/// What an error answer to the first write shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// The server does not know the request.
    Unknown,
    /// The server knows the request.
    Known,
    /// Nothing: the request was rejected for its content, or did not arrive.
    Nothing,
}

/// Errors that the services document for restores only.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html>
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
const OF_RESTORES: [&str; 6] = [
    "RestoreAlreadyInProgress",
    "GlacierExpeditedRetrievalNotAvailable",
    "ObjectAlreadyInActiveTierError",
    "InvalidObjectState",
    "ObjectRestoreNotNeeded",
    "OperationNotSupported",
];

/// Errors with which a server that knows restores rejects an invalid request.
const ON_ITS_MERITS: [&str; 4] = ["InvalidArgument", "InvalidRequest", "MalformedXML", "InvalidTier"];

pub(super) fn verdict(call: &Call, fault: &Fault) -> Says {
    let unknown = is_unknown_to_server(fault) || fault.status == Some(405);
    match call {
        _ if unknown => Says::Unknown,
        Call::Restore(_) if OF_RESTORES.contains(&fault.code.as_str()) => Says::Known,
        Call::Restore(_) if fault.status == Some(400) && !ON_ITS_MERITS.contains(&fault.code.as_str()) => Says::Unknown,
        _ => Says::Nothing,
    }
}

/// Describes how the value read back differs from what was sent; `None` if they are equal.
pub(super) fn difference(sent: &Call, found: &Learned) -> Option<String> {
    match (sent, found) {
        (Call::PutTags(tags), Learned::Tags(found)) if tags == found => None,
        (Call::DeleteTags, Learned::Tags(found)) if found.is_empty() => None,
        (Call::PutAcl(acl), Learned::Acl(found)) if acl == found => None,
        (_, Learned::Tags(found)) if found.is_empty() => Some("it reads back without tags".to_owned()),
        (Call::PutTags(sent), Learned::Tags(found)) => Some(differing(sent, found)),
        (_, Learned::Tags(found)) => Some(format!("it reads back with {}", counted(found.iter().count()))),
        (_, Learned::Acl(Acl::Custom)) => Some("its ACL reads back as none of the predefined ones".to_owned()),
        (_, Learned::Acl(acl)) => Some(format!("its ACL reads back as {}", acl.as_str())),
        _ => Some("it cannot be read back".to_owned()),
    }
}

/// Describes how tags that were read differ from those that were sent. Values of the server are not included: they
/// may be of any length and may contain secrets.
fn differing(sent: &TagSet, found: &TagSet) -> String {
    let mut lost =
        sent.iter().filter(|(key, value)| !found.iter().any(|(other, found)| (other, found) == (*key, *value)));
    let others = found.iter().filter(|(key, _)| !sent.iter().any(|(other, _)| other == *key)).count();
    match lost.next() {
        Some((key, _)) => format!("it reads back without the tag `{key}` as it was sent"),
        None => format!("it reads back with {} besides", counted(others)),
    }
}

fn counted(tags: usize) -> String {
    if tags == 1 { "1 tag".to_owned() } else { format!("{tags} tags") }
}

/// Gives the fault of an object that HEAD does not find the error code of other requests, since an answer to HEAD has
/// no error document.
pub(super) fn named_missing(fault: Fault, object: &ObjectId) -> Fault {
    if fault.status != Some(404) || fault.code.starts_with("NoSuch") {
        return fault;
    }
    let code = if object.version.is_some() { "NoSuchVersion" } else { "NoSuchKey" };
    Fault { code: code.to_owned(), message: "there is no such object".to_owned(), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::RestoreRequest;
    use crate::task::FaultClass;

    #[test]
    fn a_refused_first_write_is_judged_by_status_and_code() {
        let fault = |status, code: &str| Fault {
            status: Some(status),
            ..Fault::unanswered(FaultClass::Rejected, code, "no", String::new())
        };
        let restore = Call::Restore(RestoreRequest { days: 1, tier: None });
        let cases = [
            (501, "NotImplemented", Says::Unknown),
            (405, "MethodNotAllowed", Says::Unknown),
            (400, "MalformedPOSTRequest", Says::Unknown),
            (400, "BadRequest", Says::Unknown),
            (403, "InvalidObjectState", Says::Known),
            (409, "RestoreAlreadyInProgress", Says::Known),
            (503, "GlacierExpeditedRetrievalNotAvailable", Says::Known),
            (403, "ObjectAlreadyInActiveTierError", Says::Known),
            (400, "OperationNotSupported", Says::Known),
            (400, "InvalidArgument", Says::Nothing),
            (404, "NoSuchKey", Says::Nothing),
            (403, "AccessDenied", Says::Nothing),
        ];
        for (status, code, says) in cases {
            assert_eq!(verdict(&restore, &fault(status, code)), says, "{status} {code}");
        }
        let tags = Call::PutTags(TagSet::default());
        assert_eq!(verdict(&tags, &fault(400, "InvalidTag")), Says::Nothing);
        assert_eq!(verdict(&tags, &fault(501, "NotImplemented")), Says::Unknown);
    }

    #[test]
    fn what_reads_back_is_compared_as_a_set() {
        let tags = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<TagSet>();
        let sent = Call::PutTags(tags(&[("a", "1"), ("b", "2")]));
        assert_eq!(difference(&sent, &Learned::Tags(tags(&[("b", "2"), ("a", "1")]))), None);
        for (found, told) in [
            (&[("a", "1")][..], "it reads back without the tag `b` as it was sent"),
            (&[("a", "1"), ("b", "secret")], "it reads back without the tag `b` as it was sent"),
            (&[("a", "1"), ("b", "2"), ("secret", "")], "it reads back with 1 tag besides"),
            (&[], "it reads back without tags"),
        ] {
            assert_eq!(difference(&sent, &Learned::Tags(tags(found))).as_deref(), Some(told));
        }
        let left = difference(&Call::DeleteTags, &Learned::Tags(tags(&[("a", "secret")])));
        assert_eq!(left.as_deref(), Some("it reads back with 1 tag"));
        assert_eq!(difference(&Call::DeleteTags, &Learned::Tags(tags(&[]))), None);
        assert!(difference(&Call::PutAcl(Acl::PublicRead), &Learned::Acl(Acl::Private)).is_some());
        assert_eq!(difference(&Call::PutAcl(Acl::PublicRead), &Learned::Acl(Acl::PublicRead)), None);
    }
}
