use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

use super::*;
use crate::provider::StoreProvider;

fn store(endpoint: Option<&str>, role_arn: Option<&str>) -> StoreConfig {
    StoreConfig { role_arn: role_arn.map(str::to_owned), ..StoreConfig::new(StoreProvider::Aws, endpoint) }
}

async fn read(
    variables: &[(&str, &str)],
    config_file: &str,
    store: &StoreConfig,
) -> Result<AwsEndpointSettings, EndpointSettingError> {
    let (fs, env) = Default::default();
    let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, config_file).build();
    let profiles = aws_config::profile::load(&fs, &env, &files, Some("work".into())).await.expect("profiles");
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| text.into());
    AwsEnvironment { variable: &variable, profiles: &profiles }.endpoints(store)
}

fn endpoint(url: &str, setting: &str) -> ConfiguredEndpoint {
    ConfiguredEndpoint { url: url.to_owned(), setting: setting.to_owned() }
}

const PROFILES: &str = "[profile work]\nendpoint_url = https://profile.example\nservices = local\n\
    [services local]\ns3 =\n  endpoint_url = https://s3.services.example\n";

#[tokio::test]
async fn the_most_specific_setting_names_the_endpoint() {
    let role = store(None, Some("arn:aws:iam::123456789012:role/r"));
    let all = [
        ("AWS_ENDPOINT_URL_S3", "http://LOCALHOST:4566/"),
        ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
        ("AWS_ENDPOINT_URL", "https://all.example"),
    ];
    let found = read(&all, PROFILES, &role).await.expect("valid");
    assert_eq!(found.s3, Some(endpoint("http://localhost:4566", "AWS_ENDPOINT_URL_S3")));
    assert_eq!(found.sts, Some(endpoint("https://sts.example", "AWS_ENDPOINT_URL_STS")));

    let found = read(&all[2..], PROFILES, &role).await.expect("valid");
    assert_eq!(found.s3, Some(endpoint("https://all.example", "AWS_ENDPOINT_URL")));
    assert_eq!(found.sts, found.s3);

    let blank = [("AWS_ENDPOINT_URL", " ")];
    let found = read(&blank, PROFILES, &role).await.expect("valid");
    let section = "endpoint_url of s3 in the AWS profile section [services local]";
    assert_eq!(found.s3, Some(endpoint("https://s3.services.example", section)));
    assert_eq!(found.sts, Some(endpoint("https://profile.example", "endpoint_url of the AWS profile \"work\"")));

    let none = read(&[], "[profile other]\nendpoint_url = https://profile.example\n", &role).await.expect("valid");
    assert_eq!(none, AwsEndpointSettings::default());
}

#[tokio::test]
async fn all_of_them_can_be_ignored() {
    let set = [("AWS_ENDPOINT_URL_S3", "not an endpoint"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True")];
    assert_eq!(read(&set, PROFILES, &store(None, None)).await, Ok(AwsEndpointSettings::default()));
    let profile = format!("{PROFILES}[profile work]\nignore_configured_endpoint_urls = true\n");
    assert_eq!(read(&[], &profile, &store(None, None)).await, Ok(AwsEndpointSettings::default()));
    let off = [("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false")];
    assert!(read(&off, &profile, &store(None, None)).await.expect("valid").s3.is_some(), "the variable comes first");
}

#[tokio::test]
async fn a_setting_that_cannot_be_obeyed_is_refused_by_name() {
    let refused = async |variables: &[(&str, &str)]| {
        let error = read(variables, "", &store(None, Some("role"))).await.expect_err("refused");
        assert!(!error.help().is_empty());
        error.to_string()
    };
    for (text, said) in [
        ("https://me:hush@host", "AWS_ENDPOINT_URL contains a user name or password"),
        ("localhost:4566", "AWS_ENDPOINT_URL has no scheme"),
        ("https://host/hush", "AWS_ENDPOINT_URL has a path"),
        ("https://ho\u{1b}st", "AWS_ENDPOINT_URL has an invalid host name"),
        ("http://minio:9000", "AWS_ENDPOINT_URL uses unencrypted http to another machine"),
    ] {
        assert_eq!(refused(&[("AWS_ENDPOINT_URL", text)]).await, said);
    }
    for name in ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] {
        assert_eq!(refused(&[(name, "yes")]).await, format!("{name} must be true or false"));
    }
    let both = [("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_ENDPOINT_URL_STS", "https://sts.example")];
    assert!(refused(&both).await.starts_with("AWS_USE_FIPS_ENDPOINT cannot be combined with AWS_ENDPOINT_URL_STS"));
    let allowed = StoreConfig { allow_http: true, ..store(None, None) };
    let found = read(&[("AWS_ENDPOINT_URL", "http://minio:9000")], "", &allowed).await.expect("allowed");
    assert_eq!(found.s3, Some(endpoint("http://minio:9000", "AWS_ENDPOINT_URL")));
}

#[tokio::test]
async fn a_services_section_that_is_missing_is_refused() {
    let nope = "[profile work]\nservices = nope\n[services other]\ns3 =\n  endpoint_url = https://s3.example\n";
    let error = read(&[], nope, &store(None, None)).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the AWS profile \"work\" has `services = nope`, but there is no section [services nope] with settings"
    );
    // A section for other services, and what comes before it.
    let other = "[profile work]\nservices = other\n[services other]\ndynamodb =\n  endpoint_url = https://d.example\n";
    assert_eq!(read(&[], other, &store(None, None)).await, Ok(AwsEndpointSettings::default()));
    assert!(read(&[("AWS_ENDPOINT_URL", "https://all.example")], nope, &store(None, None)).await.is_ok());
    assert!(read(&[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], nope, &store(None, None)).await.is_ok());
    assert!(read(&[], nope, &store(Some("https://s3.example.org"), None)).await.is_ok(), "it has no effect");
}

#[tokio::test]
async fn a_plan_that_names_its_endpoint_needs_no_valid_one_beside_it() {
    let own = store(Some("https://s3.example.org"), None);
    let found = read(&[("AWS_ENDPOINT_URL", "nonsense")], "", &own).await.expect("it has no effect");
    assert_eq!(found, AwsEndpointSettings::default());
    let found = read(&[("AWS_ENDPOINT_URL", "http://minio:9000")], "", &own).await.expect("it has no effect");
    assert_eq!(found.s3, Some(endpoint("http://minio:9000", "AWS_ENDPOINT_URL")), "it is known, to be told");
    let fips = [("AWS_ENDPOINT_URL", "https://other.example"), ("AWS_USE_FIPS_ENDPOINT", "TRUE")];
    let found = read(&fips, "[profile work]\nuse_dualstack_endpoint = true\n", &own).await.expect("no effect");
    assert_eq!(found.fips.as_deref(), Some("AWS_USE_FIPS_ENDPOINT"));
    assert_eq!(found.dual_stack.as_deref(), Some("use_dualstack_endpoint of the AWS profile \"work\""));
}

#[tokio::test]
async fn the_region_is_that_of_a_variable_or_of_a_profile() {
    let (fs, env) = Default::default();
    let profiles = "[profile work]\nsource_profile = base\n[profile base]\nregion = eu-west-1\n\
                    [profile loop]\nsource_profile = loop\n";
    let region = async |variables: &[(&str, &str)], profile: &str| {
        let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, profiles).build();
        let profiles = aws_config::profile::load(&fs, &env, &files, Some(profile.to_owned().into())).await;
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| text.into());
        let profiles = profiles.expect("profiles");
        AwsEnvironment { variable: &variable, profiles: &profiles }.region().map(|found| (found.name, found.setting))
    };
    let named = |name: &str, setting: &str| Some((name.to_owned(), setting.to_owned()));
    let both = [("AWS_REGION", "us-east-1"), ("AWS_DEFAULT_REGION", "cn-north-1")];
    assert_eq!(region(&both, "work").await, named("us-east-1", "AWS_REGION"));
    assert_eq!(region(&both[1..], "work").await, named("cn-north-1", "AWS_DEFAULT_REGION"));
    assert_eq!(region(&[("AWS_REGION", " ")], "work").await, named("eu-west-1", "region of the AWS profile \"base\""));
    assert_eq!(region(&[], "loop").await, None);
    assert_eq!(region(&[], "other").await, None);
}
