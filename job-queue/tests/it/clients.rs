//! Clients we did not write: boto3 today (JSON), boto3 of 2023 (query and XML), and the aws CLI.
//!
//! They come from PyPI into virtual environments under `target/`, once. Where that is not possible
//! the test says so on the terminal and proves nothing; `JOB_QUEUE_CLIENTS=required` makes that a
//! failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::crash::{Child, Program, free_address};

/// The last release of the time when boto3 spoke the query protocol.
const BOTO3_QUERY: &str = "boto3==1.28.80";
const BOTO3_JSON: &str = "boto3==1.40.40";
const AWSCLI: &str = "awscli==1.42.40";

/// A virtual environment with one package, or why there is none.
fn environment(name: &str, package: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{name}"));
    let marker = root.join(package);
    if !marker.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&root))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        run(Command::new(root.join("bin/python")).args(pip))?;
        std::fs::write(&marker, "").map_err(|error| error.to_string())?;
    }
    Ok(root.join("bin"))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// The environment, or `None` after saying on the terminal that nothing is proven.
fn environment_or_say(name: &str, package: &str) -> Option<PathBuf> {
    match environment(name, package) {
        Ok(bin) => Some(bin),
        Err(why) if std::env::var("JOB_QUEUE_CLIENTS").as_deref() == Ok("required") => {
            panic!("{package} is required and cannot be installed: {why}")
        }
        Err(why) => {
            // Not `eprintln`, which the test harness keeps to itself.
            let line =
                format!("SKIPPED: {package} cannot be installed, nothing is proven: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("a terminal");
            None
        }
    }
}

async fn serve() -> (Child, String) {
    let address = free_address();
    let mut server = Program::new(env!("CARGO_BIN_EXE_job-queue"))
        .args(["serve", "--listen", &address.to_string(), "--store", "memory:"])
        .start();
    server.wait_ready(address).await;
    (server, format!("http://{address}"))
}

async fn boto3(name: &str, package: &str) {
    let Some(bin) = environment_or_say(name, package) else { return };
    let (_server, endpoint) = serve().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/boto3_client.py");
    let output = run(Command::new(bin.join("python")).arg(script).arg(&endpoint));
    let output = output.unwrap_or_else(|error| panic!("{error}"));
    assert!(output.ends_with("passed 54\n"), "{output}");
}

#[tokio::test]
async fn boto3_agrees_over_json() {
    boto3("json", BOTO3_JSON).await;
}

#[tokio::test]
async fn boto3_agrees_over_query_and_xml() {
    boto3("query", BOTO3_QUERY).await;
}

#[tokio::test]
async fn the_aws_command_line_works() {
    let Some(bin) = environment_or_say("cli", AWSCLI) else { return };
    let (_server, endpoint) = serve().await;
    let aws = |arguments: &[&str]| {
        let mut command = Command::new(bin.join("aws"));
        command.args(["--endpoint-url", &endpoint, "--output", "text", "sqs"]).args(arguments);
        command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x");
        command.env("AWS_DEFAULT_REGION", "eu-north-1");
        run(&mut command).unwrap_or_else(|error| panic!("{error}"))
    };
    let url = aws(&["create-queue", "--queue-name", "cli"]);
    assert_eq!(url.trim(), format!("{endpoint}/000000000000/cli"));
    aws(&["send-message", "--queue-url", url.trim(), "--message-body", "hello"]);
    let query = ["--query", "Messages[0].[Body,ReceiptHandle]"];
    let received = aws(&[&["receive-message", "--queue-url", url.trim()], &query[..]].concat());
    let (body, handle) = received.trim().split_once('\t').expect("a body and a handle");
    assert_eq!(body, "hello");
    aws(&["delete-message", "--queue-url", url.trim(), "--receipt-handle", handle]);
    let arn =
        aws(&["get-queue-attributes", "--queue-url", url.trim(), "--attribute-names", "QueueArn"]);
    assert!(arn.contains("arn:aws:sqs:eu-north-1:000000000000:cli"), "{arn}");
}
