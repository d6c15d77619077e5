//! What a cache server promises over RESP, the protocol of Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd, pipe};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

/// A server that holds more than this is not tried for its bound: start it with a smaller one.
const CAPACITY_TRIED_MAX: usize = 100_000;

/// A cache server at `redis://host:port`.
pub(super) struct Resp(MultiplexedConnection);

impl Resp {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub(super) async fn connect(url: &str) -> redis::RedisResult<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self(client.get_multiplexed_async_connection().await?))
    }

    fn connection(&self) -> MultiplexedConnection {
        self.0.clone()
    }

    async fn ask(&self, words: &[&str]) -> Result<Value, Broken> {
        let asked = words.join(" ");
        let answer = command(words).query_async(&mut self.connection()).await;
        answer.map_err(|error| Broken::because(format!("{asked}: {error}")))
    }

    async fn number(&self, words: &[&str]) -> Result<i64, Broken> {
        match self.ask(words).await? {
            Value::Int(number) => Ok(number),
            other => Err(Broken::because(format!("{}: no number: {other:?}", words.join(" ")))),
        }
    }

    async fn text(&self, key: &str) -> Result<Option<String>, Broken> {
        match self.ask(&["GET", key]).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            other => Err(Broken::because(format!("GET {key}: {other:?}"))),
        }
    }
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command
}

/// In the order in which an interviewer would probe. They empty the cache.
pub(super) fn promises() -> Vec<Promise<Resp>> {
    promises! { Resp;
        reads_what_was_last_written => "GET finds the last SET, or nothing.",
        a_deleted_key_is_gone => "DEL counts what was there; EXISTS and GET agree.",
        the_least_recently_used_leaves => "At its bound, the entry that was not used for longest is evicted.",
        time_to_live_is_kept => "SET PX expires on time, TTL tells what is left, and a plain SET clears it.",
        only_if_absent_means_it => "SET NX does not touch what is there.",
        many_keys_are_answered_in_order => "MGET answers every key in its place.",
        a_pipeline_is_answered_in_order => "Two thousand commands at once get as many answers, in order.",
        any_bytes_are_a_value => "Line breaks and zero bytes come back as they went in.",
        nonsense_is_an_error_and_no_end => "An unknown command is a RESP error; the connection goes on.",
    }
}

async fn reads_what_was_last_written(resp: Arc<Resp>) -> Verdict {
    resp.ask(&["FLUSHALL"]).await?;
    ensure!(resp.text("a").await?.is_none(), "an empty cache has a value for `a`");
    for value in ["1", "2"] {
        resp.ask(&["SET", "a", value]).await?;
        let read = resp.text("a").await?;
        ensure!(read.as_deref() == Some(value), "{value} was written, {read:?} was read");
    }
    Ok(())
}

async fn a_deleted_key_is_gone(resp: Arc<Resp>) -> Verdict {
    resp.ask(&["FLUSHALL"]).await?;
    resp.ask(&["SET", "a", "1"]).await?;
    let deleted = resp.number(&["DEL", "a", "b"]).await?;
    ensure!(deleted == 1, "one of two keys was there, DEL said {deleted}");
    let there = resp.number(&["EXISTS", "a"]).await?;
    ensure!(there == 0 && resp.text("a").await?.is_none(), "a deleted key is still there");
    Ok(())
}

/// Fills the cache until it stops growing; its capacity.
async fn fill(resp: &Resp) -> Result<usize, Broken> {
    resp.ask(&["FLUSHALL"]).await?;
    for start in (0..CAPACITY_TRIED_MAX).step_by(500) {
        let mut batch = pipe();
        for key in start..start + 500 {
            batch.cmd("SET").arg(format!("fill-{key}")).arg(key).ignore();
        }
        let filled: redis::RedisResult<()> = batch.query_async(&mut resp.connection()).await;
        filled.map_err(|error| Broken::because(format!("SET: {error}")))?;
        let size = usize::try_from(resp.number(&["DBSIZE"]).await?).unwrap_or(0);
        if size < start + 500 {
            return Ok(size);
        }
    }
    let what = format!("no bound within {CAPACITY_TRIED_MAX} entries: start it with a smaller one");
    Err(Broken::because(what))
}

async fn the_least_recently_used_leaves(resp: Arc<Resp>) -> Verdict {
    let capacity = fill(&resp).await?;
    ensure!(capacity >= 3, "a capacity of {capacity} is too small to tell policies apart");
    resp.ask(&["FLUSHALL"]).await?;
    for key in 0..capacity {
        resp.ask(&["SET", &format!("k{key}"), "v"]).await?;
    }
    ensure!(resp.text("k0").await?.is_some(), "k0 left before the cache of {capacity} was full");
    resp.ask(&["SET", "one-more", "v"]).await?;
    let size = resp.number(&["DBSIZE"]).await?;
    ensure!(size == capacity as i64, "a cache of {capacity} holds {size}");
    let (used, unused) = (resp.text("k0").await?, resp.text("k1").await?);
    ensure!(used.is_some(), "k0 was just used, and left for one more entry");
    ensure!(unused.is_none(), "k1 was not used for longest, and stayed");
    Ok(())
}

async fn time_to_live_is_kept(resp: Arc<Resp>) -> Verdict {
    resp.ask(&["FLUSHALL"]).await?;
    resp.ask(&["SET", "soon", "v", "PX", "80"]).await?;
    resp.ask(&["SET", "later", "v", "EX", "100"]).await?;
    ensure!(resp.text("soon").await?.is_some(), "a value with 80 ms to live was gone at once");
    let left = resp.number(&["TTL", "later"]).await?;
    ensure!((98..=100).contains(&left), "of 100 seconds to live {left} are left");
    tokio::time::sleep(Duration::from_millis(100)).await;
    ensure!(resp.text("soon").await?.is_none(), "a value with 80 ms to live was there after 100");
    resp.ask(&["SET", "later", "w"]).await?;
    let (forever, absent) =
        (resp.number(&["TTL", "later"]).await?, resp.number(&["TTL", "nobody"]).await?);
    ensure!(forever == -1, "a plain SET clears the time to live, TTL says {forever}");
    ensure!(absent == -2, "TTL of an absent key is -2, not {absent}");
    Ok(())
}

async fn only_if_absent_means_it(resp: Arc<Resp>) -> Verdict {
    resp.ask(&["FLUSHALL"]).await?;
    resp.ask(&["SET", "a", "1", "NX"]).await?;
    let refused = resp.ask(&["SET", "a", "2", "NX"]).await?;
    ensure!(refused == Value::Nil, "SET NX on a key that is there answered {refused:?}");
    let read = resp.text("a").await?;
    ensure!(read.as_deref() == Some("1"), "SET NX changed the value to {read:?}");
    Ok(())
}

async fn many_keys_are_answered_in_order(resp: Arc<Resp>) -> Verdict {
    resp.ask(&["FLUSHALL"]).await?;
    resp.ask(&["SET", "a", "1"]).await?;
    resp.ask(&["SET", "c", "3"]).await?;
    let got = resp.ask(&["MGET", "a", "b", "c"]).await?;
    let bulk = |text: &str| Value::BulkString(text.into());
    let wanted = Value::Array(vec![bulk("1"), Value::Nil, bulk("3")]);
    ensure!(got == wanted, "MGET a b c answered {got:?}");
    Ok(())
}

async fn a_pipeline_is_answered_in_order(resp: Arc<Resp>) -> Verdict {
    let mut batch = pipe();
    for number in 0..1_000 {
        batch.cmd("SET").arg("last").arg(number).ignore();
        batch.cmd("GET").arg("last");
    }
    let got: redis::RedisResult<Vec<i64>> = batch.query_async(&mut resp.connection()).await;
    let got =
        got.map_err(|error| Broken::because(format!("a pipeline of 2,000 commands: {error}")))?;
    let in_order = got.iter().copied().eq(0..1_000);
    ensure!(in_order, "1,000 answers came as {:?}..", &got[..got.len().min(10)]);
    Ok(())
}

async fn any_bytes_are_a_value(resp: Arc<Resp>) -> Verdict {
    let bytes = b"a\r\n\0$-1\r\n\xff".to_vec();
    let mut connection = resp.connection();
    let set: redis::RedisResult<()> =
        cmd("SET").arg("bytes").arg(&bytes).query_async(&mut connection).await;
    set.map_err(|error| Broken::because(format!("SET of odd bytes: {error}")))?;
    let got = resp.ask(&["GET", "bytes"]).await?;
    ensure!(got == Value::BulkString(bytes), "odd bytes came back as {got:?}");
    Ok(())
}

async fn nonsense_is_an_error_and_no_end(resp: Arc<Resp>) -> Verdict {
    for words in [&["NO-SUCH-COMMAND"][..], &["GET"], &["SET", "a"], &["SET", "a", "b", "PX", "x"]]
    {
        let answer: redis::RedisResult<Value> =
            command(words).query_async(&mut resp.connection()).await;
        let refused = answer.is_err_and(|error| !error.is_connection_dropped());
        ensure!(refused, "`{}` was not answered with an error", words.join(" "));
    }
    resp.ask(&["PING"]).await?;
    Ok(())
}
