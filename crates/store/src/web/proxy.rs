//! Proxies: the variables that name them, and the hosts that are connected to directly.
//!
//! The rules are those of curl, with the differences that are usual elsewhere: `HTTP_PROXY` is read unless a web server
//! runs the program (<https://httpoxy.org>), and a proxy without a port has the default port of its scheme.
//! <https://curl.se/docs/manpage.html#ENVIRONMENT>
//!
//! hyper-util has a matcher for these variables, but it drops an invalid URL silently, ignores all variables in CGI
//! scripts, and knows no ports in `NO_PROXY`.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

use super::connect_error::ConnectionSetupError;
use super::url::{HttpUrl, authority_problem, is_loopback, split_authority};

/// The services that give credentials to a machine, a container or a pod. They are only reachable from the machine
/// itself, and another host must not learn what they return.
const METADATA_SERVICES: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Alibaba Cloud ECS.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// The variables that name other such services by their URLs.
const METADATA_VARIABLES: [&str; 2] = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"];

/// The minimum length of a password that is looked for in the texts of servers.
const MIN_SECRET_BYTES: usize = 4;

/// A proxy. `Display` and `Debug` do not show its password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// Whether the connection to the proxy itself uses TLS.
    pub(super) https: bool,
    /// A DNS name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of the `Proxy-Authorization` header.
    pub(super) authorization: Option<HeaderValue>,
}

/// An entry of `NO_PROXY` that names no host and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredBypass {
    /// Its position among the entries: 1 is the first.
    pub position: usize,
    /// The entry. `None` if it may be part of a URL with a password.
    pub text: Option<String>,
}

/// Which proxy is used for which connections.
#[derive(Debug, Default)]
pub(super) struct ProxySettings {
    http: ProxyVariable,
    https: ProxyVariable,
    bypassed: Vec<BypassRule>,
    /// The entries of `NO_PROXY` that name no host.
    ignored_entries: Vec<IgnoredBypass>,
}

/// The value of the variable that applies to a scheme. An invalid value is an error only where it would be used.
type ProxyVariable = Option<Result<Arc<Proxy>, ConnectionSetupError>>;

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
struct BypassRule {
    hosts: BypassedHosts,
    /// The port that the entry is for, or `None` for every port.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum BypassedHosts {
    All,
    /// A domain in lower case, without a leading dot, and all hosts below it.
    Domain(String),
    /// A host in lower case, without those below it.
    Host(String),
    Address(IpAddr),
    /// All addresses that begin with this many bits of the address.
    Network(IpAddr, u8),
}

impl ProxySettings {
    /// Reads the variables. A variable in lower case takes precedence over the same one in upper case, and an empty
    /// one counts as not set.
    pub(super) fn from_variables(variable: &impl Fn(&str) -> Option<OsString>) -> Self {
        let is_set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, is_set(name)?)));
        // A web server passes the header `Proxy` of a request to a CGI script in this variable.
        let http: &[&str] = match is_set("REQUEST_METHOD") {
            Some(_) if cfg!(windows) => &["all_proxy", "ALL_PROXY"],
            Some(_) => &["http_proxy", "all_proxy", "ALL_PROXY"],
            None => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let https = &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        let proxy = |(name, value): (&'static str, OsString)| {
            let parsed =
                value.into_string().map_err(|_| "is not valid UTF-8").and_then(|text| Proxy::parse(name, &text));
            parsed.map(Arc::new).map_err(|why| ConnectionSetupError::InvalidProxy { variable: name, why })
        };
        let bypassed = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value.to_string_lossy().into_owned());
        let entries = bypassed.as_deref().unwrap_or_default().split([',', ' ', '\t', '\r', '\n']);
        let has_user = bypassed.as_deref().is_some_and(|entries| entries.contains('@'));
        let (mut bypassed, mut ignored_entries) = (Vec::new(), Vec::new());
        for (entry, position) in entries.filter(|entry| !entry.is_empty()).zip(1..) {
            if let Some(rule) = BypassRule::parse(entry) {
                bypassed.push(rule);
            } else {
                let text = (!has_user && !entry.contains(':')).then(|| entry.to_owned());
                ignored_entries.push(IgnoredBypass { position, text });
            }
        }
        let metadata = METADATA_VARIABLES.iter().filter_map(|name| variable(name)?.into_string().ok());
        bypassed.extend(metadata.filter_map(|url| BypassRule::for_url(&url)));
        Self { http: first(http).map(proxy), https: first(https).map(proxy), bypassed, ignored_entries }
    }

    /// Connects directly to the host of this URL, such as a metadata service that a profile names.
    pub(super) fn bypass_url(&mut self, url: &str) {
        self.bypassed.extend(BypassRule::for_url(url));
    }

    /// Returns the user names and passwords as they are sent, and the passwords.
    pub(super) fn secrets(&self) -> Vec<String> {
        let proxies = [&self.http, &self.https].into_iter().flatten().flatten();
        let sent = proxies.filter_map(|proxy| proxy.authorization.as_ref()?.to_str().ok()?.strip_prefix("Basic "));
        let mut secrets: Vec<_> = sent.map(str::to_owned).collect();
        let decoded = secrets.iter().filter_map(|sent| String::from_utf8(STANDARD.decode(sent).ok()?).ok());
        let passwords = decoded.filter_map(|pair| Some(pair.split_once(':')?.1.to_owned()));
        // A shorter text would be hidden wherever it occurs by chance.
        let passwords: Vec<_> = passwords.filter(|password| password.len() >= MIN_SECRET_BYTES).collect();
        secrets.extend(passwords);
        secrets
    }

    /// Returns the entries of `NO_PROXY` that name no host, if there is a proxy.
    pub(super) fn ignored_entries(&self) -> &[IgnoredBypass] {
        if self.http.is_some() || self.https.is_some() { &self.ignored_entries } else { &[] }
    }

    /// Returns the proxy for connections to a host, or `None` if they are direct.
    ///
    /// # Errors
    /// Returns an error if the variable that applies is not valid.
    pub(super) fn proxy_for(
        &self,
        https: bool,
        host: &str,
        port: u16,
    ) -> Result<Option<Arc<Proxy>>, ConnectionSetupError> {
        let Some(proxy) = (if https { &self.https } else { &self.http }) else { return Ok(None) };
        if is_always_direct(host) || self.bypassed.iter().any(|rule| rule.matches(host, port)) {
            return Ok(None);
        }
        proxy.clone().map(Some)
    }
}

/// Returns whether a host is this machine, or a service of this machine.
fn is_always_direct(host: &str) -> bool {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical());
    is_loopback(host)
        || ends_with_label(host, "localhost")
        || address.is_ok_and(|address| address.is_loopback() || METADATA_SERVICES.contains(&address))
}

/// Returns whether a host is below a domain.
fn ends_with_label(host: &str, domain: &str) -> bool {
    let Some(start) = host.len().checked_sub(domain.len() + 1) else { return false };
    host.as_bytes()[start] == b'.' && host.as_bytes()[start + 1..].eq_ignore_ascii_case(domain.as_bytes())
}

impl Proxy {
    /// Parses the value of a variable, a URL or a host with a port. The error never contains the value.
    fn parse(variable: &'static str, text: &str) -> Result<Self, &'static str> {
        let text = text.trim_ascii();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err("names a SOCKS proxy, which is not supported: use an http:// or https:// proxy");
            }
            _ => return Err("has a scheme other than http or https"),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err("has a path: use only scheme, host and port");
        }
        let (user_info, authority) = match authority.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, authority),
        };
        let (host, port) = split_authority(authority).ok_or_else(|| authority_problem(authority))?;
        let authorization = user_info.map(basic_authorization).transpose()?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { variable, https, host: host.to_ascii_lowercase(), port, authorization })
    }
}

/// Returns the header for the percent-encoded user name and password of a URL.
fn basic_authorization(user_info: &str) -> Result<HeaderValue, &'static str> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut decoded: Vec<u8> = percent_decode_str(user).collect();
    decoded.push(b':');
    decoded.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded)))
        .map_err(|_| "has a user name or a password that cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "{scheme}://[{address}]:{}", self.port),
            Err(_) => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl BypassRule {
    /// Returns the rule for exactly the host and the port of a URL.
    fn for_url(url: &str) -> Option<Self> {
        let url = HttpUrl::parse(url.trim_ascii()).ok()?;
        let (host, port) = split_authority(url.authority())?;
        let port = port.unwrap_or(if url.is_encrypted() { 443 } else { 80 });
        let hosts = match host.parse::<IpAddr>() {
            Ok(address) => BypassedHosts::Address(address.to_canonical()),
            Err(_) => BypassedHosts::Host(host.to_ascii_lowercase()),
        };
        Some(Self { hosts, port: Some(port) })
    }

    /// Parses an entry. An entry that names no host, such as `<local>`, is no rule.
    fn parse(text: &str) -> Option<Self> {
        let entry = |hosts| Some(Self { hosts, port: None });
        if text == "*" {
            return entry(BypassedHosts::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok().filter(|bits| *bits <= if address.is_ipv4() { 32 } else { 128 })?;
            // A network of IPv4 addresses that are written as IPv6 addresses is one of IPv4.
            let network = match (address, address.to_canonical()) {
                (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if bits >= MAPPED_BITS => (canonical, bits - MAPPED_BITS),
                (address, _) => (address, bits),
            };
            return entry(BypassedHosts::Network(network.0, network.1));
        }
        // An IPv6 address may stand without brackets.
        if let Ok(address) = text.parse::<IpAddr>() {
            return entry(BypassedHosts::Address(address.to_canonical()));
        }
        let text = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        let (host, port) = split_authority(text.strip_suffix('.').unwrap_or(text))?;
        let hosts = match host.parse::<IpAddr>() {
            Ok(address) => BypassedHosts::Address(address.to_canonical()),
            Err(_) => BypassedHosts::Domain(host.to_ascii_lowercase()),
        };
        Some(Self { hosts, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let written = || host.parse::<IpAddr>().ok();
        let address = || written().map(|address| address.to_canonical());
        self.port.is_none_or(|only| only == port)
            && match &self.hosts {
                BypassedHosts::All => true,
                BypassedHosts::Domain(domain) => host.eq_ignore_ascii_case(domain) || ends_with_label(host, domain),
                BypassedHosts::Host(only) => host.eq_ignore_ascii_case(only),
                BypassedHosts::Address(only) => address().as_ref() == Some(only),
                BypassedHosts::Network(network, bits) => {
                    written().into_iter().chain(address()).any(|it| begins_with(it, *network, *bits))
                }
            }
    }
}

/// The number of bits before the IPv4 address in an IPv6 address that stands for it (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Returns whether the first bits of two addresses of one family are the same.
fn begins_with(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> ProxySettings {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        ProxySettings::from_variables(&found)
    }

    /// The proxy for a host, or nothing.
    fn proxy(variables: &[(&str, &str)], https: bool, host: &str) -> Option<String> {
        let port = if https { 443 } else { 80 };
        settings(variables).proxy_for(https, host, port).expect("valid").map(|proxy| proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let all = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://p:2"), ("ALL_PROXY", "http://a:3")];
        assert_eq!(proxy(&all, true, "h").as_deref(), Some("http://s:1"));
        assert_eq!(proxy(&all, false, "h").as_deref(), Some("http://p:2"));
        assert_eq!(proxy(&all[1..], true, "h").as_deref(), Some("http://a:3"));
        assert_eq!(proxy(&all[..1], false, "h"), None);
        assert_eq!(proxy(&[], true, "h"), None);
        let both = [("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:1")];
        assert_eq!(proxy(&both, true, "h").as_deref(), Some("http://lower:1"));
        let empty = [("https_proxy", ""), ("HTTPS_PROXY", ""), ("all_proxy", "http://a:3")];
        assert_eq!(proxy(&empty, true, "h").as_deref(), Some("http://a:3"));
    }

    #[test]
    fn a_request_header_cannot_set_the_proxy_of_a_cgi_script() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:1"), ("HTTPS_PROXY", "http://s:1")];
        assert_eq!(proxy(&cgi, false, "h"), None);
        assert_eq!(proxy(&cgi, true, "h").as_deref(), Some("http://s:1"));
    }

    #[test]
    fn parses_urls_and_hosts() {
        for (text, shown, authorization) in [
            ("http://proxy:3128", "http://proxy:3128", None),
            ("proxy:3128", "http://proxy:3128", None),
            ("HTTPS://Proxy.example/", "https://proxy.example:443", None),
            ("http://[::1]:8080", "http://[::1]:8080", None),
            ("proxy", "http://proxy:80", None),
            ("http://user:p%40ss%3A@proxy:1", "http://proxy:1", Some("user:p@ss:")),
            ("http://user@proxy:1", "http://proxy:1", Some("user:")),
            ("http://u:p@ss@proxy:1", "http://proxy:1", Some("u:p@ss")),
            ("http://%ff:%00@proxy:1", "http://proxy:1", None),
        ] {
            let proxy = Proxy::parse("X", text).expect(text);
            assert_eq!(proxy.to_string(), shown, "{text}");
            let value = proxy.authorization.as_ref().map(|value| value.to_str().expect("ASCII"));
            if let Some(authorization) = authorization {
                assert_eq!(value, Some(format!("Basic {}", STANDARD.encode(authorization)).as_str()), "{text}");
            }
            assert!(!format!("{proxy} {proxy:?} {:?}", proxy.authorization).contains("ss"), "{text}");
        }
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_variable_and_not_the_value() {
        for (text, why) in [
            ("socks5://secret@proxy:1", "SOCKS"),
            ("ftp://secret:1", "scheme other than"),
            ("http://secret@", "has no host"),
            ("http://user:secret@proxy:port", "invalid port"),
            ("http://secret@pro xy:1", "invalid host name"),
            ("http://secret@proxy:1/wpad.dat", "has a path"),
            ("http://secret@proxy:99999", "invalid port"),
        ] {
            let settings = settings(&[("HTTPS_PROXY", text)]);
            let error = settings.proxy_for(true, "h", 443).expect_err(text).to_string();
            assert!(error.starts_with("HTTPS_PROXY ") && error.contains(why) && !error.contains("secret"), "{error}");
            // It is not needed for these.
            assert_eq!(settings.proxy_for(true, "127.0.0.1", 443), Ok(None));
            assert_eq!(settings.proxy_for(false, "h", 80), Ok(None));
        }
    }

    #[test]
    fn this_machine_and_its_metadata_services_are_reached_directly() {
        let all = [("ALL_PROXY", "http://a:3")];
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.3.2.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "fd00:ec2::254",
            "fd00:ec2::23",
        ] {
            assert_eq!(proxy(&all, false, host), None, "{host}");
            assert_eq!(proxy(&all, true, host), None, "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "169.254.169.253", "fd00:ec2::255", "128.0.0.1"] {
            assert!(proxy(&all, false, host).is_some(), "{host}");
        }
    }

    #[test]
    fn a_metadata_service_that_a_variable_names_is_reached_directly() {
        let named = [
            ("ALL_PROXY", "http://a:3"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://Credentials.internal/role?x"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", " http://imds.internal:8000 "),
        ];
        let mut settings = settings(&named);
        let is_direct = |settings: &ProxySettings, host: &str, port| {
            settings.proxy_for(false, host, port).expect("valid").is_none()
        };
        assert!(is_direct(&settings, "credentials.internal", 80) && is_direct(&settings, "imds.internal", 8000));
        // Other hosts and other services there are not.
        for (host, port) in
            [("a.credentials.internal", 80), ("internal", 80), ("imds.internal", 80), ("of.profile", 80)]
        {
            assert!(!is_direct(&settings, host, port), "{host}:{port}");
        }
        settings.bypass_url("http://of.profile");
        settings.bypass_url("nonsense");
        assert!(is_direct(&settings, "of.profile", 80));
    }

    #[test]
    fn the_secrets_of_all_proxies_are_known() {
        let both = [("HTTPS_PROXY", "http://user:p%40ss@s:1"), ("HTTP_PROXY", "http://u:pw@p:2"), ("NO_PROXY", "*")];
        assert_eq!(settings(&both).secrets(), ["dTpwdw==", "dXNlcjpwQHNz", "p@ss"]);
        assert_eq!(settings(&[("HTTPS_PROXY", "http://s:1")]).secrets(), Vec::<String>::new());
    }

    #[test]
    fn entries_of_no_proxy_that_name_no_host_are_found() {
        let no_proxy = "<local>, example.com,10.0.0.0/33,a/b,https://h,*";
        let ignored = |variables: &[(&str, &str)]| {
            let settings = settings(variables);
            settings.ignored_entries().iter().map(|it| (it.position, it.text.clone())).collect::<Vec<_>>()
        };
        let shown = |position, text: &str| (position, Some(text.to_owned()));
        assert_eq!(
            ignored(&[("HTTPS_PROXY", "http://a:3"), ("NO_PROXY", no_proxy)]),
            [shown(1, "<local>"), shown(3, "10.0.0.0/33"), shown(4, "a/b"), (5, None)]
        );
        assert_eq!(ignored(&[("NO_PROXY", no_proxy)]), [], "there is no proxy");
        // A password may contain a comma or a slash.
        for (no_proxy, positions) in [("user:hush@h/", vec![1]), ("a,http://user:hu,sh/x@h", vec![2, 3])] {
            let found = ignored(&[("HTTPS_PROXY", "http://a:3"), ("NO_PROXY", no_proxy)]);
            assert_eq!(found, positions.into_iter().map(|position| (position, None)).collect::<Vec<_>>(), "{no_proxy}");
        }
    }

    #[test]
    fn no_proxy_names_domains_addresses_networks_and_ports() {
        let no_proxy = "example.com, .dotted.example,*.star.example\tmixed.Case. ,h:8080,[2001:db8::1]:9,2001:db8::2,\
                        192.0.2.1,198.51.100.0/25,2001:db8:1::/48,,<local>,10.0.0.0/33,a/b";
        let settings = settings(&[("ALL_PROXY", "http://a:3"), ("no_proxy", no_proxy)]);
        let is_direct = |host: &str, port| settings.proxy_for(true, host, port).expect("valid").is_none();
        for host in [
            "example.com",
            "a.b.EXAMPLE.com",
            "dotted.example",
            "x.dotted.example",
            "x.star.example",
            "mixed.case",
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "2001:db8::2",
            "198.51.100.127",
            "2001:db8:1:ffff::",
        ] {
            assert!(is_direct(host, 443), "{host}");
        }
        for host in [
            "notexample.com",
            "example.com.evil",
            "com",
            "h",
            "2001:db8::1",
            "192.0.2.10",
            "198.51.100.128",
            "2001:db8:2::",
            "local",
            "10.0.0.1",
        ] {
            assert!(!is_direct(host, 443), "{host}");
        }
        assert!(is_direct("h", 8080) && is_direct("2001:db8::1", 9));
        let everything = [("ALL_PROXY", "http://a:3"), ("NO_PROXY", "*")];
        assert_eq!(proxy(&everything, true, "h"), None);
        let networks = [("ALL_PROXY", "http://a:3"), ("NO_PROXY", "0.0.0.0/0,::/0")];
        assert_eq!((proxy(&networks, true, "8.8.8.8"), proxy(&networks, true, "2001:db8::")), (None, None));
        assert!(proxy(&networks, true, "example.com").is_some());
        let mapped = [("ALL_PROXY", "http://a:3"), ("NO_PROXY", "::ffff:10.1.0.0/112,::ffff:0:0/95")];
        for host in ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:8.8.8.8"] {
            assert_eq!(proxy(&mapped, true, host), None, "{host}");
        }
        for host in ["10.2.0.1", "8.8.8.8", "::10.1.2.3"] {
            assert!(proxy(&mapped, true, host).is_some(), "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(https?://)?\\PC{0,40}", host in "[a-z0-9.:-]{0,20}") {
            let settings = settings(&[("ALL_PROXY", &text), ("NO_PROXY", &text)]);
            if let Ok(Some(proxy)) = settings.proxy_for(true, &host, 443) {
                prop_assert!(http::Uri::try_from(proxy.to_string()).is_ok(), "{proxy}");
            }
        }
    }
}
