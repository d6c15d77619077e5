//! API keys: `ush_<id>_<secret>`, of which only a hash of the secret is stored.
//!
//! The secret has 190 random bits, so one round of SHA-256 is enough: there is nothing to guess,
//! and a slow password hash on every request would be a way to overload the service. Comparison
//! takes the same time wherever two hashes differ.

use std::collections::HashMap;
use std::future::Future;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::codes::{Codes, Draw, random::Random};
use crate::link::{Error, Owner};

/// Keys in a store; all of them are held in memory.
pub const KEYS_MAX: usize = 10_000;
/// The longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 100;
const PREFIX: &str = "ush_";

/// A key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The part of the key that may be shown.
    pub id: String,
    /// What its holder is called.
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at_ms: u64,
}

/// Where keys are kept.
pub trait Keys: Send + Sync + 'static {
    /// Adds a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are [`KEYS_MAX`], [`Error::Unavailable`].
    fn add_key(&self, key: KeyRecord) -> impl Future<Output = Result<(), Error>> + Send;

    /// All keys, by id.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn keys(&self) -> impl Future<Output = Result<Vec<KeyRecord>, Error>> + Send;

    /// Removes a key; false when there was none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn revoke_key(&self, id: &str) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// Makes a key: what its holder gets, once, and what is stored.
///
/// # Errors
/// [`Error::Invalid`] for a bad name, [`Error::Unavailable`] without a source of randomness.
pub async fn new_key(name: &str, now_ms: u64) -> Result<(String, KeyRecord), Error> {
    if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let rule = format!("must be 1 to {KEY_NAME_BYTES_MAX} bytes without control characters");
        return Err(Error::invalid("name", rule));
    }
    let part = async || Random::unlisted().draw(Draw { target: "", attempt: 0 }).await;
    let id = part().await?.as_str()[..8].to_owned();
    let secret = format!("{}{}", part().await?, part().await?);
    let hash = Sha256::digest(&secret).into();
    let record = KeyRecord { id: id.clone(), name: name.to_owned(), hash, created_at_ms: now_ms };
    Ok((format!("{PREFIX}{id}_{secret}"), record))
}

/// The keys of a store, in memory: checking one must not ask the database.
#[derive(Default)]
pub struct KeyRing {
    hashes: RwLock<HashMap<String, [u8; 32]>>,
}

impl KeyRing {
    /// Holds these keys from now on.
    pub fn replace(&self, keys: Vec<KeyRecord>) {
        *self.hashes.write() = keys.into_iter().map(|key| (key.id, key.hash)).collect();
    }

    /// Who presents this key, if it is one.
    pub fn owner(&self, presented: &str) -> Option<Owner> {
        let (id, secret) = presented.strip_prefix(PREFIX)?.split_once('_')?;
        let hash: [u8; 32] = Sha256::digest(secret).into();
        // An unknown id is compared too: the time must not tell which ids exist.
        let known = self.hashes.read().get(id).copied();
        let same = bool::from(hash.ct_eq(&known.unwrap_or([0; 32])));
        (same && known.is_some()).then(|| Owner(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_whole_key_opens() {
        let (key, record) = new_key("test", 0).await.unwrap();
        assert!(!format!("{record:?}").contains(key.rsplit('_').next().unwrap()));
        let ring = KeyRing::default();
        assert_eq!(ring.owner(&key), None);
        ring.replace(vec![record.clone()]);
        assert_eq!(ring.owner(&key), Some(Owner(record.id.clone())));
        for wrong in
            ["", "ush_", &key[..key.len() - 1], &key.replace("ush_", ""), &format!("{key}x")]
        {
            assert_eq!(ring.owner(wrong), None, "{wrong}");
        }
        ring.replace(vec![]);
        assert_eq!(ring.owner(&key), None, "revoked");
    }
}
