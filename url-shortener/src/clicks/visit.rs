//! What a request says about its visitor: browser class, referring host, and a number that stands
//! for who it is.
//!
//! Privacy: the address and the user agent are hashed with a secret of the installation, and of
//! the hash only a register of a sketch remains. No address is ever written down.
//!
//! Trade-off: the hash is fast and keyed, not cryptographic, and the same every day, so that
//! the sketches of several days can be merged. A salt that changes daily would hide more and count
//! a visitor of two days twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

/// User agents whose class is remembered. Beyond it the memory starts afresh: looking again costs
/// a few hundred nanoseconds, a table that clients can grow costs everything.
const AGENTS_REMEMBERED: usize = 4_096;
/// Referring hosts that are told apart while the process runs; what comes after counts as
/// "(other)".
pub const HOSTS_MAX: usize = 65_536;
/// The longest host name there is (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// The family of a browser, as coarse as is useful: less tells less about people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// Chrome and what is built on it, unless named below.
    Chrome,
    /// Safari.
    Safari,
    /// Firefox.
    Firefox,
    /// Edge.
    Edge,
    /// Anything else that does not call itself a program.
    Other,
}

impl Browser {
    /// All of them, in the order in which tallies count them.
    pub const ALL: [Self; 5] = [Self::Chrome, Self::Safari, Self::Firefox, Self::Edge, Self::Other];

    /// For people.
    pub fn name(self) -> &'static str {
        ["chrome", "safari", "firefox", "edge", "other"][self as usize]
    }
}

/// Who made a request: a browser, or a program (`None`).
pub fn classify(agent: &str) -> Option<Browser> {
    const PROGRAMS: [&str; 12] = [
        "bot", "crawl", "spider", "slurp", "preview", "curl", "wget", "python", "http", "monitor",
        "headless", "scan",
    ];
    let agent = agent.to_ascii_lowercase();
    // Who sends no user agent at all is a program: every browser sends one.
    if agent.is_empty() || PROGRAMS.iter().any(|program| agent.contains(program)) {
        return None;
    }
    // The order matters: Edge also says Chrome, and Chrome also says Safari.
    let families = [
        ("edg", Browser::Edge),
        ("firefox", Browser::Firefox),
        ("chrome", Browser::Chrome),
        ("crios", Browser::Chrome),
        ("safari", Browser::Safari),
    ];
    let family = families.into_iter().find(|(name, _)| agent.contains(name));
    Some(family.map_or(Browser::Other, |(_, browser)| browser))
}

/// The host in a `Referer`, in lower case; `None` when there is none worth counting.
pub fn referrer_host(referer: &str) -> Option<String> {
    let rest = referer.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let valid = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(plain);
    valid.then(|| host.to_ascii_lowercase())
}

/// A referring host by number; 0 is none, 1 is "(other)".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostId(pub u32);

const NO_HOST: HostId = HostId(0);
const OTHER_HOST: HostId = HostId(1);

/// Turns the words of requests into numbers, fast: every visit passes here.
pub struct Words {
    visitors: SeedableRandomState,
    agents: RwLock<HashMap<u64, Option<Browser>, foldhash::fast::RandomState>>,
    hosts: RwLock<Hosts>,
}

struct Hosts {
    by_referer: HashMap<Box<str>, HostId, foldhash::fast::RandomState>,
    ids: HashMap<Box<str>, HostId, foldhash::fast::RandomState>,
    names: Vec<Box<str>>,
}

impl Words {
    /// Hashes visitors with this secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"visitors").chain_update(secret).finalize();
        let seed = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        // The state wants shared seeds that live for ever; one per service is made at its start.
        let shared: &'static SharedSeed = Box::leak(Box::new(SharedSeed::from_u64(seed)));
        let hosts = Hosts {
            by_referer: HashMap::default(),
            ids: HashMap::default(),
            names: vec!["(none)".into(), "(other)".into()],
        };
        Self {
            visitors: SeedableRandomState::with_seed(seed, shared),
            agents: RwLock::default(),
            hosts: RwLock::new(hosts),
        }
    }

    /// The number that stands for who is at this address with this browser.
    pub fn visitor(&self, address: Option<IpAddr>, agent: &str) -> u64 {
        let mut hasher = self.visitors.build_hasher();
        match address {
            Some(IpAddr::V4(v4)) => hasher.write_u32(v4.to_bits()),
            // A household has a /64; within it addresses change every day.
            Some(IpAddr::V6(v6)) => hasher.write_u64((v6.to_bits() >> 64) as u64),
            None => {}
        }
        hasher.write(agent.as_bytes());
        hasher.finish()
    }

    /// [`classify`], remembered.
    pub fn browser(&self, agent: &str) -> Option<Browser> {
        let hash = self.visitors.hash_one(agent);
        if let Some(known) = self.agents.read().get(&hash) {
            return *known;
        }
        let browser = classify(agent);
        let mut agents = self.agents.write();
        if agents.len() >= AGENTS_REMEMBERED {
            agents.clear();
        }
        agents.insert(hash, browser);
        browser
    }

    /// [`referrer_host`], as a number.
    pub fn host(&self, referer: Option<&str>) -> HostId {
        let Some(referer) = referer else { return NO_HOST };
        if let Some(known) = self.hosts.read().by_referer.get(referer) {
            return *known;
        }
        let Some(host) = referrer_host(referer) else { return NO_HOST };
        let mut hosts = self.hosts.write();
        let id = match hosts.ids.get(&*host) {
            Some(id) => *id,
            None if hosts.names.len() >= HOSTS_MAX => OTHER_HOST,
            None => {
                let id = HostId(hosts.names.len() as u32);
                hosts.names.push(host.as_str().into());
                hosts.ids.insert(host.into(), id);
                id
            }
        };
        if hosts.by_referer.len() >= AGENTS_REMEMBERED {
            hosts.by_referer.clear();
        }
        // Long ones are one of a kind and would only fill the memory.
        if referer.len() <= HOST_BYTES_MAX {
            hosts.by_referer.insert(referer.into(), id);
        }
        id
    }

    /// Calls `read` with the host's name, unless there was none.
    pub fn with_name(&self, host: HostId, read: impl FnOnce(&str)) {
        if host != NO_HOST {
            read(&self.hosts.read().names[host.0 as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_people_and_browsers_from_each_other() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36";
        let edge = format!("{chrome} Edg/141.0");
        for (agent, expected) in [
            (chrome, Some(Browser::Chrome)),
            (&edge, Some(Browser::Edge)),
            (
                "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML) Version/18.0 Safari/605.1.15",
                Some(Browser::Safari),
            ),
            ("Mozilla/5.0 (X11; rv:144.0) Gecko/20100101 Firefox/144.0", Some(Browser::Firefox)),
            ("Lynx/2.9", Some(Browser::Other)),
            ("Mozilla/5.0 (compatible; Googlebot/2.1)", None),
            ("curl/8.5.0", None),
            ("", None),
        ] {
            assert_eq!(classify(agent), expected, "{agent}");
        }
    }

    #[test]
    fn a_referrer_is_a_host_or_nothing() {
        for (referer, host) in [
            ("https://News.Example.com:8443/a?b#c", Some("news.example.com")),
            ("https://user@example.com", Some("example.com")),
            ("about:blank", None),
            ("https:///x", None),
            ("https://<script>/", None),
        ] {
            assert_eq!(referrer_host(referer).as_deref(), host, "{referer}");
        }
        assert_eq!(referrer_host(&format!("https://{}/", "a".repeat(254))), None);
    }

    #[test]
    fn hosts_beyond_the_bound_count_together() {
        let words = Words::new(&[1; 32]);
        for number in 0..HOSTS_MAX + 100 {
            words.host(Some(&format!("https://h{number}.example/")));
        }
        assert_eq!(words.host(Some("https://another.example/")), OTHER_HOST);
        let first = words.host(Some("https://h0.example/"));
        let mut name = String::new();
        words.with_name(first, |host| name.push_str(host));
        assert_eq!(name, "h0.example");
    }

    #[test]
    fn a_visitor_is_the_same_after_a_restart_and_another_elsewhere() {
        let (first, again) = (Words::new(&[1; 32]), Words::new(&[1; 32]));
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let there: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(first.visitor(Some(here), "a"), again.visitor(Some(here), "a"));
        assert_ne!(first.visitor(Some(here), "a"), first.visitor(Some(there), "a"));
        assert_ne!(first.visitor(Some(here), "a"), first.visitor(Some(here), "b"));
        let elsewhere = Words::new(&[2; 32]);
        assert_ne!(first.visitor(Some(here), "a"), elsewhere.visitor(Some(here), "a"));
    }
}
