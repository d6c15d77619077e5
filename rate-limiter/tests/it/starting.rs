//! The program with files and stores that are not what they should be: it says what is wrong, and
//! where, and what it had before stays in force.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testkit::crash::{Program, free_address};
use testkit::wait_until;

use crate::http::Client;
use crate::processes::address_of;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rate-limiter");
const PATIENT: Duration = Duration::from_secs(10);

const GOOD: &str = r#"[policies.api]
limits = [{ algorithm = "token-bucket", rate = 2, per_ms = 31536000000 }]
on_store_failure = "local"
"#;

const TREE: &str = "domain: shop
descriptors:
  - key: plan
    rate_limit: { unit: minute, requests_per_unit: 20 }
";

/// Starts with `file`, which must be refused before anything listens. What was printed.
fn refused(flag: &str, file: &Path) -> String {
    let good_tree = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(&good_tree, TREE).unwrap();
    let output = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--resp-listen", "127.0.0.1:0"])
        .args(["--envoy-listen", "127.0.0.1:0", flag])
        .arg(file)
        // Needed by --envoy-listen; the flag above wins over it.
        .env("RATE_LIMITER_ENVOY_CONFIG", good_tree.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with(&format!("Error: {flag} {}", file.display())), "{said}");
    assert!(!said.contains("listening") && !said.contains("speaking"), "half-started: {said}");
    said
}

#[test]
fn a_bad_policy_file_stops_the_start_and_what_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    for (text, says) in [
        (GOOD.replace("}]", "}"), "line 3, column 1"),
        (GOOD.replace("rate =", "ratte ="), "unknown field `ratte`"),
        (GOOD.replace("rate = 2", "rate = 'two'"), "line 2, column 48"),
        (GOOD.replace("rate = 2", "rate = 0"), "limits/0/rate must be at least 1"),
        (GOOD.replace("token-bucket", "tokens"), "unknown variant `tokens`"),
        (GOOD.replace("policies.api", "policies.'a b'"), "policies.a b"),
        (GOOD.repeat(2), "line 4, column 11"),
        (String::new(), "missing field `policies`"),
        ("policies:\n  api: {}\n".to_owned(), "line 1, column"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = refused("--policies", &file);
        assert!(said.contains(says), "no {says:?} in {said}");
    }
    std::fs::write(&file, [0, 159, 146, 150]).unwrap();
    assert!(refused("--policies", &file).contains("valid UTF-8"));
    assert!(refused("--policies", directory.path()).contains("Is a directory"));
    assert!(refused("--policies", &directory.path().join("none")).contains("No such file"));
}

#[test]
fn a_bad_tree_of_descriptors_stops_the_start_and_what_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tree.yaml");
    for (text, says) in [
        (format!("{TREE}  - key: [\n"), "at line 5 column"),
        (format!("{TREE}    nonsense: 1\n"), "unknown field `nonsense`"),
        (TREE.replace("20", "many"), "descriptors[0].rate_limit.requests_per_unit"),
        (TREE.replace("minute", "fortnight"), "unknown variant `fortnight`"),
        (TREE.replace("unit: minute, ", ""), "descriptors/0/rate_limit/unit"),
        (format!("{TREE}  - key: plan\n"), "descriptors/1 is there twice"),
        (String::new(), "missing field `domain`"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = refused("--envoy-config", &file);
        assert!(said.contains(says), "no {says:?} in {said}");
    }
    assert!(refused("--envoy-config", directory.path()).contains("Is a directory"));
    std::fs::write(&file, TREE).unwrap();
    let twice = format!("{0},{0}", file.display());
    let output = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--envoy-listen", "127.0.0.1:0"])
        .args(["--envoy-config", &twice])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("domain \"shop\" is in another"), "{said}");
}

#[tokio::test]
async fn a_file_that_turns_bad_or_goes_away_changes_nothing_until_it_is_good_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    std::fs::write(&file, GOOD).unwrap();
    let mut server = Program::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--policies"])
        .args([&file])
        .start();
    let client = Client::to(address_of(&mut server).await);
    let check = || client.json("POST", "/v1/check", json!({"policy": "api", "key": "k"}));
    assert_eq!(check().await.status, 200);
    std::fs::write(&file, "[policies.api]\nlimits = 3\n").unwrap();
    let line = server.wait_line("the policy file is refused").await;
    assert!(line.contains("line 2, column 10") && line.contains("ERROR"), "{line}");
    assert_eq!(check().await.status, 200, "the second of two, by the old policy");
    assert_eq!(check().await.status, 429, "its counts stayed, too");
    std::fs::remove_file(&file).unwrap();
    server.wait_line("No such file").await;
    assert_eq!(check().await.status, 429);
    std::fs::write(&file, GOOD.replace("rate = 2", "rate = 3")).unwrap();
    server.wait_line("policies reloaded").await;
    wait_until("the new policy", PATIENT, async || check().await.status == 200).await;
}

#[tokio::test]
async fn a_store_that_is_down_at_the_start_is_a_warning_and_the_policies_decide() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    let closed = "[policies.closed]\non_store_failure = 'closed'\n\
                  limits = [{ algorithm = 'gcra', rate = 9, per_ms = 1000 }]\n";
    std::fs::write(&file, format!("{GOOD}{closed}")).unwrap();
    let nowhere = free_address();
    let mut server = Program::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--policies"])
        .args([&file])
        .args(["--store", &format!("redis://:secret@{nowhere}/")])
        .start();
    let line = server.wait_line(&format!("--store redis://:***@{nowhere}/ cannot be used")).await;
    for says in ["WARN", "`cargo x up` starts a Redis", "on_store_failure", "--store memory:"] {
        assert!(line.contains(says), "no {says:?} in {line}");
    }
    let client = Client::to(address_of(&mut server).await);
    let check = |policy| client.json("POST", "/v1/check", json!({"policy": policy, "key": "k"}));
    assert_eq!(check("api").await.json()["source"], "local-share");
    assert_eq!(check("closed").await.status, 503);
    assert!(!server.output().join("\n").contains("secret"));
}
