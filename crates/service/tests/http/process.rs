//! The example as a real process: signals, exit codes, and what stands on stderr.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::support::{Client, get_request, patient, post_json};

struct Process {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
}

fn hello(flags: &[&str]) -> Child {
    // Cargo builds examples with the tests, beside them: target/<profile>/{deps/http,examples/hello}
    let me = std::env::current_exe().unwrap();
    let binary = me.parent().unwrap().with_file_name("examples").join("hello");
    let mut command = Command::new(&binary);
    command.args(flags).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary.display()))
}

impl Process {
    async fn start() -> Self {
        let mut child = hello(&[
            "--listen",
            "127.0.0.1:0",
            "--log",
            "json",
            "--shutdown-deadline-ms",
            "3600000",
        ]);
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = patient(stderr.next_line()).await.unwrap().expect("it says where it listens");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["message"].as_str().unwrap().strip_prefix("listening on http://");
        let address = address.expect("the first line says where it listens").parse().unwrap();
        // Signals are handled from before the first request is.
        let process = Self { child, stderr, address };
        assert_eq!(process.client().await.ask(&get_request("/healthz")).await.status, 200);
        process
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn signal(&self, signal: &str) {
        let process_id = self.child.id().expect("still running").to_string();
        let sent = Command::new("kill").args(["-s", signal, &process_id]).status().await.unwrap();
        assert!(sent.success());
    }

    async fn ended(mut self) -> (ExitStatus, String) {
        let status = patient(self.child.wait()).await.unwrap();
        let mut rest = String::new();
        patient(self.stderr.into_inner().read_to_string(&mut rest)).await.unwrap();
        (status, rest)
    }
}

#[tokio::test]
async fn sigterm_and_ctrl_c_stop_it_cleanly_past_an_idle_connection() {
    for signal in ["TERM", "INT"] {
        let process = Process::start().await;
        let mut idle = process.client().await;
        idle.ask(&get_request("/healthz")).await;
        process.signal(signal).await;
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.lines().last().unwrap().contains("drained"), "the hook ran last: {log}");
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let mut process = Process::start().await;
    let mut slow = process.client().await;
    let request = post_json("/v1/greetings", r#"{"name":"a"}"#);
    let (head, _body) = request.split_once("\r\n\r\n").unwrap();
    slow.send(&format!("{head}\r\nexpect: 100-continue\r\n\r\n")).await;
    slow.answer().await; // 100 Continue: the handler waits for a body that never comes
    process.signal("TERM").await;
    let line = patient(process.stderr.next_line()).await.unwrap().unwrap();
    assert!(line.contains("a second signal exits at once"), "{line}");
    process.signal("TERM").await;
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(!log.contains("drained"), "{log}");
}

#[tokio::test]
async fn a_start_that_fails_says_so_in_one_line() {
    let process = Process::start().await;
    let taken = process.address.to_string();
    for (flags, says) in [
        (["--listen", taken.as_str()], "address already in use"),
        (["--store", "redis://localhost"], "no answer on this store"),
    ] {
        let output = patient(hello(&flags).wait_with_output()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.starts_with(&format!("error: {} {}", flags[0], flags[1])), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}

#[tokio::test]
async fn the_example_describes_itself_and_names_the_field() {
    let process = Process::start().await;
    let answer = process.client().await.ask(&get_request("/openapi.json")).await;
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert!(document["paths"]["/v1/greetings"]["post"]["responses"]["4XX"].is_object());
    let schemas = &document["components"]["schemas"];
    assert!(schemas["Problem"]["allOf"][1]["properties"]["errors"].is_object(), "{schemas}");
    let request = post_json("/v1/greetings", r#"{"name":""}"#);
    let problem = process.client().await.ask(&request).await.problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/name");
}
