//! Verification of OSS V4 signatures, in a header or in the query.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>

use hmac::{Hmac, KeyInit, Mac};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::request::{OssRequest, url_encode};
use super::response::OssError;
use crate::access::{OwnerDirectory, OwnerId};
use crate::model::hex;

/// The signature algorithm, at the start of the `Authorization` header.
pub(super) const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// The maximum difference between the clocks of client and server.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(15);
/// The maximum lifetime of a signature in a query, in seconds.
const MAX_EXPIRES: i64 = 7 * 24 * 60 * 60;
/// The length of the date at the start of a timestamp such as `20260304T000000Z`.
const DATE_CHARS: usize = 8;
/// The last part of every scope.
const TERMINATOR: &str = "aliyun_v4_request";
/// The query parameter that contains the signature.
const SIGNATURE: &str = "x-oss-signature";

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestSigner {
    /// The request has no signature.
    Anonymous,
    /// The owner of the access key, for this region.
    Owner { id: OwnerId, region: String },
}

/// A parsed signature.
struct ParsedSignature<'r> {
    access_key: &'r str,
    date: &'r str,
    region: &'r str,
    timestamp: &'r str,
    /// The names of signed headers in addition to those that are always signed: in lower case and sorted.
    additional: Vec<&'r str>,
    signature: &'r str,
    payload: &'r str,
    /// How long the signature is valid after its timestamp. `None` for a signature in a header, whose timestamp must be
    /// close to the current time.
    expires: Option<SignedDuration>,
}

/// Checks the signature of a request at this time and with the keys of these owners.
pub(super) fn verify(request: &OssRequest, owners: &OwnerDirectory, now: Timestamp) -> Result<RequestSigner, OssError> {
    let Some(parsed) = parse_signature(request)? else { return Ok(RequestSigner::Anonymous) };
    let Some((id, key)) = owners.with_key(parsed.access_key) else {
        return Err(OssError::forbidden(
            "InvalidAccessKeyId",
            "0002-00000902",
            "The OSS Access Key Id you provided does not exist in our records.",
        ));
    };
    let signed_at = parse_timestamp(parsed.timestamp)
        .filter(|_| parsed.timestamp.get(..DATE_CHARS) == Some(parsed.date))
        .ok_or_else(|| OssError::access_denied("OSS authentication requires a valid Date."))?;
    match parsed.expires {
        None if now.duration_since(signed_at).abs() > MAX_SKEW => {
            return Err(OssError::forbidden(
                "RequestTimeTooSkewed",
                "0002-00000504",
                "The difference between the request time and the current time is too large.",
            ));
        }
        Some(expires) if now.duration_since(signed_at) > expires => {
            return Err(OssError::forbidden("AccessDenied", "0002-00000069", "Request has expired."));
        }
        _ => {}
    }
    if signature_matches(request, &parsed, &key.secret_key) {
        Ok(RequestSigner::Owner { id, region: parsed.region.to_owned() })
    } else {
        Err(OssError::forbidden(
            "SignatureDoesNotMatch",
            "0002-00000040",
            "The request signature we calculated does not match the signature you provided. Check your key and signing \
             method.",
        ))
    }
}

fn parse_signature(request: &OssRequest) -> Result<Option<ParsedSignature<'_>>, OssError> {
    let malformed =
        || OssError::bad_request("InvalidArgument", "0002-00000205", "The signature is not a version 4 signature.");
    let payload = request.header("x-oss-content-sha256").unwrap_or("UNSIGNED-PAYLOAD");
    if let Some(header) = request.headers.get("authorization") {
        let header = header.to_str().ok().and_then(|header| header.strip_prefix(ALGORITHM)).ok_or_else(malformed)?;
        let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
        let field = |name: &str| fields().find(|(known, _)| *known == name).map(|(_, value)| value);
        let credential = field("Credential").ok_or_else(malformed)?;
        let (access_key, date, region) = parse_scope(credential).ok_or_else(malformed)?;
        let timestamp = request.header("x-oss-date").unwrap_or_default();
        let additional = field("AdditionalHeaders").unwrap_or_default();
        let signature = field("Signature").ok_or_else(malformed)?;
        let additional = parse_header_names(additional);
        return Ok(Some(ParsedSignature {
            access_key,
            date,
            region,
            timestamp,
            additional,
            signature,
            payload,
            expires: None,
        }));
    }
    if request.param("x-oss-signature-version").is_none() {
        return Ok(None);
    }
    let field = |name| request.param(name).ok_or_else(malformed);
    if field("x-oss-signature-version")? != ALGORITHM {
        return Err(malformed());
    }
    let (access_key, date, region) = parse_scope(field("x-oss-credential")?).ok_or_else(malformed)?;
    let expires = field("x-oss-expires")?.parse().ok().filter(|seconds| (1..=MAX_EXPIRES).contains(seconds));
    Ok(Some(ParsedSignature {
        access_key,
        date,
        region,
        timestamp: field("x-oss-date")?,
        additional: parse_header_names(request.param("x-oss-additional-headers").unwrap_or_default()),
        signature: field(SIGNATURE)?,
        payload,
        expires: Some(SignedDuration::from_secs(expires.ok_or_else(malformed)?)),
    }))
}

/// Splits `AK/20260304/cn-hangzhou/oss/aliyun_v4_request` into access key, date, and region.
fn parse_scope(credential: &str) -> Option<(&str, &str, &str)> {
    let (credential, terminator) = credential.rsplit_once('/')?;
    let (credential, product) = credential.rsplit_once('/')?;
    let (credential, region) = credential.rsplit_once('/')?;
    let (access_key, date) = credential.rsplit_once('/')?;
    (terminator == TERMINATOR && product == "oss").then_some((access_key, date, region))
}

fn parse_header_names(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list.split(';').map(str::trim).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names
}

fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

fn signature_matches(request: &OssRequest, parsed: &ParsedSignature<'_>, secret: &str) -> bool {
    let scope = format!("{}/{}/oss/{TERMINATOR}", parsed.date, parsed.region);
    let digest = hex(&Sha256::digest(canonical_request(request, parsed)));
    let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{digest}", parsed.timestamp);
    let mut key = hmac_sha256(format!("aliyun_v4{secret}").as_bytes(), parsed.date.as_bytes());
    for part in [parsed.region, "oss", TERMINATOR] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    let Some(signature) = decode_hex(parsed.signature) else { return false };
    // The comparison takes the same time for every wrong signature.
    mac(&key, to_sign.as_bytes()).verify_slice(&signature).is_ok()
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    // HMAC accepts keys of any length. If it ever failed, the signature would not match.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&[0; 64].into()));
    mac.update(message);
    mac
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    mac(key, message).finalize().into_bytes().into()
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.map(|pair| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?)).collect()
}

/// Returns the canonical request, whose digest is signed.
fn canonical_request(request: &OssRequest, parsed: &ParsedSignature<'_>) -> String {
    let mut pairs: Vec<(String, String)> = request
        .query
        .iter()
        .filter(|(name, _)| name != SIGNATURE)
        .map(|(name, value)| (url_encode(name), url_encode(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();
    let is_signed = |name: &str| {
        name.starts_with("x-oss-")
            || matches!(name, "content-type" | "content-md5")
            || parsed.additional.contains(&name)
    };
    let mut names: Vec<&str> =
        request.headers.keys().map(http::HeaderName::as_str).filter(|name| is_signed(name)).collect();
    names.sort_unstable();
    let mut headers = String::new();
    for name in names {
        let values: Vec<_> = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            .collect();
        headers.extend([name, ":", &values.join(","), "\n"]);
    }
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method,
        request.canonical_path(),
        pairs.join("&"),
        parsed.additional.join(";"),
        parsed.payload
    )
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::request::tests::request;
    use super::*;
    use crate::SandboxKey;

    const QUERY: &str = "%2Bparam1=value3&%2Bparam2=&%7Cparam1=value4&%7Cparam2=&param1=value1&param2=";

    /// Returns the request of the test vectors that Alibaba Cloud publishes with its SDK for Go.
    fn published(seconds: i64, headers: &[(&str, &str)], additional: &str, signature: &str) -> (OssRequest, Timestamp) {
        let now = Timestamp::from_second(seconds).unwrap();
        let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let authorization = format!(
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request{additional},Signature={signature}"
        );
        let mut all = vec![
            ("x-oss-date", date.as_str()),
            ("authorization", &authorization),
            ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("zabc", "value"),
            ("xyz", "value"),
            ("content-type", "text/plain"),
        ];
        all.extend_from_slice(headers);
        (request(Method::PUT, &format!("/bucket/1234%2B-/123/1.txt?{QUERY}"), &all), now)
    }

    fn verified(request: &OssRequest, now: Timestamp) -> Result<RequestSigner, &'static str> {
        verify(request, &owner("ak", "sk"), now).map_err(|error| error.code)
    }

    fn owner(access_key: &str, secret_key: &str) -> OwnerDirectory {
        OwnerDirectory::new(&[SandboxKey { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }])
    }

    const PLAIN: &str = "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe";

    #[test]
    fn the_published_vectors_are_verified() {
        let token = [("x-oss-security-token", "token")];
        let none: &[(&str, &str)] = &[];
        let vectors = [
            (1_702_743_657, none, "", PLAIN),
            (
                1_702_747_512,
                none,
                ",AdditionalHeaders=abc;zabc",
                "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
            ),
            (1_702_784_856, &token, "", "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
        ];
        for (seconds, headers, additional, signature) in vectors {
            let date = Timestamp::from_second(seconds).unwrap().strftime("%Y%m%d").to_string();
            let (mut request, now) = published(seconds, headers, additional, signature);
            let authorization = request.header("authorization").unwrap().replace("20231216", &date);
            request.headers.insert("authorization", authorization.parse().unwrap());
            assert_eq!(
                verified(&request, now),
                Ok(RequestSigner::Owner { id: OwnerId::FIRST, region: "cn-hangzhou".to_owned() }),
                "{signature}"
            );
        }
    }

    #[test]
    fn rejects_any_other_signature() {
        let (request, now) = published(1_702_743_657, &[], "", PLAIN);
        assert_eq!(verify(&request, &owner("ak", "other"), now).unwrap_err().code, "SignatureDoesNotMatch");
        assert_eq!(verify(&request, &owner("other", "sk"), now).unwrap_err().code, "InvalidAccessKeyId");
        for minutes in [-16, 16] {
            let off = now + SignedDuration::from_mins(minutes);
            assert_eq!(verified(&request, off), Err("RequestTimeTooSkewed"));
        }
        assert!(verified(&request, now + SignedDuration::from_mins(15)).is_ok());
        for (name, value) in [("content-type", "text/html"), ("x-oss-head1", "other"), ("x-oss-new", "1")] {
            let (mut changed, now) = published(1_702_743_657, &[], "", PLAIN);
            changed.headers.insert(name, value.parse().unwrap());
            assert_eq!(verified(&changed, now), Err("SignatureDoesNotMatch"), "{name}");
        }
        let (mut changed, now) = published(1_702_743_657, &[], "", PLAIN);
        changed.headers.insert("xyz", "not signed".parse().unwrap());
        assert!(verified(&changed, now).is_ok());
        for wrong in ["", "zz", "e2", &PLAIN.replace('e', "f")] {
            let (request, now) = published(1_702_743_657, &[], "", wrong);
            assert_eq!(verified(&request, now), Err("SignatureDoesNotMatch"), "{wrong}");
        }
    }

    #[test]
    fn rejects_malformed_signatures() {
        let signed = |authorization: &str| {
            let headers = [("authorization", authorization), ("x-oss-date", "20231216T162057Z")];
            verified(&request(Method::GET, "/b/k", &headers), Timestamp::UNIX_EPOCH)
        };
        assert_eq!(verified(&request(Method::GET, "/b/k", &[]), Timestamp::UNIX_EPOCH), Ok(RequestSigner::Anonymous));
        for authorization in [
            "OSS ak:signature",
            "OSS4-HMAC-SHA256 ",
            "OSS4-HMAC-SHA256 Credential=ak,Signature=00",
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/s3/aliyun_v4_request,Signature=00",
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request",
        ] {
            assert_eq!(signed(authorization), Err("InvalidArgument"), "{authorization}");
        }
        let other_day = "OSS4-HMAC-SHA256 Credential=ak/20231217/cn-hangzhou/oss/aliyun_v4_request,Signature=00";
        assert_eq!(signed(other_day), Err("AccessDenied"));
    }
}
