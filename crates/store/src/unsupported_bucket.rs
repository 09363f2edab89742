//! What AWS S3 has in the place of a bucket that the client cannot work on: directory buckets, Multi-Region Access
//! Points and others, each by the form of its name.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>

/// A name of AWS S3 in the place of a bucket that the client cannot work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedBucket {
    /// What is not supported, as a sentence without its full stop.
    pub title: &'static str,
    /// What the name is.
    pub label: &'static str,
    /// What to name instead.
    pub help: &'static str,
}

impl UnsupportedBucket {
    /// Returns what a name is, if the client cannot work on it. Other names may still be invalid.
    #[must_use]
    pub fn of_aws(name: &str) -> Option<Self> {
        match name.strip_prefix("arn:") {
            Some(rest) => rest.split_once(':').map(|(_, resource)| Self::of_resource(resource)),
            None => Self::by_ending(name),
        }
    }

    const fn new(title: &'static str, label: &'static str, help: &'static str) -> Self {
        Self { title, label, help }
    }

    const fn directory(label: &'static str) -> Self {
        Self::new(
            "directory buckets (S3 Express One Zone) are not supported",
            label,
            "use a general purpose bucket: objects in directory buckets have no tags, ACLs, versions or archive classes",
        )
    }

    const fn object_lambda(label: &'static str) -> Self {
        Self::new("S3 Object Lambda is not supported", label, "use the bucket, or the alias of a standard access point")
    }

    const fn multi_region(label: &'static str) -> Self {
        Self::new(
            "Multi-Region Access Points are not supported",
            label,
            "use the bucket in one region: batchplan does not support the SigV4A signatures that they need",
        )
    }

    const fn outposts(label: &'static str) -> Self {
        Self::new("S3 on Outposts is not supported", label, "use a bucket in an AWS Region")
    }

    /// What follows the partition of an ARN.
    fn of_resource(resource: &str) -> Self {
        let mut parts = resource.splitn(4, ':');
        match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
            ("s3", "", "") => Self::new(
                "a bucket name is required, not an ARN",
                "the ARN of a bucket",
                "use only the name, which follows `:::`",
            ),
            ("s3", "", _) => Self::multi_region("the ARN of a Multi-Region Access Point"),
            ("s3", ..) => Self::new(
                "the alias of the access point is required, not its ARN",
                "the ARN of an access point",
                "use the alias, which ends in -s3alias; `aws s3control get-access-point` shows it",
            ),
            ("s3express", ..) => Self::directory("the ARN of a directory bucket"),
            ("s3-object-lambda", ..) => Self::object_lambda("the ARN of an Object Lambda Access Point"),
            ("s3-outposts", ..) => Self::outposts("the ARN of a bucket or access point on Outposts"),
            _ => Self::new("a bucket name is required, not an ARN", "an ARN", "use the name of a bucket"),
        }
    }

    /// By the endings that AWS reserves.
    fn by_ending(name: &str) -> Option<Self> {
        // Every row of a manifest comes here.
        if !name.ends_with(['3', 'p']) {
            return None;
        }
        let ends_with = |ending| name.ends_with(ending);
        if ends_with("--x-s3") {
            Some(Self::directory("a directory bucket"))
        } else if ends_with("--xa-s3") {
            Some(Self::directory("an access point of a directory bucket"))
        } else if ends_with("--ol-s3") {
            Some(Self::object_lambda("the alias of an Object Lambda Access Point"))
        } else if ends_with("--op-s3") {
            Some(Self::outposts("the alias of an access point on Outposts"))
        } else if ends_with("--table-s3") {
            Some(Self::new("S3 Tables are not supported", "a table bucket", "use a general purpose bucket"))
        } else if ends_with(".mrap") {
            Some(Self::multi_region("a Multi-Region Access Point"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_things_of_s3_are_recognized() {
        for (name, word) in [
            ("logs--use1-az5--x-s3", "directory buckets"),
            ("ap--use1-az5--xa-s3", "directory buckets"),
            ("arn:aws:s3express:us-east-1:123456789012:bucket/logs--use1-az5--x-s3", "directory buckets"),
            ("my-olap-1a2b--ol-s3", "Object Lambda"),
            ("arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/x", "Object Lambda"),
            ("my-ap-1a2b--op-s3", "Outposts"),
            ("arn:aws-us-gov:s3-outposts:us-gov-west-1:123456789012:outpost/op-1/accesspoint/x", "Outposts"),
            ("mfzwi23gnjvgw.mrap", "Multi-Region"),
            ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "Multi-Region"),
            ("1a2b--table-s3", "S3 Tables"),
            ("arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/reports", "alias"),
            ("arn:aws:s3:us-east-1:123456789012:accesspoint:reports", "alias"),
            ("arn:aws:s3:::my-bucket", "ARN"),
            ("arn:aws:iam::123456789012:role/x", "not an ARN"),
        ] {
            let found = UnsupportedBucket::of_aws(name).expect(name);
            assert!(found.title.contains(word) && !found.help.is_empty(), "{name}: {}", found.title);
        }
        for name in ["my-bucket", "a--x", "logs-s3", "reports-1a2b3c-s3alias", "arn", "arn:aws", ""] {
            assert_eq!(UnsupportedBucket::of_aws(name), None, "{name}");
        }
    }
}
