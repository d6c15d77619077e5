//! Where a link may lead: a URL that was parsed once, by the rules browsers use, and that passed
//! a policy.
//!
//! The danger is not only a bad scheme. A target that our parser and the browser read differently
//! leads somewhere we never checked, and one with a line break writes headers of its own into our
//! response. So a target is refused unless the WHATWG parser takes it, and what is stored and sent
//! is the parser's own serialisation, never what the client wrote.
//!
//! Invariant: every [`TargetUrl`] is printable ASCII, starts with `http://` or `https://`, has no
//! user name, and its host is not one of ours.

use std::fmt;

use url::{Host, Url};

use crate::link::Error;

/// The longest target, in bytes, as serialised. Browsers take more, but each is held in memory.
pub const TARGET_BYTES_MAX: usize = 8_192;

/// What a target must be. The default refuses nothing but what is never allowed.
#[derive(Clone, Debug, Default)]
pub struct UrlPolicy {
    /// Hosts of this shortener, in the parser's own form: links to them would be loops, or hide
    /// a chain of redirects.
    own_hosts: Vec<String>,
}

impl UrlPolicy {
    /// A policy that refuses targets on `own_hosts`, whatever their port and however they are
    /// spelled.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one of them is not a host name.
    pub fn new<'a>(own_hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let normal = |name: &str| match Host::parse(name) {
            Ok(host) => Ok(without_dot(&host.to_string()).to_owned()),
            Err(error) => Err(Error::invalid("own_hosts", format!("holds \"{name}\": {error}"))),
        };
        let own_hosts = own_hosts.into_iter().map(normal).collect::<Result<_, _>>()?;
        Ok(Self { own_hosts })
    }

    /// Whether `target`, a serialised URL, passes today. Asked again on every redirect, because
    /// what is stored may be older than the policy (or may have been written by other hands).
    ///
    /// # Cost
    /// One pass over the bytes; no allocation, no parsing.
    pub fn allows(&self, target: &str) -> bool {
        let harmless = |byte: &u8| (0x21..=0x7e).contains(byte);
        // Without an early end the compiler looks at many bytes at a time; nearly all targets are
        // harmless, so there is nothing to end early for.
        let all_harmless = target.as_bytes().iter().fold(true, |all, byte| all & harmless(byte));
        target.len() <= TARGET_BYTES_MAX
            && all_harmless
            && host_of(target).is_some_and(|host| !self.own_hosts.iter().any(|own| own == host))
    }
}

/// The host of a serialised URL; `None` when the scheme is foreign or there is a user name.
fn host_of(serialised: &str) -> Option<&str> {
    let rest =
        serialised.strip_prefix("https://").or_else(|| serialised.strip_prefix("http://"))?;
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let host = match authority.find(']') {
        Some(end) if authority.starts_with('[') => &authority[..=end],
        _ => authority.split(':').next().unwrap_or_default(),
    };
    let valid = !authority.contains('@') && !without_dot(host).is_empty();
    valid.then(|| without_dot(host))
}

/// `example.com.` is the same host as `example.com`: the dot only stops search suffixes.
fn without_dot(host: &str) -> &str {
    host.trim_end_matches('.')
}

/// A target that passed the policy, as the WHATWG parser writes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl(Box<str>);

impl TargetUrl {
    /// Parses what a client sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field `url` and the rule it breaks.
    pub fn parse(raw: &str, policy: &UrlPolicy) -> Result<Self, Error> {
        let refused = |reason: &str| Err(Error::invalid("url", reason));
        if raw.len() > TARGET_BYTES_MAX {
            return refused(&format!("is longer than {TARGET_BYTES_MAX} bytes"));
        }
        // Trap: the parser drops tabs and line breaks without a word, as browsers do. Here they
        // are never meant, and what is dropped differs from what the client thinks it sent.
        if raw.chars().any(char::is_control) {
            return refused("must not hold control characters");
        }
        let url = match Url::parse(raw.trim()) {
            Ok(url) => url,
            Err(error) => return refused(&format!("is not an absolute URL: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refused(&format!(
                "has the scheme `{}`; http and https are taken",
                url.scheme()
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("must not hold a user name or password");
        }
        let target = String::from(url);
        if target.len() > TARGET_BYTES_MAX {
            return refused(&format!("is longer than {TARGET_BYTES_MAX} bytes when encoded"));
        }
        match policy.allows(&target) {
            true => Ok(Self(target.into_boxed_str())),
            false => refused("leads to this shortener, or to no host"),
        }
    }

    /// What a store holds: it was parsed when it came in, and is asked about again on redirect.
    pub fn stored(target: String) -> Self {
        Self(target.into_boxed_str())
    }

    /// As the `Location` it becomes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> UrlPolicy {
        UrlPolicy::new(["sho.rt", "xn--bcher-kva.example", "127.0.0.1", "[::1]"]).unwrap()
    }

    #[test]
    fn what_must_be_refused_is_refused_with_the_rule() {
        for (url, rule) in [
            ("", "not an absolute URL"),
            ("example.com/x", "not an absolute URL"),
            ("javascript:alert(1)", "scheme `javascript`"),
            ("JaVaScRiPt:alert(1)", "scheme `javascript`"),
            ("data:text/html,x", "scheme `data`"),
            ("file:///etc/passwd", "scheme `file`"),
            ("ftp://example.com/", "scheme `ftp`"),
            ("https://user@example.com/", "user name"),
            ("https://:pw@example.com/", "user name"),
            ("https://example.com/\r\nSet-Cookie: a=b", "control"),
            ("https://exam\tple.com/", "control"),
            ("https://example.com/\0", "control"),
            ("https://", "not an absolute URL"),
            ("https://sho.rt/x", "this shortener"),
            ("https://SHO.RT:8443/x", "this shortener"),
            ("https://sho.rt./x", "this shortener"),
            ("https:\\\\sho.rt\\x", "this shortener"),
            ("https://s%68o.rt/", "this shortener"),
            ("https://sho。rt/", "this shortener"),
            ("https://bücher.example/", "this shortener"),
            ("https://BÜCHER.example./", "this shortener"),
            ("http://2130706433/", "this shortener"),
            ("http://0x7f.1/", "this shortener"),
            ("http://[0:0:0:0:0:0:0:1]:80/", "this shortener"),
        ] {
            let error = TargetUrl::parse(url, &policy()).expect_err(url).to_string();
            assert!(error.starts_with("url ") && error.contains(rule), "{url:?}: {error}");
        }
        let long = format!("https://example.com/{}", "ä".repeat(2_000));
        assert!(long.len() < TARGET_BYTES_MAX, "only its encoding is too long");
        let error = TargetUrl::parse(&long, &policy()).unwrap_err().to_string();
        assert!(error.contains("when encoded"), "{error}");
    }

    #[test]
    fn what_is_stored_is_the_parsers_own_form() {
        for (url, stored) in [
            (" https://Example.COM ", "https://example.com/"),
            ("https://example.com/ä b?q=ü#f g", "https://example.com/%C3%A4%20b?q=%C3%BC#f%20g"),
            ("https://example.com/a/../b", "https://example.com/b"),
            ("http:\\\\example.com\\x", "http://example.com/x"),
            ("https://example.com:443/", "https://example.com/"),
            ("https://not-sho.rt/", "https://not-sho.rt/"),
            ("https://example.com/@x:y", "https://example.com/@x:y"),
        ] {
            assert_eq!(TargetUrl::parse(url, &policy()).unwrap().as_str(), stored, "{url:?}");
        }
    }

    #[test]
    fn a_stored_target_is_judged_again_by_todays_policy() {
        let old = "https://partner.example/x";
        assert!(policy().allows(old));
        assert!(!UrlPolicy::new(["partner.example"]).unwrap().allows(old));
        for forged in
            ["javascript:alert(1)", "https://a@sho.rt/", "https://x/\r\nA: b", "https:///"]
        {
            assert!(!policy().allows(forged), "{forged:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever is thrown at it: what is accepted parses to itself, to the same host, and
        /// holds nothing that could leave its header.
        #[test]
        fn an_accepted_target_is_safe_as_a_location(
            raw in prop_oneof![
                "\\PC{0,40}",
                "(https?|HTTP|javascript|//|https:/)?[:/\\\\]{0,4}[a-zA-Z0-9.@:%\\[\\]\u{e9}\u{3002}\r\n\t -]{0,24}[/?#\\\\]?\\PC{0,24}",
            ]
        ) {
            if let Ok(target) = TargetUrl::parse(&raw, &policy()) {
                let text = target.as_str();
                prop_assert!(text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{text:?}");
                let again = Url::parse(text).expect("its own serialisation parses");
                prop_assert_eq!(again.as_str(), text);
                prop_assert!(matches!(again.scheme(), "http" | "https"));
                prop_assert_eq!(again.host_str().map(without_dot), host_of(text));
                prop_assert!(policy().allows(text));
                let sent = axum::http::HeaderValue::from_str(text);
                prop_assert!(sent.is_ok(), "{text:?}");
            }
        }
    }
}
