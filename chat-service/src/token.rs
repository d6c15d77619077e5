//! Signed, expiring tokens: who may connect, without asking the store.
//!
//! `v1.<claims>.<signature>`, both parts base64url; the signature is HMAC-SHA256 over everything
//! before it. The claims name user, device and end, and nothing else is believed of a client.
//!
//! Trade-off: a token cannot be called back before its end. What must end at once, a removed
//! device, is looked up in the store when a connection says hello, and closed when it is removed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::ids::{DeviceId, UserId};

/// How long a token is good for.
pub const TOKEN_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest token looked at. Ours are below it; more would be hashing work for nothing.
const TOKEN_BYTES_MAX: usize = 1_024;
const VERSION: &str = "v1";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// Not valid from here on.
    pub expires_ms: u64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not one of ours, or changed.
    #[error("the token is not valid")]
    Invalid,
    /// It was ours; log in again.
    #[error("the token has expired")]
    Expired,
}

/// Signs and checks with one key.
#[derive(Clone)]
pub struct Tokens(Hmac<Sha256>);

impl Tokens {
    /// With the store's key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// A token for these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let json = serde_json::to_vec(claims).expect("claims are two strings and a number");
        let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(json));
        let signature = self.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that is ours and has not expired.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn check(&self, token: &str, now_ms: u64) -> Result<Claims, Rejected> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Rejected::Invalid);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejected::Invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Rejected::Invalid)?;
        // In constant time: a comparison that stops early tells how much was right.
        self.mac(signed).verify_slice(&signature).map_err(|_| Rejected::Invalid)?;
        let payload = signed.strip_prefix("v1.").ok_or(Rejected::Invalid)?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Rejected::Invalid)?;
        let claims: Claims = serde_json::from_slice(&json).map_err(|_| Rejected::Invalid)?;
        if now_ms >= claims.expires_ms {
            return Err(Rejected::Expired);
        }
        Ok(claims)
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
        Claims { user, device, expires_ms: 1_000 }
    }

    #[test]
    fn a_token_is_believed_until_it_expires() {
        let tokens = Tokens::new(&[7; 32]);
        let token = tokens.sign(&claims());
        assert_eq!(tokens.check(&token, 999), Ok(claims()));
        assert_eq!(tokens.check(&token, 1_000), Err(Rejected::Expired));
    }

    #[test]
    fn no_changed_byte_and_no_other_key_is_believed() {
        let token = Tokens::new(&[7; 32]).sign(&claims());
        assert_eq!(Tokens::new(&[8; 32]).check(&token, 0), Err(Rejected::Invalid));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Tokens::new(&[7; 32]).check(&changed, 0), Err(Rejected::Invalid), "{at}");
        }
        for junk in ["", ".", "v1..", "v1.e30.", &"a".repeat(5_000)] {
            assert_eq!(Tokens::new(&[7; 32]).check(junk, 0), Err(Rejected::Invalid), "{junk}");
        }
    }
}
