//! Tag sets, which objects with equal tags share, and the rules of AWS and OSS for them.

use std::collections::HashSet;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::pool::SharedPool;

/// The most tags of an object, as AWS S3 and OSS have it.
const MAX_TAGS: usize = 10;

/// The maximum length of a tag key, in characters.
const MAX_KEY_CHARS: usize = 128;
/// The maximum length of a tag value, in characters.
const MAX_VALUE_CHARS: usize = 256;

/// Keys and values.
pub(crate) type TagList = Vec<(Box<str>, Box<str>)>;

/// The tags of one object. Objects with equal tags share one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedTags(Option<Arc<TagList>>);

impl SharedTags {
    /// Returns the tags as keys and values, ordered by key.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.as_deref().map_or(&[][..], Vec::as_slice).iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the number of tags.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |tags| tags.len())
    }
}

impl FromIterator<(Box<str>, Box<str>)> for SharedTags {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Box<str>)>>(tags: I) -> Self {
        let mut list: TagList = tags.into_iter().collect();
        list.sort_unstable();
        list.shrink_to_fit();
        Self((!list.is_empty()).then(|| Arc::new(list)))
    }
}

/// Each distinct tag set that is in use, once.
#[derive(Debug, Default)]
pub(crate) struct TagPool(SharedPool<TagList>);

impl TagPool {
    /// Returns the shared copy of these tags.
    pub(crate) fn share(&mut self, tags: SharedTags) -> SharedTags {
        SharedTags(tags.0.map(|list| self.0.share(list)))
    }
}

/// What is wrong with a tag set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagSetError {
    /// There are more than ten tags.
    TooMany,
    /// Two tags have the same key.
    Duplicate,
    /// A key starts with `aws:`.
    Reserved,
    /// A key is empty, too long, or contains a character that is not allowed.
    InvalidKey,
    /// A value is too long, or contains a character that is not allowed.
    InvalidValue,
    /// The text is not a URL query string in UTF-8.
    InvalidEncoding,
}

impl TagSetError {
    /// Returns a message for people.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::TooMany => "Object tags cannot be greater than 10",
            Self::Duplicate => "Cannot provide multiple Tags with the same key",
            Self::Reserved => "System tags cannot be added or updated by a request",
            Self::InvalidKey => "The TagKey you have provided is invalid",
            Self::InvalidValue => "The TagValue you have provided is invalid",
            Self::InvalidEncoding => "The tags are not a URL query string in UTF-8",
        }
    }
}

/// Checks tags against AWS's rules, in the order in which AWS reports violations.
pub(crate) fn check(tags: TagList) -> Result<SharedTags, TagSetError> {
    check_with_reserved(tags, &["aws:"])
}

fn check_with_reserved(tags: TagList, reserved: &[&str]) -> Result<SharedTags, TagSetError> {
    if tags.len() > MAX_TAGS {
        return Err(TagSetError::TooMany);
    }
    let mut seen = HashSet::new();
    for (key, value) in &tags {
        if !seen.insert(key) {
            return Err(TagSetError::Duplicate);
        }
        if reserved.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(TagSetError::Reserved);
        }
        if key.is_empty() || key.chars().count() > MAX_KEY_CHARS || !key.chars().all(is_allowed) {
            return Err(TagSetError::InvalidKey);
        }
        if value.chars().count() > MAX_VALUE_CHARS || !value.chars().all(is_allowed) {
            return Err(TagSetError::InvalidValue);
        }
    }
    Ok(tags.into_iter().collect())
}

/// Checks tags against OSS's rules. They are AWS's rules, but `@` is not allowed, and `aws:` is not reserved.
pub(crate) fn check_for_oss(tags: TagList) -> Result<SharedTags, TagSetError> {
    if tags.iter().any(|(key, _)| key.contains('@')) {
        return Err(TagSetError::InvalidKey);
    }
    if tags.iter().any(|(_, value)| value.contains('@')) {
        return Err(TagSetError::InvalidValue);
    }
    check_with_reserved(tags, &[])
}

/// Returns whether tags can contain this character: letters and digits of any script, separators, and
/// `_ . : / = + - @`.
fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

/// Parses a URL-encoded list such as `a=b&c=d`, in which `+` is a space. The `x-amz-tagging` header and seed files use
/// this format.
pub(crate) fn parse_query(text: &str) -> Result<TagList, TagSetError> {
    let decode = |part: &str| -> Result<Box<str>, TagSetError> {
        let spaced = part.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8().map_err(|_| TagSetError::InvalidEncoding)?;
        Ok(text.into())
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> TagList {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn a_query_string_is_decoded_and_kept_in_key_order() {
        let parsed = check(parse_query("b=2%203&a=x+y&c&é=%C3%A9").unwrap()).unwrap();
        assert_eq!(parsed.iter().collect::<Vec<_>>(), [("a", "x y"), ("b", "2 3"), ("c", ""), ("é", "é")]);
        assert_eq!(parse_query("a=%FF"), Err(TagSetError::InvalidEncoding));
        assert_eq!(parse_query("").unwrap(), []);
    }

    #[test]
    fn the_rules_are_those_of_aws() {
        let many: Vec<_> = (0..11).map(|n| (n.to_string().into_boxed_str(), "".into())).collect();
        assert_eq!(check(many.clone()), Err(TagSetError::TooMany));
        assert_eq!(check(many[..10].to_vec()).unwrap().len(), 10);
        assert_eq!(check(tags(&[("a", "1"), ("a", "2")])), Err(TagSetError::Duplicate));
        assert_eq!(check(tags(&[("aws:x", "1")])), Err(TagSetError::Reserved));
        assert_eq!(check(tags(&[("", "1")])), Err(TagSetError::InvalidKey));
        assert_eq!(check(tags(&[("a{", "1")])), Err(TagSetError::InvalidKey));
        assert_eq!(check(tags(&[("a", "1\n")])), Err(TagSetError::InvalidValue));
        assert!(check(tags(&[(&"é".repeat(128), &"ü".repeat(256))])).is_ok());
        assert_eq!(check(tags(&[(&"k".repeat(129), "")])), Err(TagSetError::InvalidKey));
        assert_eq!(check(tags(&[("k", &"v".repeat(257))])), Err(TagSetError::InvalidValue));
    }

    #[test]
    fn oss_has_no_at_sign_and_reserves_nothing_of_aws() {
        assert_eq!(check_for_oss(tags(&[("a@b", "1")])), Err(TagSetError::InvalidKey));
        assert_eq!(check_for_oss(tags(&[("a", "1@2")])), Err(TagSetError::InvalidValue));
        assert_eq!(check_for_oss(tags(&[("a", "1"), ("a", "2")])), Err(TagSetError::Duplicate));
        assert!(check_for_oss(tags(&[("aws:x", "")])).is_ok());
    }

    #[test]
    fn equal_sets_are_held_once_and_unused_ones_are_let_go() {
        let mut pool = TagPool::default();
        let one = pool.share(check(tags(&[("a", "1")])).unwrap());
        let two = pool.share(check(tags(&[("a", "1")])).unwrap());
        assert!(Arc::ptr_eq(one.0.as_ref().unwrap(), two.0.as_ref().unwrap()));
        for n in 0..5000 {
            pool.share(check(tags(&[("n", &n.to_string())])).unwrap());
        }
        assert!(pool.0.len() < 2000, "{}", pool.0.len());
    }
}
