//! Where a server does not answer as AWS does.

use crate::checks::Check;

/// One check that a server answers in its own way.
pub(crate) struct Deviation {
    server: &'static str,
    check: &'static str,
    pub(crate) answer: &'static str,
    pub(crate) reason: &'static str,
}

const fn deviation(server: &'static str, check: &'static str, answer: &'static str, reason: &'static str) -> Deviation {
    Deviation { server, check, answer, reason }
}

const TABLE: &[Deviation] = &[
    deviation("MINISTACK", "tags/long key", "200", "it does not check the length of tags"),
    deviation(
        "MINISTACK",
        "versions/old behind a marker",
        "404 NoSuchKey",
        "with a delete marker on top it does not find tags of older versions",
    ),
    deviation(
        "MINISTACK",
        "restore/hot",
        "403 ObjectAlreadyInActiveTierError",
        "it answers with the code of another case; the status is the same",
    ),
    deviation("MINISTACK", "restore/deep expedited", "202", "it does not check tiers"),
    deviation(
        "MINISTACK",
        "list/versions over pages",
        "1051",
        "its pages of versions begin with the marker, which the page before ended with",
    ),
    deviation("MINISTACK", "list/unversioned are null", "1051", "as above: one entry is listed twice"),
    deviation("MOTO", "tags/delete missing key", "500 InternalError", "it breaks"),
    deviation("MOTO", "versions/acl of old read", "200 private", "it sets the ACL of the current version instead"),
    deviation("MOTO", "versions/acl of current", "200 public-read", "as above"),
    deviation("MOTO", "acl/get public-read-write", "200 public-read", "it loses the grant to write"),
    deviation("MOTO", "restore/cold under way", "200 GLACIER restored", "its restores are done at once"),
    deviation("MOTO", "restore/cold again", "200", "as above: there is none under way"),
    deviation("MOTO", "restore/deep expedited", "202", "it does not check tiers"),
    deviation(
        "MOTO",
        "key/\"\\n\"",
        "put answered 404 NotFound",
        "its routes do not take a path that ends in a newline",
    ),
    deviation("MOTO", "write/wrong md5", "ok", "it does not check Content-MD5"),
    deviation("MOTO", "setting/acl refused", "200", "it keeps who owns objects and does not go by it"),
    deviation("OSS", "tags/replace", "400 InvalidTag", "its tags have no other letters, and no @"),
    deviation("OSS", "tags/replaced", "200 [a=1 b=two words]", "as above"),
    deviation("OSS", "tags/eleven", "400 InvalidTag", "its own code; the status is the same"),
    deviation("OSS", "versions/head old", "200 Standard not restored", "its own names of classes"),
    deviation("OSS", "restore/head cold", "200 Archive not restored", "its own names of classes"),
    deviation("OSS", "restore/head deep", "200 DeepColdArchive not restored", "its own names of classes"),
    deviation("OSS", "restore/hot", "400 OperationNotSupported", "its own code"),
    deviation("OSS", "restore/cold", "400 MalformedXML", "Archive takes no tier: the engine leaves it out"),
    deviation("OSS", "restore/cold under way", "200 Archive not restored", "as above"),
    deviation("OSS", "restore/cold again", "400 MalformedXML", "as above"),
    deviation("OSS", "restore/deep bulk", "400 MalformedXML", "DeepColdArchive has Standard and Expedited"),
    deviation("OSS", "restore/deep expedited", "202", "as above"),
    deviation("OSS", "key/1024 bytes", "put answered 400 InvalidObjectName", "its keys have up to 1023 bytes"),
    deviation("OSS", "list/size and class", "4 Standard", "its own names of classes"),
    deviation("OSS", "write/wrong md5", "400 InvalidDigest", "its own code"),
    deviation("OSS", "list/etag", "841A2D689AD86BD1611447453C22C6FC", "its ETags are in capitals"),
    deviation("OSS", "setting/owned by writers", "NotApplicable", "it has no ownership of objects"),
    deviation("OSS", "setting/owned by the bucket", "NotApplicable", "as above"),
    deviation("OSS", "setting/owned by nobody said", "NotApplicable", "as above"),
    deviation("OSS", "setting/acl refused", "200", "as above: ACLs hold in every bucket"),
    deviation("OSS", "read/etag", "5D41402ABC4B2A76B9719D911017C592", "its ETags are in capitals"),
    deviation(
        "RADOSGW",
        "setting/owned by writers",
        "NotApplicable",
        "it has no ownership, and answers with a listing",
    ),
    deviation("RADOSGW", "setting/owned by nobody said", "NotApplicable", "as above"),
    deviation("RADOSGW", "tags/eleven", "400 InvalidTag", "its own code; the status is the same"),
    deviation("RADOSGW", "restore/hot", "501 NotImplemented", "release 16 has storage classes and no restore"),
    deviation("RADOSGW", "restore/cold", "501 NotImplemented", "release 16 has storage classes and no restore"),
    deviation("RADOSGW", "restore/cold again", "501 NotImplemented", "release 16 has storage classes and no restore"),
    deviation("RADOSGW", "restore/deep bulk", "501 NotImplemented", "release 16 has storage classes and no restore"),
    deviation("RADOSGW", "restore/missing key", "501 NotImplemented", "release 16 has storage classes and no restore"),
    deviation(
        "RADOSGW",
        "restore/deep expedited",
        "501 NotImplemented",
        "release 16 has storage classes and no restore",
    ),
    deviation(
        "RADOSGW",
        "restore/deep without tier",
        "501 NotImplemented",
        "release 16 has storage classes and no restore",
    ),
    deviation("RADOSGW", "restore/cold under way", "200 GLACIER not restored", "as above"),
    deviation("SEAWEEDFS", "tags/eleven", "400 InvalidTag", "its own code; the status is the same"),
    deviation("SEAWEEDFS", "restore/hot", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation("SEAWEEDFS", "restore/cold", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation("SEAWEEDFS", "restore/cold again", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation("SEAWEEDFS", "restore/deep bulk", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation("SEAWEEDFS", "restore/missing key", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation("SEAWEEDFS", "restore/deep expedited", "405 MethodNotAllowed", "it has storage classes and no restore"),
    deviation(
        "SEAWEEDFS",
        "restore/deep without tier",
        "405 MethodNotAllowed",
        "it has storage classes and no restore",
    ),
    deviation("SEAWEEDFS", "restore/cold under way", "200 GLACIER not restored", "as above"),
    deviation(
        "SEAWEEDFS",
        "key/\"//\"",
        "500 InternalError, 200 []",
        "its keys are paths of files: it leaves out empty segments",
    ),
    deviation("SEAWEEDFS", "key listed/\"//\"", "false", "as above"),
    deviation(
        "SEAWEEDFS",
        "key/\"trailing/\"",
        "500 InternalError, 200 []",
        "a key that ends in a slash is a folder, which takes no tags",
    ),
    deviation(
        "SEAWEEDFS",
        "key listed/\"/lead\"",
        "200 InvalidListing: a page of the listing is not valid: it has lead, which does not start with /lead",
        "it leaves out the slash that a key starts with",
    ),
    deviation("SEAWEEDFS", "key/\"../x\"", "put answered 400 InvalidRequest", "its keys are paths of files"),
    deviation("SEAWEEDFS", "key/\"./x\"", "put answered 400 InvalidRequest", "as above"),
    deviation("SEAWEEDFS", "key/\"a/../b\"", "put answered 400 InvalidRequest", "as above"),
    deviation(
        "SEAWEEDFS",
        "key/1024 bytes",
        "put answered 400 KeyTooLongError",
        "no segment of a key has more than 255 bytes",
    ),
    deviation(
        "SEAWEEDFS",
        "setting/owned by writers",
        "BucketOwnerEnforced",
        "it keeps no setting, and answers with that of new buckets of AWS",
    ),
    deviation("SEAWEEDFS", "setting/owned by nobody said", "BucketOwnerEnforced", "as above"),
    deviation("SEAWEEDFS", "setting/acl refused", "200", "as above: ACLs can be set in every bucket"),
];

/// How a server is known to answer a check otherwise.
pub(crate) fn of(server: &str, check: &str) -> Option<&'static Deviation> {
    TABLE.iter().find(|deviation| deviation.server == server && deviation.check == check)
}

/// Deviations of a server that no check asks for: the table has outlived them.
pub(crate) fn unknown(server: &str, checks: &[Check]) -> Vec<&'static str> {
    let asked = |deviation: &&Deviation| checks.iter().all(|check| check.name != deviation.check);
    TABLE.iter().filter(|deviation| deviation.server == server).filter(asked).map(|deviation| deviation.check).collect()
}
