//! The policies a service enforces, by name: read on every request, changed rarely, and never
//! half-changed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::clock::Monotonic;
use crate::limiter::{Error, Limiter, Store};
use crate::policy::{Policy, PolicySpec};
use crate::resilience::Resilient;

/// Policies one service may hold. More means that somebody creates them per caller; that is what
/// keys are for.
pub const POLICIES_MAX: usize = 1_000;

type Limiters<S> = HashMap<String, Arc<Resilient<<S as Store>::Limiter>>>;

/// Named limiters over one store.
pub struct Registry<S: Store> {
    store: S,
    servers: u32,
    clock: Arc<Monotonic>,
    limiters: ArcSwap<Limiters<S>>,
    changing: Mutex<()>,
}

/// The policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    policies: HashMap<String, PolicySpec>,
}

impl<S: Store> Registry<S> {
    /// An empty registry; `servers` is how many servers share each limit.
    pub fn new(store: S, servers: u32) -> Self {
        let clock = Arc::new(Monotonic::default());
        let (limiters, changing) = (ArcSwap::default(), Mutex::default());
        Self { store, servers, clock, limiters, changing }
    }

    /// The store behind every limiter.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The limiter of a policy.
    pub fn get(&self, name: &str) -> Option<Arc<Resilient<S::Limiter>>> {
        self.limiters.load().get(name).cloned()
    }

    /// All policies, by name.
    pub fn policies(&self) -> Vec<Policy> {
        let limiters = self.limiters.load();
        let mut policies: Vec<_> =
            limiters.values().map(|limiter| limiter.policy().clone()).collect();
        policies.sort_by(|a, b| a.name().cmp(b.name()));
        policies
    }

    /// Adds or replaces a policy; true if it was not there before. A policy that is replaced by
    /// an equal one keeps its counts.
    ///
    /// # Errors
    /// [`Error::Invalid`] at [`POLICIES_MAX`], or when the store cannot enforce the policy.
    pub fn put(&self, policy: Policy) -> Result<bool, Error> {
        self.store.accepts(&policy)?;
        let _one_change_at_a_time = self.changing.lock();
        let mut limiters = Limiters::<S>::clone(&self.limiters.load());
        if let Some(same) = limiters.get(policy.name())
            && *same.policy() == policy
        {
            return Ok(false);
        }
        if !limiters.contains_key(policy.name()) && limiters.len() >= POLICIES_MAX {
            let reason =
                format!("would be one policy more than the {POLICIES_MAX} this service holds");
            return Err(Error::invalid("name", reason));
        }
        let new = limiters.insert(policy.name().to_owned(), self.limiter(policy)).is_none();
        self.limiters.store(Arc::new(limiters));
        Ok(new)
    }

    /// Removes a policy; false if there was none.
    pub fn remove(&self, name: &str) -> bool {
        let _one_change_at_a_time = self.changing.lock();
        let mut limiters = Limiters::<S>::clone(&self.limiters.load());
        let removed = limiters.remove(name).is_some();
        self.limiters.store(Arc::new(limiters));
        removed
    }

    /// Makes the policies of `file` the ones that are enforced: all of them or, when any is bad,
    /// none, and what was enforced before stays. Equal policies keep their counts.
    ///
    /// # Errors
    /// What is wrong with the file, by line or by field.
    pub fn load_file(&self, file: &Path) -> Result<usize, FileError> {
        let text = std::fs::read_to_string(file)?;
        let parsed: PolicyFile =
            toml::from_str(&text).map_err(|error| FileError::Toml(error.into()))?;
        if parsed.policies.len() > POLICIES_MAX {
            return Err(FileError::TooMany(parsed.policies.len()));
        }
        let checked = parsed.policies.iter().map(|(name, spec)| {
            Policy::new(name, spec)
                .and_then(|policy| self.store.accepts(&policy).map(|()| policy))
                .map_err(|source| FileError::Policy { name: name.clone(), source })
        });
        let policies = checked.collect::<Result<Vec<_>, _>>()?;
        let _one_change_at_a_time = self.changing.lock();
        let old = self.limiters.load();
        let new: Limiters<S> = policies
            .into_iter()
            .map(|policy| {
                let same = old.get(policy.name()).filter(|old| *old.policy() == policy).cloned();
                (policy.name().to_owned(), same.unwrap_or_else(|| self.limiter(policy)))
            })
            .collect();
        let loaded = new.len();
        self.limiters.store(Arc::new(new));
        Ok(loaded)
    }

    fn limiter(&self, policy: Policy) -> Arc<Resilient<S::Limiter>> {
        let limiter = self.store.limiter(policy);
        Arc::new(Resilient::new(limiter, self.servers, Arc::clone(&self.clock)))
    }
}

/// Fronts with limits of their own make their limiters over the same store.
impl<S: Store> Store for Arc<Registry<S>> {
    type Limiter = S::Limiter;

    fn limiter(&self, policy: Policy) -> S::Limiter {
        self.store.limiter(policy)
    }

    fn accepts(&self, policy: &Policy) -> Result<(), Error> {
        self.store.accepts(policy)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.store.ping().await
    }
}

/// Why a policy file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// It is not TOML of the right shape; the message names line and field.
    #[error("is not a policy file")]
    Toml(#[source] Box<toml::de::Error>),
    /// A policy is bad.
    #[error("policies.{name}")]
    Policy {
        /// Which one.
        name: String,
        /// What is wrong with it.
        source: Error,
    },
    /// Too many policies.
    #[error("holds {0} policies; at most {POLICIES_MAX} are")]
    TooMany(usize),
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::limiter::Key;
    use crate::store::memory::Memory;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    const GOOD: &str = r#"
        [policies.api]
        limits = [{ algorithm = "token-bucket", rate = 2, per_ms = 60000 }]
        on_store_failure = "local"
    "#;

    #[tokio::test]
    async fn a_bad_file_is_refused_and_the_old_policies_stay() {
        let registry = Registry::new(Memory::default(), 1);
        registry.load_file(file(GOOD).path()).unwrap();
        let key = Key::new("caller").unwrap();
        registry.get("api").unwrap().check(key, 2).await.unwrap();
        for bad in [
            "policies = 3",
            &GOOD.replace("rate = 2", "rate = 0"),
            &GOOD.replace("rate = 2", "rate = -1"),
            &GOOD.replace("rate", "ratte"),
            &GOOD.replace("token-bucket", "tokens"),
            "[policies",
        ] {
            let error = registry.load_file(file(bad).path()).unwrap_err();
            assert!(matches!(error, FileError::Toml(_) | FileError::Policy { .. }), "{error:?}");
            let kept = registry.get("api").expect("the old policy stays");
            assert!(!kept.check(key, 1).await.unwrap().allowed(), "its counts stay too");
        }
        // The same policy again: its counts stay. Another one: it starts afresh.
        registry.load_file(file(GOOD).path()).unwrap();
        assert!(!registry.get("api").unwrap().check(key, 1).await.unwrap().allowed());
        registry.load_file(file(&GOOD.replace("rate = 2", "rate = 3")).path()).unwrap();
        assert!(registry.get("api").unwrap().check(key, 3).await.unwrap().allowed());
    }
}
