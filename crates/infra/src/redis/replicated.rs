//! A primary with one replica: the smallest set-up in which an acknowledged write can be lost.

use crate::backing::{given, off_the_runtime};
use crate::error::{Error, Result};
use crate::process::wait_for;
use crate::redis::{Redis, RedisOptions, connect, field, redis_with};

/// A Redis and its replica, both private.
pub struct RedisReplicated {
    /// Where writes go until [`fail_over`](RedisReplicated::fail_over).
    pub primary: Redis,
    /// A read-only copy, some moments behind: replication is asynchronous.
    pub replica: Redis,
}

/// Returns two private servers, the second replicating the first, in sync.
///
/// # Errors
/// As [`redis`](crate::redis()); [`Error::NotOurs`] while `INFRA_REDIS_URL` is set, since one
/// server is not two.
pub async fn redis_replicated() -> Result<RedisReplicated> {
    if given("INFRA_REDIS_URL").is_some() {
        let why = "INFRA_REDIS_URL names one server and this needs two; unset it";
        return Err(Error::NotOurs { server: "Redis", action: "replicate", why });
    }
    // Without the delay a new replica waits five seconds for company before it is served.
    let arguments = ["--repl-diskless-sync-delay", "0"].map(String::from).to_vec();
    let options = RedisOptions { arguments, ..RedisOptions::default() };
    let (primary, replica) = tokio::try_join!(redis_with(options.clone()), redis_with(options))?;
    let pair = RedisReplicated { primary, replica };
    pair.follow().await?;
    Ok(pair)
}

impl RedisReplicated {
    async fn follow(&self) -> Result<()> {
        let (host, port) = host_and_port(self.primary.url())?;
        let replica = self.replica.url().to_owned();
        off_the_runtime(move || {
            let mut connection = connect(&replica)?;
            ::redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut connection)?;
            Ok(())
        })
        .await?;
        self.wait_in_sync().await
    }

    /// Waits until the replica has everything the primary had acknowledged when this was called.
    ///
    /// # Errors
    /// [`Error::Start`] when that takes longer than twenty seconds, [`Error::Redis`] when a server
    /// does not answer.
    pub async fn wait_in_sync(&self) -> Result<()> {
        let (primary, replica) = (self.primary.url().to_owned(), self.replica.url().to_owned());
        off_the_runtime(move || {
            let goal = offset(&primary, "master_repl_offset")?;
            wait_for("the replica to catch up with its primary", || {
                let info = replication(&replica)?;
                let linked = field(&info, "master_link_status") == Some("up");
                Ok(linked && number(&info, "slave_repl_offset") >= goal)
            })
        })
        .await
    }

    /// Kills the primary and promotes the replica, at once and without waiting for it to catch
    /// up, as a failover does. Writes acknowledged but not yet replicated are lost.
    ///
    /// # Errors
    /// [`Error::Redis`] when the replica does not answer.
    pub async fn fail_over(&self) -> Result<()> {
        self.primary.kill9().await?;
        let replica = self.replica.url().to_owned();
        off_the_runtime(move || {
            ::redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut connect(&replica)?)?;
            Ok(())
        })
        .await
    }
}

fn replication(url: &str) -> Result<String> {
    Ok(::redis::cmd("INFO").arg("replication").query(&mut connect(url)?)?)
}

fn offset(url: &str, name: &str) -> Result<u64> {
    Ok(number(&replication(url)?, name))
}

fn number(info: &str, name: &str) -> u64 {
    field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes `redis://HOST:PORT/..` apart.
pub(crate) fn host_and_port(url: &str) -> Result<(String, u16)> {
    let parsed = url::Url::parse(url).ok();
    parsed
        .and_then(|parsed| Some((parsed.host_str()?.to_owned(), parsed.port()?)))
        .ok_or_else(|| Error::Unsupported(format!("{url} names no host and port")))
}
