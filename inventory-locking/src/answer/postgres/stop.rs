//! Why an attempt stopped, by what is to be done: the retry table of every strategy.
//!
//! | what happened | what it means | what we do |
//! |---|---|---|
//! | an update matched no row | somebody was faster | a fresh transaction, after a pause |
//! | 40001, 40P01 | the database chose another one | the same |
//! | 55P03 (NOWAIT, lock_timeout) | the row is taken | the same |
//! | 23514 (CHECK) | the check was out of date | the same |
//! | the connection broke before BEGIN | it had been dead | the same, at once |
//! | the connection broke before COMMIT | nothing was done | tell |
//! | the connection broke during COMMIT | nobody knows | look it up, never guess |

use sqlx::{PgPool, Postgres, Transaction};

use crate::inventory::{Error, Grant, Reservation};

/// The result of one attempt.
pub(super) type Attempt = Result<Grant, Stop>;

/// Why there is none.
#[derive(Debug)]
pub(super) enum Stop {
    /// This key or id has been used: here is what it made.
    Made(Grant),
    /// Somebody was faster; nothing was done.
    Conflict,
    /// The stock had to be laid out first, which is done.
    Prepared,
    /// There is not enough, as far as this attempt could see.
    Short(Error),
    /// Another attempt would not help.
    Tell(Error),
    /// The connection was dead before anything was done with it.
    Broken(sqlx::Error),
    /// The connection broke during COMMIT.
    Ambiguous(sqlx::Error),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        match code(&error).as_deref() {
            Some("40001" | "40P01" | "55P03" | "23514" | "23505") => Self::Conflict,
            _ => Self::Tell(told(error)),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::SoldOut { .. } | Error::UnknownSku(_) => Self::Short(error),
            error => Self::Tell(error),
        }
    }
}

/// The SQLSTATE, when it was the database that spoke.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// What a caller is told about an error of the client or the server.
pub(super) fn told(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => {
            Error::Busy { what: "no connection is free".to_owned(), retry_after_ms: 1_000 }
        }
        error => Error::unavailable(error),
    }
}

pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Stop> {
    begin_with(pool, "BEGIN").await
}

pub(super) async fn begin_with(
    pool: &PgPool,
    begin: &'static str,
) -> Result<Transaction<'static, Postgres>, Stop> {
    pool.begin_with(begin).await.map_err(|error| match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Stop::Broken(error),
        error => Stop::from(error),
    })
}

/// The only place where a reservation is committed: an error that is not the database's own leaves
/// open whether it was.
pub(super) async fn commit(
    tx: Transaction<'static, Postgres>,
    reservation: Reservation,
) -> Attempt {
    committed(tx).await?;
    Ok(Grant { reservation, replayed: false })
}

pub(super) async fn committed(tx: Transaction<'static, Postgres>) -> Result<(), Stop> {
    tx.commit().await.map_err(|error| match code(&error) {
        Some(_) => Stop::from(error),
        None => Stop::Ambiguous(error),
    })
}
