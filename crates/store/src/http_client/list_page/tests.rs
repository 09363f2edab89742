//! Pages as servers send them, and pages that no server should send.

use proptest::prelude::*;

use super::*;
use crate::object::BucketName;

fn request(from: Option<ListPosition>, all_versions: bool) -> ListRequest {
    ListRequest {
        bucket: BucketName::new("b"),
        prefix: ObjectKey::from("a b/&"),
        all_versions,
        group_by_directory: false,
        from,
    }
}

#[test]
fn the_query_is_in_the_order_of_its_names() {
    let after = |version: Option<&str>| {
        Some(ListPosition::After { key: ObjectKey::from("é"), version: version.map(VersionId::new) })
    };
    let prefix = "max-keys=1000&prefix=a%20b%2F%26";
    assert_eq!(list_query(&request(None, false)), format!("encoding-type=url&list-type=2&{prefix}"));
    assert_eq!(
        list_query(&request(Some(ListPosition::Token("t/+=".to_owned())), false)),
        format!("continuation-token=t%2F%2B%3D&encoding-type=url&list-type=2&{prefix}")
    );
    assert_eq!(
        list_query(&request(after(None), false)),
        format!("encoding-type=url&list-type=2&{prefix}&start-after=%C3%A9")
    );
    assert_eq!(
        list_query(&request(after(Some("v/1")), true)),
        format!("encoding-type=url&key-marker=%C3%A9&{prefix}&version-id-marker=v%2F1&versions")
    );
    let everything = ListRequest { prefix: ObjectKey::from(""), group_by_directory: true, ..request(None, true) };
    assert_eq!(list_query(&everything), "delimiter=%2F&encoding-type=url&max-keys=1000&versions");
}

fn page_of(document: &str, all_versions: bool) -> Result<ListPage, ListPageError> {
    parse_page(
        document.as_bytes(),
        &ListRequest { prefix: ObjectKey::from(""), ..request(None, all_versions) },
        StoreDialect::Oss,
    )
}

const ENTRY: &str = "<Key>a%2Bb+c</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"E\"</ETag>\
                     <Size>7</Size><Owner><ID>1</ID></Owner>";

#[test]
fn current_objects_are_read() {
    let document = format!(
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>t%2F1</NextContinuationToken><Contents>{ENTRY}<StorageClass>ColdArchive</StorageClass>\
         </Contents><CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>"
    );
    let page = page_of(&document, false).expect("a page");
    assert_eq!(page.next, Some(ListPosition::Token("t/1".to_owned())));
    assert_eq!(page.common_prefixes, [ObjectKey::from("d/")]);
    let [entry] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!((&entry.key, entry.size, entry.class.as_str()), (&ObjectKey::from("a+b c"), Some(7), "ColdArchive"));
    assert_eq!((entry.version.clone(), entry.last_modified.map(Timestamp::as_second)), (None, Some(1_767_323_045)));
}

#[test]
fn versions_are_read_and_delete_markers_left_out() {
    let version = |id: &str| format!("<Version>{ENTRY}<VersionId>{id}</VersionId></Version>");
    let document = format!(
        "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
         <NextKeyMarker>k%20</NextKeyMarker><NextVersionIdMarker>v%2F</NextVersionIdMarker>{}\
         <DeleteMarker>{ENTRY}<VersionId>m</VersionId></DeleteMarker>{}</ListVersionsResult>",
        version("v1"),
        version("null")
    );
    let page = page_of(&document, true).expect("a page");
    // Version IDs are never encoded.
    let next = ListPosition::After { key: ObjectKey::from("k "), version: Some(VersionId::new("v%2F")) };
    assert_eq!(page.next, Some(next));
    let ids: Vec<_> = page.entries.iter().filter_map(|entry| entry.version.as_ref()).map(VersionId::as_str).collect();
    assert_eq!(ids, ["v1", "null"]);
    assert_eq!(page.entries[0].class.as_str(), "Standard");
}

/// Returns the last entry of a page, after which the listing continues.
fn received(entries: &str, marker: &str) -> Option<(String, String)> {
    let document = format!("<ListVersionsResult><IsTruncated>true</IsTruncated>{marker}{entries}</ListVersionsResult>");
    match page_of(&document, true).expect("a page").last_position()? {
        ListPosition::After { key, version } => Some((key.to_string(), version.expect("one").as_str().to_owned())),
        ListPosition::Token(token) => panic!("{token}"),
    }
}

#[test]
fn delete_markers_count_as_received() {
    let of = |element: &str, key: &str, id: &str| {
        let facts = "<LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size>";
        format!("<{element}><Key>{key}</Key>{facts}<VersionId>{id}</VersionId></{element}>")
    };
    let (live, deleted) = (|key, id| of("Version", key, id), |key, id| of("DeleteMarker", key, id));
    let marker = |key: &str, id: &str| {
        format!("<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>")
    };
    let beyond = marker("z[minio_cache:v2,return:]", "");
    let some = |key: &str, id: &str| Some((key.to_owned(), id.to_owned()));
    assert_eq!(received(&(live("a", "2") + &deleted("b", "1")), &beyond), some("b", "1"));
    assert_eq!(received(&(deleted("a", "2") + &live("b", "1")), &beyond), some("b", "1"));
    assert_eq!(received(&(deleted("a", "2") + &live("a", "1")), &beyond), some("a", "1"));
    assert_eq!(received(&(live("a", "2") + &deleted("a", "1")), &beyond), some("a", "1"));
    assert_eq!(received(&deleted("a", "2"), &beyond), some("a", "2"));
    assert_eq!(received("", &beyond), None);
    // Objects first, then delete markers: the keys decide, and the marker if both end with the same key.
    let apart = live("a", "3") + &live("c", "1") + &deleted("a", "4") + &deleted("b", "2");
    assert_eq!(received(&apart, &beyond), some("c", "1"));
    let one_key = live("a", "3") + &live("a", "1") + &deleted("a", "4");
    assert_eq!(received(&one_key, &marker("a", "1")), some("a", "1"));
    assert_eq!(received(&one_key, &marker("a", "4")), some("a", "4"));
}

fn refused(document: &str, all_versions: bool) -> String {
    match page_of(document, all_versions) {
        Err(ListPageError::Untrusted(why)) => why,
        other => panic!("{document}: {other:?}"),
    }
}

#[test]
fn a_document_that_is_cut_is_no_page() {
    let cut = page_of("<ListBucketResult><Contents><Key>k</Key>", false);
    assert_eq!(cut.err(), Some(ListPageError::Unreadable(XmlReadError::Malformed)));
}

#[test]
fn a_page_of_another_kind_than_was_asked_for_is_refused() {
    let other = "it is not the listing that was requested";
    let objects =
        format!("<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{ENTRY}</Contents></ListBucketResult>");
    assert_eq!(refused(&objects, true), other);
    for document in ["<Other/>", "<html><body>Welcome</body></html>", "<ListVersionsResult/>", "<ListBucketResults/>"] {
        assert_eq!(refused(document, false), other, "{document}");
    }
}

#[test]
fn a_page_that_does_not_say_how_to_go_on_is_refused() {
    let page = |inside: &str| format!("<ListBucketResult>{inside}</ListBucketResult>");
    let token = "<NextContinuationToken>t</NextContinuationToken>";
    let truncated = |value: &str| page(&format!("<IsTruncated>{value}</IsTruncated>{token}"));
    assert_eq!(page_of(&truncated("\n true\n"), false).unwrap().next, Some(ListPosition::Token("t".to_owned())));
    assert_eq!(refused(&truncated("yes"), false), "it does not say whether it is truncated");
    let nowhere = page("<IsTruncated>true</IsTruncated>");
    assert_eq!(refused(&nowhere, false), "it is truncated but has no continuation marker");
    let versions = "<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>";
    assert_eq!(refused(versions, true), "it is truncated but has no continuation marker");
}

#[test]
fn a_page_that_says_nothing_of_more_is_the_last_unless_it_promises_more() {
    let page = |inside: &str| format!("<ListBucketResult>{inside}</ListBucketResult>");
    for document in [page(""), page("<IsTruncated/>"), page("<IsTruncated>False</IsTruncated>")] {
        assert_eq!(page_of(&document, false).unwrap().next, None, "{document}");
    }
    let token = "<NextContinuationToken>t</NextContinuationToken>";
    let next = Some(ListPosition::Token("t".to_owned()));
    assert_eq!(page_of(&page(token), false).unwrap().next, next);
    assert_eq!(page_of(&page(&format!("<IsTruncated>TRUE</IsTruncated>{token}")), false).unwrap().next, next);
    let versions = "<ListVersionsResult><NextKeyMarker>k</NextKeyMarker></ListVersionsResult>";
    assert!(page_of(versions, true).unwrap().next.is_some());
    let version_1 = "it continues at a marker of version 1 of ListObjects, but version 2 was requested";
    assert_eq!(refused(&page("<NextMarker>k</NextMarker>"), false), version_1);
    let entry = format!("<Contents>{ENTRY}</Contents>");
    let full = "it is full, but does not say whether it is truncated";
    assert_eq!(refused(&page(&entry.repeat(1000)), false), full);
    assert!(page_of(&page(&entry.repeat(999)), false).is_ok());
    assert_eq!(refused(&page(&format!("<MaxKeys>2</MaxKeys>{}", entry.repeat(2))), false), full);
    assert!(page_of(&page(&format!("<MaxKeys>2</MaxKeys>{entry}")), false).is_ok());
    let deleted = format!("<DeleteMarker>{ENTRY}</DeleteMarker>").repeat(1000);
    assert_eq!(refused(&format!("<ListVersionsResult>{deleted}</ListVersionsResult>"), true), full);
}

#[test]
fn an_entry_may_have_no_size_or_date() {
    let entry = |field: &str| {
        let page = format!("<ListBucketResult><Contents><Key>k</Key>{field}</Contents></ListBucketResult>");
        let entry = page_of(&page, false).expect("a page").entries.remove(0);
        (entry.size, entry.last_modified.map(Timestamp::as_second))
    };
    assert_eq!(entry(""), (None, None));
    assert_eq!(entry("<Size>-1</Size><LastModified>yesterday</LastModified>"), (None, None));
    assert_eq!(entry("<Size>1</Size>"), (Some(1), None));
}

#[test]
fn dates_are_read_in_the_forms_that_servers_write() {
    let second = |text: &str| parse_date(text).map(Timestamp::as_second);
    for text in [
        "2026-01-02T03:04:05.000Z",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05.123456",
        "2026-01-02 03:04:05",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 UTC",
        "Fri, 02 Jan 2026 03:04:05 +0000",
    ] {
        assert_eq!(second(text), Some(1_767_323_045), "{text}");
    }
    for text in ["", "0", "now", "2026-13-01T00:00:00", "-9999999999-01-01T00:00:00", "Fri, 99 Jan 2026 03:04:05 GMT"] {
        assert_eq!(second(text), None, "{text}");
    }
}

#[test]
fn more_entries_than_were_asked_for_are_refused_and_not_kept() {
    let page = |keys: usize, prefixes: usize| {
        format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>{}{}</ListBucketResult>",
            format!("<Contents>{ENTRY}</Contents>").repeat(keys),
            "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>".repeat(prefixes)
        )
    };
    assert_eq!(page_of(&page(1000, 0), false).unwrap().entries.len(), 1000);
    assert_eq!(refused(&page(1000, 1), false), "it has 1001 entries; the maximum is 1000");
    let mut read = ListPageParser::default();
    xml::read_lenient(page(5000, 5000).as_bytes(), |path, text| read.read_element(path, text)).unwrap();
    assert_eq!((read.entries.len(), read.prefixes.len(), read.count), (1000, 0, 10_000));
}

#[test]
fn etags_are_read_without_their_quotes_and_kept_up_to_a_length() {
    let of = |element: &str| {
        let entry = ENTRY.replace("<ETag>\"E\"</ETag>", element);
        let page = format!(
            "<ListVersionsResult><IsTruncated>false</IsTruncated><Version>{entry}</Version><Version>{ENTRY}</Version>\
             </ListVersionsResult>"
        );
        let page = page_of(&page, true).expect("a page");
        assert_eq!(page.entries[1].etag.as_deref(), Some("E"));
        page.entries[0].etag.clone()
    };
    assert_eq!(of("<ETag>&quot;9B2-3&quot;</ETag>").as_deref(), Some("9B2-3"));
    assert_eq!(of("<ETag>bare</ETag>").as_deref(), Some("bare"));
    for none in [String::new(), "<ETag/>".to_owned(), format!("<ETag>\"{}\"</ETag>", "e".repeat(MAX_ETAG_BYTES + 1))] {
        assert_eq!(of(&none), None, "{none:.40}");
    }
    assert_eq!(
        of(&format!("<ETag>\"{}\"</ETag>", "e".repeat(MAX_ETAG_BYTES))).map(|etag| etag.len()),
        Some(MAX_ETAG_BYTES)
    );
}

#[test]
fn handles_values_that_s3_omits_or_does_not_encode() {
    let document = format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t%2F+1</NextContinuationToken>\
         <Contents>{ENTRY}</Contents><EncodingType>url</EncodingType></ListBucketResult>"
    );
    let asked = ListRequest { prefix: ObjectKey::from("a+"), ..request(None, false) };
    let page = parse_page(document.as_bytes(), &asked, StoreDialect::S3).expect("a page");
    assert_eq!(page.next, Some(ListPosition::Token("t%2F+1".to_owned())));
    assert_eq!((&page.entries[0].key, page.entries[0].class.as_str()), (&ObjectKey::from("a+b c"), "STANDARD"));
    let plain = document.replace("<EncodingType>url</EncodingType>", "");
    let page = page_of(&plain, false).expect("a page");
    assert_eq!(page.entries[0].key, ObjectKey::from("a%2Bb+c"));
}

#[test]
fn a_marker_that_is_not_encoded_is_taken_as_it_is() {
    let last = ObjectKey::from("k+%7E");
    assert_eq!(marker_key(b"k+%7E", true, Some(&last)), last);
    assert_eq!(marker_key(b"k%2B%257E", true, Some(&last)), last);
    assert_eq!(marker_key(b"k%2B/", true, Some(&last)), ObjectKey::from("k+/"));
    assert_eq!(marker_key(b"k+%7E", false, None), last);
}

#[test]
fn a_key_from_elsewhere_is_refused() {
    let document =
        format!("<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{ENTRY}</Contents></ListBucketResult>");
    let asked = ListRequest { prefix: ObjectKey::from("b"), ..request(None, false) };
    let why = parse_page(document.as_bytes(), &asked, StoreDialect::S3).unwrap_err();
    assert_eq!(why, ListPageError::untrusted("it has a%2Bb+c, which does not start with b"));
    let folder = format!("<CommonPrefixes><Prefix>{}/</Prefix></CommonPrefixes><Contents>", "k".repeat(1024));
    let long = document.replace("<Contents>", &folder);
    assert_eq!(refused(&long, false), "it has a prefix of 1025 bytes; the maximum is 1024");
    let mark = format!("<NextContinuationToken>{}</NextContinuationToken><Contents>", "t".repeat(8193));
    let endless = document.replace("<Contents>", &mark);
    assert_eq!(refused(&endless, false), "its continuation marker is too long");
}

/// Returns the only entry of a page, whose key is written like this.
fn entry_with_key(key: &[u8], encoding: &str) -> ListedObject {
    let before = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{encoding}<Contents><Key>");
    let after =
        "</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents></ListBucketResult>";
    let document = [before.as_bytes(), key, after.as_bytes()].concat();
    let asked = ListRequest { prefix: ObjectKey::from(""), ..request(None, false) };
    let mut page = parse_page(&document, &asked, StoreDialect::S3).expect("a page");
    assert_eq!(page.entries.len(), 1);
    page.entries.remove(0)
}

#[test]
fn keys_that_xml_cannot_carry_are_read_as_exactly_as_the_page_has_them() {
    let url = "<EncodingType>url</EncodingType>";
    let long = vec![b'k'; MAX_LISTED_KEY_BYTES];
    let longer = vec![b'k'; MAX_LISTED_KEY_BYTES + 1];
    let reference = Some(InexactName::UndefinedReference);
    for (written, encoding, key, inexact) in [
        (&b"caf%E9"[..], url, &b"caf\xe9"[..], None),
        (b"%EF%BF%BD", url, "\u{fffd}".as_bytes(), None),
        (b"a%00%0Ab", url, b"a\0\nb", None),
        (b"caf\xe9", url, b"caf\xe9", None),
        (b"caf\xe9", "", b"caf\xe9", None),
        (b"\x01\x7f\r", "", b"\x01\x7f\r", None),
        (b"a&#0;&#x1;&#13;", "", b"a\0\x01\r", None),
        (b"", "", b"", None),
        (b"../a/./b//", "", b"../a/./b//", None),
        (long.as_slice(), "", long.as_slice(), None),
        (longer.as_slice(), "", long.as_slice(), Some(InexactName::TooLong)),
        (b"a&#xD800;", "", b"a&#xD800;", reference),
        (b"caf&eacute;", "", b"caf&eacute;", reference),
        (b"R&D", "", b"R&D", reference),
        ("caf\u{fffd}".as_bytes(), "", "caf\u{fffd}".as_bytes(), Some(InexactName::ReplacedBytes)),
    ] {
        let entry = entry_with_key(written, encoding);
        let found = (entry.key.as_bytes(), entry.inexact);
        assert_eq!(found, (key, inexact), "{}", written[..written.len().min(40)].escape_ascii());
    }
}

#[test]
fn a_version_that_is_not_text_is_marked() {
    let of = |id: &[u8]| {
        let before = format!("<ListVersionsResult><IsTruncated>false</IsTruncated><Version>{ENTRY}<VersionId>");
        let document = [before.as_bytes(), id, b"</VersionId></Version></ListVersionsResult>"].concat();
        let asked = ListRequest { prefix: ObjectKey::from(""), ..request(None, true) };
        let page = parse_page(&document, &asked, StoreDialect::S3).expect("a page");
        (page.entries[0].version.clone().map(|id| id.as_str().to_owned()), page.entries[0].inexact)
    };
    assert_eq!(of(b"v1"), (Some("v1".to_owned()), None));
    assert_eq!(of(b""), (Some("null".to_owned()), None));
    assert_eq!(of(b"v\xff"), (Some("v\u{fffd}".to_owned()), Some(InexactName::Version)));
    assert_eq!(of(b"v&x;"), (Some("v&x;".to_owned()), Some(InexactName::Version)));
}

#[test]
fn no_key_is_read_from_a_page_whose_structure_is_broken() {
    let document =
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a<b</Key></Contents></ListBucketResult>";
    assert_eq!(page_of(document, false).err(), Some(ListPageError::Unreadable(XmlReadError::Malformed)));
}

#[test]
fn a_marker_that_is_not_exact_is_no_position() {
    let page = |entries: &str| {
        let document = format!(
            "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>z&x;</NextKeyMarker>{entries}\
             </ListVersionsResult>"
        );
        page_of(&document, true)
    };
    let inexact = ListPageError::untrusted("its continuation marker is not exact");
    assert_eq!(page("").err(), Some(inexact));
    let deleted = "<DeleteMarker><Key>k&x;</Key><VersionId>1</VersionId></DeleteMarker>";
    assert!(page(deleted).is_err());
    assert!(page(&format!("<Version>{ENTRY}<VersionId>1</VersionId></Version>{deleted}")).is_ok());
}

#[test]
fn a_token_or_a_version_marker_that_is_not_exact_is_no_position() {
    let inexact = ListPageError::untrusted("its continuation marker is not exact");
    let of = |marker: &[u8], entries: &str, all_versions: bool| {
        let root = if all_versions { "ListVersionsResult" } else { "ListBucketResult" };
        let start = format!("<{root}><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>");
        let document = [start.as_bytes(), marker, entries.as_bytes(), format!("</{root}>").as_bytes()].concat();
        let asked = ListRequest { prefix: ObjectKey::from(""), ..request(None, all_versions) };
        parse_page(&document, &asked, StoreDialect::Oss).map(|page| page.next)
    };
    let token = |text: &[u8]| [b"<NextContinuationToken>", text, b"</NextContinuationToken>"].concat();
    let version = |text: &[u8]| {
        [b"<NextKeyMarker>z</NextKeyMarker><NextVersionIdMarker>", text, b"</NextVersionIdMarker>"].concat()
    };
    let entry = format!("<Contents>{ENTRY}</Contents>");
    let versioned = format!("<Version>{ENTRY}<VersionId>1</VersionId></Version>");
    let after = |version: Option<&str>| {
        Ok(Some(ListPosition::After { key: ObjectKey::from("a+b c"), version: version.map(VersionId::new) }))
    };
    for broken in [&b"t&x;"[..], b"t\xff", "t\u{fffd}".as_bytes(), b"t%FF"] {
        assert_eq!(of(&token(broken), "", false).err().as_ref(), Some(&inexact), "{}", broken.escape_ascii());
        assert_eq!(of(&token(broken), &entry, false), after(None), "{}", broken.escape_ascii());
    }
    for broken in [&b"v&x;"[..], b"v\xff", "v\u{fffd}".as_bytes()] {
        assert_eq!(of(&version(broken), "", true).err().as_ref(), Some(&inexact), "{}", broken.escape_ascii());
        assert_eq!(of(&version(broken), &versioned, true), after(Some("1")), "{}", broken.escape_ascii());
    }
    // Control characters are characters.
    assert_eq!(of(&token(b"a\x01&#10;b"), "", false), Ok(Some(ListPosition::Token("a\u{1}\nb".to_owned()))));
}

proptest! {
    /// Whatever the bytes of a key: in URL encoding they are read as they are; raw, they are, or they are marked.
    #[test]
    fn every_key_is_read_exactly_or_marked(key in prop::collection::vec(any::<u8>(), 0..60)) {
        let encoded = ObjectKey::new(key.clone()).encoded();
        let entry = entry_with_key(encoded.as_bytes(), "<EncodingType>url</EncodingType>");
        prop_assert_eq!((entry.key.as_bytes(), entry.inexact), (key.as_slice(), None));
        let raw: Vec<u8> = key.into_iter().filter(|byte| *byte != b'<').collect();
        let entry = entry_with_key(&raw, "");
        if !raw.contains(&b'&') && !raw.windows(3).any(|three| three == REPLACEMENT) {
            prop_assert_eq!((entry.key.as_bytes(), entry.inexact), (raw.as_slice(), None));
        } else if entry.inexact.is_none() {
            // Every `&` started a reference, which is shorter than what it stands for.
            prop_assert!(entry.key.as_bytes().len() <= raw.len());
        }
    }
}
