//! Passwords: argon2, behind a semaphore.
//!
//! A hash costs tens of milliseconds and 19 MiB on purpose. Without a bound, a hundred logins a
//! second would be a denial of service that anybody can buy for nothing.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::chat::Error;

/// Shortest password.
pub(crate) const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password; more would be hashing work for nothing.
pub(crate) const PASSWORD_BYTES_MAX: usize = 128;
/// Hashes worked on at once.
const AT_ONCE_MAX: usize = 2;
/// Longest wait for a place. After it the answer is 503.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Logins and registrations that may wait. One more is refused at once.
const WAITING_MAX: usize = 64;

/// Hashes and verifies.
#[derive(Clone)]
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Verified against when there is no such user, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Default for Passwords {
    /// With the parameters OWASP recommends: 19 MiB, two passes.
    fn default() -> Self {
        Self::new(Params::default())
    }
}

impl Passwords {
    /// With these parameters.
    fn new(params: Params) -> Self {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = argon2.hash_password(b"nobody has this one");
        let nobody = nobody.expect("a short password is hashed").to_string().into();
        let (working, waiting) = (Semaphore::new(AT_ONCE_MAX), Semaphore::new(WAITING_MAX));
        Self { argon2, working: Arc::new(working), waiting: Arc::new(waiting), nobody }
    }

    /// The least argon2 allows: for tests and load generators that make thousands of users. The
    /// hash says which parameters made it, so one made this way still verifies later.
    pub(crate) fn cheap() -> Self {
        Self::new(Params::new(Params::MIN_M_COST, 1, 1, None).expect("the minimum is allowed"))
    }

    /// The hash of a new password, in PHC form.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `password`, [`Error::Unavailable`] when too many wait.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Error> {
        let bytes = password.len();
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&bytes) {
            let reason =
                format!("is {bytes} bytes long; {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} are");
            return Err(Error::invalid("password", reason));
        }
        let (argon2, password) = (self.argon2.clone(), password.to_owned());
        let hashed =
            self.work(move || argon2.hash_password(password.as_bytes()).map(|h| h.to_string()));
        hashed.await?.map_err(|error| Error::Unavailable {
            what: "hash a password",
            source: Some(error.to_string().into()),
        })
    }

    /// Whether this is the password of `hash`; of nobody for `None`, taking as long.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait.
    pub(crate) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Error> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let (argon2, password) = (self.argon2.clone(), password.to_owned());
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let verifying = self.work(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
        });
        Ok(verifying.await? && is_somebody)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy =
            || Error::Unavailable { what: "check a password: too many at once", source: None };
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let place = tokio::time::timeout(WAIT_MAX, self.working.acquire()).await;
        let _place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| busy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_verifies() {
        let passwords = Passwords::cheap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(passwords.verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf", Some(hash)).await.unwrap());
        assert!(!passwords.verify("nobody has this one", None).await.unwrap());
        assert_eq!(passwords.hash("short").await.unwrap_err().field(), Some("password"));
    }
}
