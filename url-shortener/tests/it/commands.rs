//! The commands of the binary where the store cannot be used.

use std::process::Command;

#[test]
fn every_command_says_what_is_wrong_with_its_store() {
    let directory = tempfile::tempdir().unwrap();
    let junk = directory.path().join("junk.db");
    std::fs::write(&junk, [7; 5_000]).unwrap();
    let missing = directory.path().join("missing/links.db");
    for (file, says) in [(&junk, "file is not a database"), (&missing, "unable to open")] {
        let store = format!("sqlite:{}", file.display());
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["keys", "list"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_url-shortener"))
                .args(command)
                .args(["--store", &store])
                .output()
                .expect("the program starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && !said.contains("listening"), "{said}");
            assert!(
                said.starts_with(&format!("Error: --store {store} cannot be used: ")),
                "{said}"
            );
            assert!(said.contains("writable and not full") && said.contains(says), "{said}");
        }
    }
    assert_eq!(std::fs::read(&junk).unwrap(), [7; 5_000], "nothing was written over it");
}
