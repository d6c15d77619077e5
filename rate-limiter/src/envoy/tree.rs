//! The tree of descriptors, as users of Envoy's rate limit service write it, in YAML or TOML.
//!
//! ```yaml
//! domain: shop
//! descriptors:
//!   - key: plan
//!     value: free
//!     descriptors:
//!       - key: user            # any value: each user has a limit of its own
//!         rate_limit: { unit: minute, requests_per_unit: 20 }
//!   - key: path
//!     value: /static/*         # a value that begins like this
//!     rate_limit: { unlimited: true }
//!   - key: path
//!     value: /search
//!     shadow_mode: true        # counted and reported, and never enforced
//!     rate_limit: { name: search, unit: second, requests_per_unit: 5, replaces: [{ name: all }] }
//! ```
//!
//! Source: the README of envoyproxy/ratelimit. At each level an exact value wins over one with a
//! star, the longer star over the shorter, and any of them over a key without a value. Only the last
//! entry's limit counts: a descriptor that ends before or goes on after it matches nothing.

use serde::Deserialize;

use super::wire::{Entry, Unit};
use crate::limiter::Error;

/// Nodes of one tree. More is a generated file that wants to be keys without values.
pub const NODES_MAX: usize = 10_000;
/// Entries in one descriptor; deeper trees are refused too.
pub const DEPTH_MAX: usize = 16;

/// A configuration: one domain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// What requests must name to be limited by this tree.
    pub domain: String,
    /// The first level.
    #[serde(default)]
    pub descriptors: Vec<Node>,
}

/// A key, perhaps with a value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The entry's key.
    pub key: String,
    /// Its value; with a star at the end, how it begins; left out, any, each counted by itself.
    #[serde(default)]
    pub value: Option<String>,
    /// The limit of descriptors that end here.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Whether the limit is only watched.
    #[serde(default)]
    pub shadow_mode: bool,
    /// The next level.
    #[serde(default)]
    pub descriptors: Vec<Node>,
    /// Accepted, because files have it; all our metrics are as detailed as they get.
    #[serde(default, rename = "detailed_metric")]
    _detailed_metric: bool,
}

/// A limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// A name for metrics, headers and `replaces`.
    #[serde(default)]
    pub name: Option<String>,
    /// The window.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// How many.
    #[serde(default)]
    pub requests_per_unit: Option<u32>,
    /// No limit at all.
    #[serde(default)]
    pub unlimited: bool,
    /// Limits that do not count in a request where this one does.
    #[serde(default)]
    pub replaces: Vec<Replaced>,
}

/// A limit by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// Which.
    pub name: String,
}

impl Tree {
    /// Reads a tree; `.toml` files are TOML and all others YAML.
    ///
    /// # Errors
    /// With the line and the field, or as [`check`](Self::check).
    pub fn read(file: &std::path::Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let text = std::fs::read_to_string(file)?;
        let tree: Self = match file.extension().is_some_and(|extension| extension == "toml") {
            true => toml::from_str(&text)?,
            false => serde_norway::from_str(&text)?,
        };
        tree.check()?;
        Ok(tree)
    }

    /// Refuses what cannot be enforced.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, such as `descriptors/0/rate_limit/unit`.
    pub fn check(&self) -> Result<(), Error> {
        if self.domain.is_empty() {
            return Err(Error::invalid("domain", "must not be empty"));
        }
        let mut nodes = 0;
        check_level(&self.descriptors, "descriptors", 1, &mut nodes)
    }

    /// The node at which the entries of a descriptor end, if the tree has one with a limit.
    pub fn find(&self, entries: &[Entry]) -> Option<&Node> {
        let (mut level, mut found) = (&self.descriptors, None);
        for entry in entries {
            let node = best(level, entry)?;
            found = Some(node);
            level = &node.descriptors;
        }
        found.filter(|node| node.rate_limit.is_some())
    }
}

fn best<'a>(level: &'a [Node], entry: &Entry) -> Option<&'a Node> {
    // How well a node fits: not at all, as any value, by a beginning, or exactly.
    let rank = |node: &Node| {
        if node.key != entry.key {
            return None;
        }
        match node.value.as_deref() {
            None | Some("") => Some(0),
            Some(value) if value == entry.value => Some(usize::MAX),
            Some(value) => {
                let begins = value.strip_suffix('*')?;
                entry.value.starts_with(begins).then_some(1 + begins.len())
            }
        }
    };
    level
        .iter()
        .filter_map(|node| Some((rank(node)?, node)))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, node)| node)
}

fn check_level(level: &[Node], at: &str, depth: usize, nodes: &mut usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::invalid(at, format!("is nested deeper than {DEPTH_MAX} levels")));
    }
    for (index, node) in level.iter().enumerate() {
        let at = format!("{at}/{index}");
        *nodes += 1;
        if *nodes > NODES_MAX {
            return Err(Error::invalid(at, format!("is one more than the {NODES_MAX} allowed")));
        }
        if node.key.is_empty() {
            return Err(Error::invalid(format!("{at}/key"), "must not be empty"));
        }
        let same = |other: &&Node| (&other.key, &other.value) == (&node.key, &node.value);
        if level[..index].iter().any(|other| same(&other)) {
            return Err(Error::invalid(at, "is there twice, with the same key and value"));
        }
        if let Some(limit) = &node.rate_limit {
            check_limit(limit, &format!("{at}/rate_limit"))?;
        }
        check_level(&node.descriptors, &format!("{at}/descriptors"), depth + 1, nodes)?;
    }
    Ok(())
}

fn check_limit(limit: &RateLimit, at: &str) -> Result<(), Error> {
    let numbers = limit.unit.is_some() || limit.requests_per_unit.is_some();
    if limit.unlimited {
        let reason = "must be left out of an unlimited limit";
        return if numbers { Err(Error::invalid(format!("{at}/unit"), reason)) } else { Ok(()) };
    }
    if limit.unit.and_then(Unit::as_ms).is_none() {
        return Err(Error::invalid(
            format!("{at}/unit"),
            "must be second, minute, hour, day, week, month or year",
        ));
    }
    if limit.requests_per_unit.is_none() {
        return Err(Error::invalid(format!("{at}/requests_per_unit"), "is missing"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r"
domain: shop
descriptors:
  - key: plan
    value: free
    descriptors:
      - key: user
        rate_limit: { unit: minute, requests_per_unit: 20 }
  - key: path
    value: /a*
    rate_limit: { name: a, unit: second, requests_per_unit: 1 }
  - key: path
    value: /a/b*
    rate_limit: { name: ab, unit: second, requests_per_unit: 2 }
  - key: path
    value: /a/b/c
    rate_limit: { name: abc, unlimited: true }
  - key: path
    rate_limit: { name: any, unit: day, requests_per_unit: 9 }
";

    fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
        let entry =
            |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        pairs.iter().map(entry).collect()
    }

    #[test]
    fn the_most_specific_node_wins_and_only_a_whole_descriptor_matches() {
        let tree: Tree = serde_norway::from_str(SHOP).unwrap();
        tree.check().unwrap();
        let name = |pairs: &[(&str, &str)]| {
            let limit = tree.find(&entries(pairs))?.rate_limit.clone()?;
            Some(limit.name.unwrap_or_default())
        };
        assert_eq!(name(&[("path", "/a/b/c")]).as_deref(), Some("abc"));
        assert_eq!(name(&[("path", "/a/b/d")]).as_deref(), Some("ab"));
        assert_eq!(name(&[("path", "/ax")]).as_deref(), Some("a"));
        assert_eq!(name(&[("path", "/")]).as_deref(), Some("any"));
        assert_eq!(name(&[("plan", "free"), ("user", "1")]).as_deref(), Some(""));
        assert_eq!(name(&[("plan", "free")]), None, "it ends too early");
        assert_eq!(name(&[("plan", "paid"), ("user", "1")]), None);
        assert_eq!(name(&[("path", "/"), ("user", "1")]), None, "it goes on too long");
    }

    #[test]
    fn a_bad_tree_names_the_field() {
        for (text, field) in [
            ("domain: ''", "domain"),
            ("domain: d\ndescriptors: [{key: ''}]", "descriptors/0/key"),
            ("domain: d\ndescriptors: [{key: a}, {key: a}]", "descriptors/1"),
            ("domain: d\ndescriptors: [{key: a, rate_limit: {}}]", "descriptors/0/rate_limit/unit"),
            (
                "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day}}]",
                "descriptors/0/rate_limit/requests_per_unit",
            ),
            (
                "domain: d\ndescriptors: [{key: a, rate_limit: {unlimited: true, unit: day}}]",
                "descriptors/0/rate_limit/unit",
            ),
        ] {
            let tree: Tree = serde_norway::from_str(text).unwrap();
            let error = tree.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field} ")), "{text}: {error}");
        }
        assert!(serde_norway::from_str::<Tree>("domain: d\nlimits: 3").is_err());
        assert!(toml::from_str::<Tree>("domain = 'd'\n[[descriptors]]\nkey = 'a'").is_ok());
    }
}
