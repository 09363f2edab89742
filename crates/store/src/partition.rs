//! AWS's partitions: the groups of regions with accounts, domains and ARNs of their own.
//!
//! The table follows `partitions.json` of AWS's SDKs:
//! <https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json>. The host names are those of the
//! endpoint rules of S3. STS follows the same table in AWS's SDK.

/// A partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// The name in ARNs: `arn:aws-cn:s3:::bucket`.
    pub id: &'static str,
    /// What the names of its regions start with. Empty for `aws`, which has all other regions.
    region_prefix: &'static str,
    /// The domain of the hosts of its services.
    domain: &'static str,
    /// The domain of the hosts that also have IPv6 addresses. S3's are in the other domain.
    dual_stack_domain: &'static str,
    /// Whether S3 has FIPS endpoints there.
    has_fips: bool,
}

/// Which of AWS's endpoints of a region to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointVariant {
    /// The endpoint whose cryptography is validated by FIPS 140.
    pub fips: bool,
    /// The endpoint with IPv4 and IPv6 addresses.
    pub dual_stack: bool,
}

/// All partitions, with `aws` first.
pub static PARTITIONS: [Partition; 8] = [
    Partition::new("aws", "", "amazonaws.com", "api.aws"),
    Partition {
        has_fips: false,
        ..Partition::new("aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn")
    },
    Partition::new("aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    Partition::new("aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    Partition::new("aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    Partition::new("aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    Partition::new("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    Partition::new("aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
];

impl Partition {
    const fn new(
        id: &'static str,
        region_prefix: &'static str,
        domain: &'static str,
        dual_stack_domain: &'static str,
    ) -> Self {
        Self { id, region_prefix, domain, dual_stack_domain, has_fips: true }
    }

    /// Returns the partition of a region. A region that no partition is known for is in `aws`, as in AWS's SDKs.
    #[must_use]
    pub fn of_region(region: &str) -> &'static Self {
        let [aws, others @ ..] = &PARTITIONS;
        others.iter().find(|partition| region.starts_with(partition.region_prefix)).unwrap_or(aws)
    }

    /// Returns the partition with this name in ARNs, if there is one.
    #[must_use]
    pub fn with_id(id: &str) -> Option<&'static Self> {
        PARTITIONS.iter().find(|partition| partition.id == id)
    }

    /// Returns whether S3 has FIPS endpoints in this partition.
    #[must_use]
    pub fn has_fips(&self) -> bool {
        self.has_fips
    }

    /// Returns the domains of the hosts of its services.
    pub(crate) fn domains(&self) -> [&'static str; 2] {
        [self.domain, self.dual_stack_domain]
    }
}

/// Returns whether a name has the form of AWS's regions: `eu-central-1`, `us-gov-west-1`. New ones have it, too.
pub(crate) fn is_aws_region(name: &str) -> bool {
    let mut parts: Vec<_> = name.split('-').collect();
    let number = parts.pop().unwrap_or_default();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() >= 2 && parts.iter().all(is_word) && is_number
}

/// Returns the region that a name of another form probably means: the name is in capitals, or that of an Availability
/// Zone, such as `eu-central-1a`.
pub(crate) fn similar_aws_region(name: &str) -> Option<String> {
    let lower = name.trim().to_ascii_lowercase();
    let zone = lower.trim_end_matches(|letter: char| letter.is_ascii_lowercase()).to_owned();
    [lower, zone].into_iter().find(|name| is_aws_region(name))
}

/// Returns the URL of S3's endpoint in a region of AWS.
/// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
#[must_use]
pub fn s3_endpoint(region: &str, variant: EndpointVariant) -> String {
    let fips = if variant.fips { "-fips" } else { "" };
    let dual_stack = if variant.dual_stack { "dualstack." } else { "" };
    format!("https://s3{fips}.{dual_stack}{region}.{}", Partition::of_region(region).domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_regions_of_aws_are_known() {
        for region in ["us-east-1", "ap-southeast-7", "us-gov-west-1", "us-isob-east-1", "xx-nowhere-12"] {
            assert!(is_aws_region(region), "{region}");
        }
        for (name, similar) in [
            ("US-EAST-1", Some("us-east-1")),
            ("eu-central-1a", Some("eu-central-1")),
            ("EU-WEST-2b", Some("eu-west-2")),
            ("us_east_1", None),
            ("useast1", None),
            ("us-east", None),
            ("us-east-", None),
            ("-east-1", None),
            ("", None),
        ] {
            assert_eq!((is_aws_region(name), similar_aws_region(name).as_deref()), (false, similar), "{name}");
        }
    }

    /// One region of each partition, and the domain of its services.
    const REGIONS: [(&str, &str, &str); 8] = [
        ("aws", "eu-west-1", "amazonaws.com"),
        ("aws-cn", "cn-northwest-1", "amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
        ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
        ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
        ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
        ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
        ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
    ];

    #[test]
    fn every_partition_has_hosts_of_its_own() {
        for (partition, (id, region, domain)) in PARTITIONS.iter().zip(REGIONS) {
            assert_eq!((partition.id, Partition::of_region(region).id), (id, id));
            assert_eq!(Partition::with_id(id), Some(partition));
            let host = |fips, dual_stack| s3_endpoint(region, EndpointVariant { fips, dual_stack });
            assert_eq!(host(false, false), format!("https://s3.{region}.{domain}"));
            assert_eq!(host(true, false), format!("https://s3-fips.{region}.{domain}"));
            assert_eq!(host(false, true), format!("https://s3.dualstack.{region}.{domain}"));
            assert_eq!(host(true, true), format!("https://s3-fips.dualstack.{region}.{domain}"));
        }
        assert!(!Partition::of_region("cn-north-1").has_fips() && Partition::of_region("us-gov-east-1").has_fips());
    }

    #[test]
    fn other_regions_are_in_the_partition_aws() {
        for region in ["us-east-1", "us-isolated-1", "xx-new-1", "il-central-1", ""] {
            assert_eq!(Partition::of_region(region).id, "aws", "{region}");
        }
        assert_eq!(Partition::with_id("aws-new"), None);
    }
}
