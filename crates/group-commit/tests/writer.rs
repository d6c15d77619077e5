//! The invariants of the crate documentation, each with a test of its name.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use futures::future::join_all;
use group_commit::rusqlite::{self, Connection};
use group_commit::{Error, Location, Options, Writer};
use testkit::wait_until;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS numbers (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS owned (
        n INTEGER REFERENCES numbers(n) DEFERRABLE INITIALLY DEFERRED
    );";

fn insert(n: i64) -> impl FnOnce(&Connection) -> Result<(), Error> + Send + 'static {
    move |tx| {
        tx.prepare_cached("INSERT INTO numbers (n) VALUES (?1)")?.execute([n])?;
        Ok(())
    }
}

fn numbers(connection: &Connection) -> Result<Vec<i64>, Error> {
    let mut select = connection.prepare("SELECT n FROM numbers ORDER BY id")?;
    let rows = select.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn open(directory: &Path) -> Writer {
    open_with(directory, Options::default())
}

fn open_with(directory: &Path, options: Options) -> Writer {
    Writer::open(directory.join("test.db"), SCHEMA, options).expect("a database")
}

/// Holds the writer thread inside a call, so that what is queued meanwhile becomes one batch.
struct Held {
    release: mpsc::Sender<()>,
    call: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn hold(writer: &Writer) -> Held {
    let (release, released) = mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let holder = writer.clone();
    let call = tokio::spawn(async move {
        holder
            .call(move |_| {
                let _ = entered.send(());
                let _ = released.recv();
                Ok(())
            })
            .await
    });
    inside.await.expect("the call runs");
    Held { release, call }
}

impl Held {
    async fn release(self) {
        self.release.send(()).expect("the call waits for it");
        self.call.await.expect("no panic").expect("an empty call succeeds");
    }
}

#[tokio::test]
async fn a_call_that_fails_or_panics_leaves_nothing_behind_and_harms_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    for location in [Location::Memory, Location::File(directory.path().join("a.db"))] {
        let writer = Writer::open(location, SCHEMA, Options::default()).expect("a database");
        let held = hold(&writer).await;
        let fails = writer.call(|tx| {
            insert(2)(tx)?;
            insert(2)(tx)
        });
        let panics = writer.call(|tx| -> Result<(), Error> {
            insert(3)(tx)?;
            panic!("a bug")
        });
        let calls =
            futures::future::join4(writer.call(insert(1)), fails, panics, writer.call(insert(4)));
        let all_queued = async {
            wait_until("four calls are queued", Duration::from_secs(5), async || {
                writer.queued() == 4
            })
            .await;
            held.release().await;
        };
        let ((first, failed, panicked, last), ()) = futures::join!(calls, all_queued);
        first.expect("an honest call");
        last.expect("an honest call");
        assert!(matches!(failed, Err(Error::Statement(_))), "{failed:?}");
        assert!(matches!(&panicked, Err(Error::Panicked(why)) if why == "a bug"), "{panicked:?}");
        assert_eq!(writer.read(numbers).await.expect("a read"), [1, 4]);
        // Alone in its batch, where there is no savepoint.
        writer
            .call(|tx| {
                insert(5)(tx)?;
                insert(5)(tx)
            })
            .await
            .expect_err("a duplicate");
        assert_eq!(writer.read(numbers).await.expect("a read"), [1, 4]);
    }
}

#[tokio::test]
async fn when_a_commit_fails_nobody_in_the_batch_is_told_ok() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let held = hold(&writer).await;
    // A deferred constraint is checked by COMMIT: the way to make a real commit fail.
    let orphan = writer.call(|tx| {
        tx.execute("INSERT INTO owned VALUES (99)", [])?;
        Ok::<_, Error>(())
    });
    let released = async {
        wait_until("both are queued", Duration::from_secs(5), async || writer.queued() == 2).await;
        held.release().await;
    };
    let (honest, orphan, ()) = futures::join!(writer.call(insert(1)), orphan, released);
    assert!(matches!(honest, Err(Error::NotCommitted(_))), "{honest:?}");
    assert!(matches!(orphan, Err(Error::NotCommitted(_))), "{orphan:?}");
    assert_eq!(writer.read(numbers).await.expect("a read"), [0; 0]);
    writer.call(insert(1)).await.expect("the writer lives on");
}

#[tokio::test]
async fn a_full_disk_is_an_error_to_the_callers_and_the_writer_lives_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let limit = |pages: u32| {
        writer.call(move |tx| {
            tx.pragma_update(None, "max_page_count", pages)?;
            Ok::<_, Error>(())
        })
    };
    // SQLite then reports SQLITE_FULL exactly as for a full disk.
    limit(20).await.expect("a smaller limit");
    let grow = |n: i64| {
        writer.call(move |tx| {
            insert(n)(tx)?;
            tx.execute("CREATE TABLE IF NOT EXISTS blobs (b BLOB)", [])?;
            tx.execute("INSERT INTO blobs VALUES (zeroblob(20000))", [])?;
            Ok::<_, Error>(())
        })
    };
    let held = hold(&writer).await;
    let released = async {
        wait_until("all are queued", Duration::from_secs(5), async || writer.queued() == 20).await;
        held.release().await;
    };
    let (answers, ()) = futures::join!(join_all((0..20).map(grow)), released);
    let told_ok: Vec<i64> = (0..20).filter(|&n| answers[n as usize].is_ok()).collect();
    assert!(told_ok.len() < 20, "the disk was full for somebody");
    let kept = writer.read(numbers).await.expect("a read");
    assert_eq!(kept, told_ok, "exactly those who were told Ok are there");
    limit(1_000_000).await.expect("a larger limit");
    grow(100).await.expect("there is room again");
}

#[tokio::test]
async fn a_closure_that_ends_the_transaction_is_an_error_and_later_calls_are_not_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let held = hold(&writer).await;
    let meddles = writer.call(|tx| {
        tx.execute_batch("ROLLBACK")?;
        Ok::<_, Error>(())
    });
    let released = async {
        wait_until("all are queued", Duration::from_secs(5), async || writer.queued() == 3).await;
        held.release().await;
    };
    let (before, meddles, after, ()) =
        futures::join!(writer.call(insert(1)), meddles, writer.call(insert(2)), released);
    assert!(matches!(before, Err(Error::Aborted)), "{before:?}");
    assert!(matches!(meddles, Err(Error::Aborted)), "{meddles:?}");
    after.expect("it runs in a transaction of its own");
    assert_eq!(writer.read(numbers).await.expect("a read"), [2]);
}

#[tokio::test]
async fn calls_run_in_the_order_in_which_they_were_queued() {
    let directory = tempfile::tempdir().expect("a directory");
    // Several batches, and a queue that is full most of the time.
    let options = Options { batch_limit: 7, queue_limit: 10, ..Options::default() };
    let writer = open_with(directory.path(), options);
    for done in join_all((0..200).map(|n| writer.call(insert(n)))).await {
        done.expect("an insert");
    }
    let expected: Vec<i64> = (0..200).collect();
    assert_eq!(writer.read(numbers).await.expect("a read"), expected);
}

#[tokio::test]
async fn when_the_queue_is_full_callers_wait_and_nobody_is_turned_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { queue_limit: 4, ..Options::default() };
    let writer = open_with(directory.path(), options);
    let held = hold(&writer).await;
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.call(insert(n)).await })
        })
        .collect();
    wait_until("the queue is full", Duration::from_secs(5), async || writer.queued() == 4).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(writer.queued(), 4, "the queue is bounded");
    }
    held.release().await;
    for call in join_all(calls).await {
        call.expect("no panic").expect("an insert");
    }
    assert_eq!(writer.read(numbers).await.expect("a read").len(), 50);
}

#[tokio::test]
async fn a_read_sees_what_an_answered_call_wrote_and_cannot_write() {
    let directory = tempfile::tempdir().expect("a directory");
    for location in [Location::Memory, Location::File(directory.path().join("a.db"))] {
        let writer = Writer::open(location, SCHEMA, Options::default()).expect("a database");
        for n in 0..50 {
            writer.call(insert(n)).await.expect("an insert");
            assert_eq!(writer.read(numbers).await.expect("a read").last(), Some(&n));
        }
        writer.read(insert(100)).await.expect_err("a read connection does not write");
        let panicked = writer.read(|_| -> Result<(), Error> { panic!("a bug") }).await;
        assert!(matches!(panicked, Err(Error::Panicked(_))), "{panicked:?}");
        assert_eq!(writer.read(numbers).await.expect("a read").len(), 50);
        writer.call(insert(100)).await.expect("writing works as before");
    }
}

#[tokio::test]
async fn a_read_is_one_snapshot_and_does_not_stop_the_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let (looked, has_looked) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let reader = writer.clone();
    let read = tokio::spawn(async move {
        reader
            .read(move |conn| {
                let before = numbers(conn)?;
                let _ = looked.send(());
                let _ = goes_on.recv();
                Ok::<_, Error>((before, numbers(conn)?))
            })
            .await
    });
    has_looked.await.expect("the read runs");
    writer.call(insert(1)).await.expect("the writer is not blocked");
    go_on.send(()).expect("the read waits");
    let (before, after) = read.await.expect("no panic").expect("a read");
    assert_eq!(before, after);
    assert_eq!(writer.read(numbers).await.expect("a read"), [1]);
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let held = hold(&writer).await;
    let queued = tokio::spawn({
        let writer = writer.clone();
        async move { writer.call(insert(1)).await }
    });
    wait_until("it is queued", Duration::from_secs(5), async || writer.queued() == 1).await;
    futures::join!(writer.close(), held.release());
    queued.await.expect("no panic").expect("queued before the close");
    let refused = writer.call(insert(2)).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    drop(writer);
    assert_eq!(open(directory.path()).read(numbers).await.expect("a read"), [1]);
}

#[test]
fn dropping_the_last_handle_finishes_what_is_queued_and_threads_need_no_runtime() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let threads: Vec<_> = (0..8)
        .map(|part| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                (0..20).try_for_each(|n| writer.call_blocking(insert(part * 100 + n)))
            })
        })
        .collect();
    drop(writer);
    for thread in threads {
        thread.join().expect("no panic").expect("inserts");
    }
    let again = open(directory.path());
    assert_eq!(again.read_blocking(numbers).expect("a read").len(), 160);
}

#[tokio::test]
async fn the_size_of_each_batch_and_the_time_of_each_commit_are_measured() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .expect("no other test installs one");
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { name: "measured", ..Options::default() };
    let writer = open_with(directory.path(), options);
    let held = hold(&writer).await;
    let calls = (1..=3).map(|n| writer.call(insert(n)));
    let released = async {
        wait_until("all are queued", Duration::from_secs(5), async || writer.queued() == 3).await;
        held.release().await;
    };
    let (answers, ()) = futures::join!(join_all(calls), released);
    answers.into_iter().for_each(|answer| answer.expect("an insert"));
    let text = recorder.render();
    for line in [
        // The call that held the writer, then the three together.
        "group_commit_batch_calls_count{database=\"measured\"} 2",
        "group_commit_batch_calls_sum{database=\"measured\"} 4",
        "group_commit_commit_seconds_count{database=\"measured\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_file_database_is_opened_in_the_durable_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(directory.path());
    let pragma = |name: &'static str| {
        writer
            .call_blocking(move |tx| {
                Ok::<_, Error>(tx.pragma_query_value(None, name, |row| {
                    row.get::<_, rusqlite::types::Value>(0)
                })?)
            })
            .expect("a pragma")
    };
    assert_eq!(pragma("journal_mode"), rusqlite::types::Value::from("wal".to_owned()));
    assert_eq!(pragma("synchronous"), rusqlite::types::Value::from(2), "2 is FULL");
    assert_eq!(pragma("foreign_keys"), rusqlite::types::Value::from(1));
}

#[test]
fn a_database_that_cannot_be_opened_names_the_file_and_the_step() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("no/such/directory.db");
    let error = Writer::open(missing, SCHEMA, Options::default()).expect_err("no directory");
    assert!(error.to_string().contains("directory.db: open the database"), "{error}");
    let bad = Writer::open(Location::Memory, "CREATE TABEL x", Options::default());
    let error = bad.expect_err("a bad schema");
    assert!(error.to_string().contains(":memory:: run the schema"), "{error}");
}
