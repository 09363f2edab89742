//! The selection of prices for a plan.

use std::fs;

use batchplan_store::ConfiguredEndpoint;

use super::*;
use crate::toml_reader::MAX_DOCUMENT_BYTES;

const AWS: &str = "provider = \"aws\"\nregion = \"us-east-1\"";
const OWN: &str = "dated = 2026-01-01\n[book.mine]\nprovider = \"aws\"\nregions = [\"us-*\"]\ncurrency = \"EUR\"\n";

fn oss(region: &str) -> String {
    format!("provider = \"oss\"\nendpoint = \"https://oss-{region}.aliyuncs.com\"\nregion = \"{region}\"")
}

/// Returns the name of the entry, or the message if there is none.
fn chosen(store: &str, rest: &str, file: Option<&Path>) -> String {
    match select_prices(&plan(store, rest), file) {
        Ok(StorePrices::Known(entry)) => entry.name,
        Ok(StorePrices::Unknown(why)) => format!("{why} / {}", why.help()),
        Err(error) => format!("{error} / {}", error.help()),
    }
}

#[test]
fn selects_prices_by_region() {
    assert_eq!(chosen(AWS, "", None), "aws-us-east-1");
    for region in ["cn-hangzhou", "cn-wulanchabu", "cn-beijing"] {
        assert_eq!(chosen(&oss(region), "", None), "oss-cn");
    }
}

#[test]
fn unknown_regions_have_no_prices() {
    let help = "to use the prices of aws-us-east-1, oss-cn, set `book` in the plan's [prices]; to use your own price \
                book, set `file` in [prices] or pass --prices FILE";
    for region in ["cn-hongkong", "ap-southeast-1", "cn-shanghai-finance-1", "cn-north-2-gov-1"] {
        assert_eq!(chosen(&oss(region), "", None), format!("no prices are known for oss in {region} / {help}"));
    }
    let europe = "provider = \"aws\"\nregion = \"eu-central-1\"";
    assert_eq!(chosen(europe, "", None), format!("no prices are known for aws in eu-central-1 / {help}"));
    assert_eq!(
        chosen("provider = \"aws\"", "", None),
        format!("no prices are known for aws: the plan names no region / set `region` in the plan's [store]; {help}")
    );
    assert_eq!(
        chosen("provider = \"s3\"\nendpoint = \"https://s3.example.org\"", "", None),
        format!("no prices are known for this store: it is neither AWS S3 nor OSS / {help}")
    );
    let sandbox = "provider = \"sandbox\"\ndata = \"state\"";
    assert_eq!(chosen(sandbox, "", None), format!("no prices are known for the sandbox / {help}"));
}

#[test]
fn other_servers_do_not_cost_what_a_service_costs() {
    let help = "to use the prices of aws-us-east-1, oss-cn, set `book` in the plan's [prices]; to use your own price \
                book, set `file` in [prices] or pass --prices FILE";
    let local = format!("{AWS}\nendpoint = \"http://localhost:4566\"");
    let none = format!("no prices are known for http://localhost:4566: it is not an endpoint of AWS S3 / {help}");
    assert_eq!(chosen(&local, "", None), none);
    // Nor does one that the environment names.
    let mut named_elsewhere = plan(AWS, "");
    let url = "http://localhost:4566".to_owned();
    named_elsewhere.store.aws_endpoints.s3 = Some(ConfiguredEndpoint { url, setting: "AWS_ENDPOINT_URL".to_owned() });
    let Ok(StorePrices::Unknown(why)) = select_prices(&named_elsewhere, None) else { panic!("no prices are known") };
    assert_eq!(format!("{why} / {}", why.help()), none);
    assert_eq!(
        chosen("provider = \"oss\"\nendpoint = \"https://oss.example.org\"\nregion = \"cn-hangzhou\"", "", None),
        format!("no prices are known for https://oss.example.org: it is not an endpoint of OSS / {help}")
    );
    // The endpoints of the services themselves, and prices that the plan names.
    let own = format!("{AWS}\nendpoint = \"https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com\"");
    assert_eq!(chosen(&own, "", None), "aws-us-east-1");
    assert_eq!(chosen(&local, "[prices]\nbook = \"aws-us-east-1\"\n", None), "aws-us-east-1");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prices.toml");
    fs::write(&file, OWN).expect("a file");
    assert_eq!(chosen(&local, "", Some(&file)), "mine");
}

#[test]
fn selects_prices_by_name() {
    let named = |name: &str| format!("[prices]\nbook = \"{name}\"\n");
    assert_eq!(chosen("provider = \"aws\"", &named("aws-us-east-1"), None), "aws-us-east-1");
    assert_eq!(chosen(&oss("cn-hongkong"), &named("oss-cn"), None), "oss-cn");
    assert_eq!(
        chosen(AWS, &named("aws-us-east1"), None),
        "no price book entry is named `aws-us-east1` / did you mean `aws-us-east-1`? known entries: aws-us-east-1, \
         oss-cn"
    );
}

#[test]
fn own_price_book_takes_precedence() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prices.toml");
    fs::write(&file, OWN).expect("a file");
    let named = format!("[prices]\nfile = {:?}\n", file.to_string_lossy());
    assert_eq!(chosen(AWS, "", Some(&file)), "mine");
    assert_eq!(chosen(AWS, &named, None), "mine");
    assert_eq!(chosen(&oss("cn-beijing"), &named, None), "oss-cn");
    let Ok(StorePrices::Known(entry)) = select_prices(&plan(AWS, ""), Some(&file)) else { panic!("an entry") };
    assert_eq!(entry.origin, PriceBookOrigin::File(crate::toml_reader::quote_for_message(&file.to_string_lossy())));

    // An entry of the same name replaces the other one as a whole.
    fs::write(&file, OWN.replace("book.mine", "book.aws-us-east-1")).expect("a file");
    let told =
        estimate(&asking(1, None, &[RequestKind::PutTags]), &select_prices(&plan(AWS, ""), Some(&file)).expect("ok"));
    assert_eq!((told.lines[0].amount.clone(), told.managed_service), (Err(UnpricedReason::NotInBook), None));

    // The file of the command takes precedence over the plan's, which then need not exist.
    assert_eq!(chosen(AWS, "[prices]\nfile = \"gone.toml\"\n", Some(&file)), "aws-us-east-1");

    let twice = format!("{OWN}[book.yours]\nprovider = \"aws\"\nregions = [\"us-east-1\"]\ncurrency = \"EUR\"\n");
    fs::write(&file, twice).expect("a file");
    assert_eq!(
        chosen(AWS, "", Some(&file)),
        "several price book entries cover this store: mine, yours / choose one with `book = \"...\"` in the plan's \
         [prices]"
    );
    let chosen_one = format!("{named}book = \"yours\"\n");
    assert_eq!(chosen(AWS, &chosen_one, None), "yours");
}

#[test]
fn rejects_unusable_price_books() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = folder.path().join("gone.toml");
    let error = select_prices(&plan(AWS, ""), Some(&gone)).expect_err("it is not there");
    assert!(matches!(&error, PriceBookError::Unreadable { path, .. } if *path == gone), "{error}");
    for bytes in [&b"dated = 2026-01-01\n\xff"[..], b"\xff\xfed\0", b"", b"x = 1", &vec![b'#'; MAX_DOCUMENT_BYTES + 2]]
    {
        fs::write(&gone, bytes).expect("a file");
        let error = select_prices(&plan(AWS, ""), Some(&gone)).expect_err("it is no price book");
        assert!(matches!(&error, PriceBookError::Invalid(problems) if problems.has_errors()), "{error}");
    }
}
