//! The commands of the binary where what they need is not there.

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

#[test]
fn a_server_whose_bus_is_not_there_says_how_to_start_one() {
    let bus = format!("redis://{}", free_address());
    let output = Command::new(env!("CARGO_BIN_EXE_chat-service"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", "memory:", "--bus", &bus])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !said.contains("listening on http"), "{said}");
    let advice = format!("Error: --bus {bus}: is a Redis running there? `cargo x up` starts one");
    assert!(said.contains(&advice), "{said}");
}
