use super::super::profile_chain::tests::profiles;
use super::*;

const FILE: &str = "[default]\ncredential_process = keys --all\n\
                    [profile static]\naws_access_key_id = A\naws_secret_access_key = B\ncredential_process = keys\n\
                    [profile role]\nrole_arn = arn:r\nsource_profile = default\nexternal_id = 7\n\
                    [profile both]\nrole_arn = arn:b\nsource_profile = role\nrole_session_name = me\n\
                    [profile self]\nrole_arn = arn:s\nsource_profile = self\ncredential_process = own\n\
                    [profile from_static]\nrole_arn = arn:r\nsource_profile = static\n\
                    [profile loop]\nrole_arn = arn:r\nsource_profile = back\n\
                    [profile back]\nrole_arn = arn:r\nsource_profile = loop\n\
                    [profile sso]\nsso_session = x\ncredential_process = keys\n\
                    [profile web]\nrole_arn = arn:w\nweb_identity_token_file = t\ncredential_process = keys\n";

#[tokio::test]
async fn the_profile_in_force_is_found_as_the_sdk_finds_it() {
    let chain_of = async |selected: &str| {
        let profiles = profiles(FILE, selected).await;
        ProfileChain::resolve(&profiles).as_ref().and_then(CredentialProcessChain::new)
    };
    let command = |chain: &Option<CredentialProcessChain>| chain.as_ref().map(|chain| chain.command.clone());
    assert_eq!(command(&chain_of("default").await).as_deref(), Some("keys --all"));
    // The SDK runs the process of the selected profile even if the profile also contains keys.
    assert_eq!(command(&chain_of("static").await).as_deref(), Some("keys"));
    assert_eq!(command(&chain_of("self").await).as_deref(), Some("own"));
    let both = chain_of("both").await.expect("a chain");
    assert_eq!(both.profile, "default");
    let arns: Vec<_> = both.roles.iter().map(|role| role.arn.as_str()).collect();
    assert_eq!((both.command.as_str(), arns), ("keys --all", vec!["arn:r", "arn:b"]));
    assert_eq!(both.roles[0].external_id.as_deref(), Some("7"));
    assert_eq!(both.roles[1].session_name.as_deref(), Some("me"));
    for left_to_the_sdk in ["from_static", "loop", "back", "sso", "web", "absent"] {
        assert_eq!(chain_of(left_to_the_sdk).await, None, "{left_to_the_sdk}");
    }
}

async fn ran(command: &str) -> Result<Credentials, String> {
    CredentialProcessProvider::new(command.to_owned(), "p").run().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn reads_credentials_from_a_process() {
    let given = ran(
        r#"echo '{"version": 1, "AccessKeyId": "K", "secretaccesskey": "S", "SessionToken": "T", "Expiration": "2030-01-02T03:04:05Z"}'"#,
    )
    .await
    .expect("credentials");
    assert_eq!((given.access_key_id(), given.secret_access_key(), given.session_token()), ("K", "S", Some("T")));
    assert!(given.expiry().is_some_and(|until| until > SystemTime::now()));
}

#[tokio::test]
async fn a_process_without_an_end_or_a_bound_is_given_up() {
    // Each command would run until it is killed.
    for command in ["yes hushhush", "yes hushhush >&2; exit 1", "while :; do echo hushhush; done"] {
        let error = ran(command).await.expect_err("too much");
        assert!(error.contains("more than 65536 bytes") && !error.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn rejects_invalid_credentials_without_showing_them() {
    for (command, why) in [
        ("echo hushhush", "not a JSON object"),
        ("echo '[]'", "not a JSON object"),
        (r#"echo '{"Version": 2, "AccessKeyId": "K", "SecretAccessKey": "hushhush"}'"#, "Version"),
        (r#"echo '{"Version": 1, "SecretAccessKey": "hushhush"}'"#, "AccessKeyId"),
        (r#"echo '{"Version": 1, "AccessKeyId": "K"}'"#, "SecretAccessKey"),
        (
            r#"echo '{"Version": 1, "AccessKeyId": "K", "SecretAccessKey": "hushhush", "Expiration": "x"}'"#,
            "Expiration",
        ),
        ("echo hushhush; echo please log in >&2; exit 3", "please log in"),
    ] {
        let error = ran(command).await.expect_err("refused");
        assert!(error.contains(why) && !error.contains("hush"), "{command}: {error}");
    }
}
