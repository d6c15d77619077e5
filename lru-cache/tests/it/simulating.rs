//! `simulate` with traces that are none: what is wrong is named, and no table of nothing printed.

use std::path::Path;
use std::process::Command;

fn simulate(trace: &Path) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lru-cache"))
        .args(["simulate", "--capacity", "10", "--policy", "lru", "--trace"])
        .arg(trace)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_trace_that_is_none_is_named_with_the_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trace");
    for (bytes, says) in [
        (&b"1\n2\nx\n"[..], "line 3 is malformed: \"x\" is not a decimal number"),
        (&b""[..], "there is no request in it"),
        (&b"\x1f\x8bnot gzip"[..], "cannot read the trace"),
    ] {
        std::fs::write(&file, bytes).expect("a file");
        let (success, table, said) = simulate(&file);
        assert!(!success && table.is_empty(), "{table}");
        assert!(said.starts_with(&format!("error: {}: ", file.display())), "{said}");
        assert!(said.contains(says), "{said}");
    }
    for (path, says) in [
        (directory.path().to_owned(), "Is a directory"),
        (directory.path().join("none"), "No such file"),
    ] {
        let (success, _, said) = simulate(&path);
        assert!(!success && said.contains(says), "{said}");
    }
    std::fs::write(&file, "1\n2\n1\n").expect("a file");
    let (success, table, said) = simulate(&file);
    assert!(success && table.contains("33.33%"), "{table}{said}");
}
