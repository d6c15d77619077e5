//! The commands of the binary where there is no server.

use std::process::Command;

use testkit::crash::{Program, free_address};

const PROGRAM: &str = env!("CARGO_BIN_EXE_job-queue");

#[test]
fn a_command_that_finds_no_server_says_how_to_start_one() {
    let nowhere = format!("http://{}", free_address());
    for command in [&["stats"][..], &["peek", "jobs"], &["redrive", "jobs-dead"]] {
        let output = Command::new(PROGRAM).args(command).args(["--endpoint", &nowhere]).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{command:?}: {said}");
        let at_fault = format!("job-queue: --endpoint {nowhere}: nobody answers there (");
        assert!(said.starts_with(&at_fault), "{command:?}: {said}");
        assert!(said.contains("-p job-queue -- serve") && said.lines().count() == 1, "{said}");
        assert!(output.stdout.is_empty(), "{command:?} printed a table of nothing");
    }
}

#[test]
fn an_endpoint_that_is_none_is_named() {
    for (endpoint, says) in [
        ("nonsense", "does not begin with http://"),
        ("https://127.0.0.1:9324", "does not begin with http://"),
        ("http://a b", "is not an address"),
    ] {
        let output = Command::new(PROGRAM).args(["stats", "--endpoint", endpoint]).output();
        let said =
            String::from_utf8_lossy(&output.expect("the program starts").stderr).into_owned();
        assert!(said.contains(&format!("--endpoint {endpoint}: {says}")), "{said}");
    }
}

#[tokio::test]
async fn a_worker_without_a_server_says_so_and_waits_for_it() {
    let (address, directory) = (free_address(), tempfile::tempdir().expect("a directory"));
    let endpoint = format!("http://{address}");
    let mut worker = Program::new(PROGRAM)
        .args(["work", "--endpoint", &endpoint, "--ledger"])
        .args([directory.path().join("ledger.db")])
        .start();
    let line = worker.wait_line("waiting for it").await;
    assert!(line.contains("nobody answers there") && line.contains("-- serve"), "{line}");
    let mut server = Program::new(PROGRAM)
        .args(["serve", "--store", "memory:", "--listen", &address.to_string()])
        .start();
    server.wait_ready(address).await;
    // It has reached the server that came later: what is missing now is the queue.
    worker.wait_line("QueueDoesNotExist").await;
}
