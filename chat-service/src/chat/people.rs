//! Who there is: the store itself, accounts, devices.

use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, Epoch, UserId};

/// What a store is, for as long as it exists.
#[derive(Clone)]
pub struct Identity {
    /// Goes with every cursor.
    pub epoch: Epoch,
    /// Signs tokens. Kept by the store so that every server of it, and every restart, agrees.
    pub token_key: [u8; 32],
}

impl Identity {
    /// The identity of a new store.
    ///
    /// # Panics
    /// When the operating system has no randomness, because guessable tokens are worse.
    pub fn fresh() -> Self {
        let mut token_key = [0; 32];
        getrandom::fill(&mut token_key).expect("the operating system provides randomness");
        Self { epoch: Epoch::fresh(), token_key }
    }
}

/// Who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: UserId,
    /// The password's argon2 hash in PHC form; never the password.
    pub password_hash: String,
}

/// A device a user logged in from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, unique for the user.
    pub device: DeviceId,
    /// When it was first seen.
    pub added_ms: u64,
}
