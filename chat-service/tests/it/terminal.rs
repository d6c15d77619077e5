//! The terminal client where there is no server.

use std::process::Command;

use testkit::crash::free_address;

#[test]
fn a_terminal_that_finds_no_server_says_how_to_start_one() {
    let nowhere = format!("http://{}", free_address());
    for (server, says) in [
        (nowhere.as_str(), "nobody answers there ("),
        (nowhere.as_str(), "-p chat-service -- serve"),
        ("https://127.0.0.1:1", "does not begin with http://"),
        ("nonsense", "does not begin with http://"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_chat-service"))
            .args(["chat", "--as", "alice", "--server", server])
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{server}: {said}");
        assert!(said.starts_with(&format!("Error: --server {server}: ")), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
