//! The crash harness, with this test binary itself as the program that is killed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use testkit::Seed;
use testkit::crash::{Child, Program, free_address, wait_until_gone};

/// Tells a process of this binary which part it plays.
const PART: &str = "TESTKIT_CRASH_PART";
const LISTEN: &str = "TESTKIT_CRASH_LISTEN";

fn main() -> ExitCode {
    match std::env::var(PART).as_deref() {
        Ok("server") => serve(),
        Ok("parent") => be_a_parent(),
        Ok("quits") => return ExitCode::from(3),
        Ok("panics") => panics_with_a_seed(),
        _ => {}
    }
    let trials = vec![
        trial("a_killed_child_is_gone_and_comes_back_at_the_same_address", killed_and_restarted),
        trial("a_child_ends_after_sigterm_and_its_output_was_kept", terminated),
        trial("a_paused_child_accepts_nothing_until_it_is_resumed", paused),
        trial("a_child_that_ends_by_itself_is_reported_at_once", quits),
        trial("a_test_that_panics_prints_its_seed_and_the_seed_replays", prints_its_seed),
        trial("a_child_does_not_outlive_a_test_that_is_killed", orphaned),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<Fut: Future<Output = ()> + 'static>(name: &str, run: fn() -> Fut) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| Failed::from(error.to_string()))?.block_on(run());
        Ok(())
    })
}

fn this_program(part: &str) -> Program {
    Program::new(std::env::current_exe().expect("this binary has a path")).env(PART, part)
}

async fn server(address: SocketAddr) -> Child {
    let mut child = this_program("server").env(LISTEN, address.to_string()).start();
    child.wait_ready(address).await;
    child
}

async fn killed_and_restarted() {
    let seed = Seed::from_env_or_fresh();
    let address = free_address();
    let mut child = server(address).await;
    for _ in 0..3 {
        let id = child.id();
        child.kill9_within(Duration::from_millis(20), &mut seed.rng()).await;
        wait_until_gone(id, Duration::ZERO);
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
        child.restart();
        child.wait_http_ok(address, "/readyz").await;
        assert_ne!(child.id(), id);
    }
    child.kill9_at("a request").await;
}

async fn terminated() {
    let mut child = server(free_address()).await;
    let line = child.wait_line("listening").await;
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
    let status = child.terminate().await;
    assert_eq!(status.code(), None, "it has no handler: the signal ended it");
    assert!(child.output().contains(&line));
}

async fn paused() {
    let address = free_address();
    let mut child = server(address).await;
    child.pause();
    // The kernel still accepts; the process does not answer.
    let mut stream = std::net::TcpStream::connect(address).expect("the kernel accepts");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    stream.read_exact(&mut [0; 4]).expect_err("nobody answers");
    child.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.read_exact(&mut [0; 4]).expect("the answer comes after all");
}

async fn quits() {
    let waiting = tokio::spawn(async {
        this_program("quits").start().wait_ready(free_address()).await;
    });
    let panic = waiting.await.expect_err("it panics").into_panic();
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("ended by itself: exit status: 3"), "{message}");
}

async fn prints_its_seed() {
    let mut fresh = this_program("panics").start();
    let line = fresh.wait_line("replay with: TESTKIT_SEED=").await;
    let drawn = fresh.wait_line("drew ").await;
    let seed = line.split_whitespace().find_map(|word| word.strip_prefix("TESTKIT_SEED="));
    let mut again = this_program("panics").env("TESTKIT_SEED", seed.expect("a seed")).start();
    assert_eq!(again.wait_line("drew ").await, drawn);
    assert_eq!(again.wait_line("replay with: ").await, line);
}

fn panics_with_a_seed() -> ! {
    let seed = Seed::from_env_or_fresh();
    println!("drew {}", seed.rng().u64(..));
    panic!("a failing test")
}

async fn orphaned() {
    let mut parent = this_program("parent").start();
    let line = parent.wait_line("grandchild ").await;
    let grandchild = line.rsplit(' ').next().and_then(|id| id.parse().ok()).expect("an id");
    parent.kill9();
    wait_until_gone(grandchild, Duration::from_secs(10));
}

fn be_a_parent() -> ! {
    let child = this_program("server").env(LISTEN, free_address().to_string()).start();
    println!("grandchild {}", child.id());
    loop {
        std::thread::park();
    }
}

fn serve() -> ! {
    let address = std::env::var(LISTEN).expect("the address is in the environment");
    let listener = TcpListener::bind(&address).expect("the address is free");
    println!("listening on {address}");
    loop {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let mut request = [0; 4];
        if stream.read_exact(&mut request).is_ok() {
            println!("a request");
            // A client that has gone does not want the answer.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    }
}
