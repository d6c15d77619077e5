//! The fuzzer is only worth something if it can say no.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use testkit::schemathesis::{Fuzz, Outcome};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const DOCUMENT: &str = r#"{
  "openapi": "3.1.0", "info": {"title": "square", "version": "1"},
  "paths": {"/squares/{number}": {"get": {
    "parameters": [{"name": "number", "in": "path", "required": true,
                    "schema": {"type": "integer", "minimum": 0, "maximum": 99}}],
    "responses": {
      "200": {"description": "its square", "content": {"application/json":
        {"schema": {"type": "integer"}}}},
      "400": {"description": "not a number from 0 to 99"},
      "404": {"description": "no such path"},
      "405": {"description": "only GET", "headers": {"Allow": {"schema": {"type": "string"}}}}
  }}}}
}"#;

/// Squares numbers, all but one of them as documented.
async fn serve(wrong_at: Option<i64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/openapi.json", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, wrong_at));
        }
    });
    url
}

async fn answer(stream: TcpStream, wrong_at: Option<i64>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut body_bytes) = (String::new(), 0);
    while stream.read_line(&mut head).await? > 2 {
        let line = head.lines().next_back().unwrap_or_default().to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            body_bytes = length.trim().parse().unwrap_or(0);
        }
    }
    stream.read_exact(&mut vec![0; body_bytes]).await?;
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let number = path.strip_prefix("/squares/").map(str::parse::<i64>);
    let (status, body) = match (method, number) {
        ("GET", _) if path == "/openapi.json" => ("200 OK", DOCUMENT.to_owned()),
        ("GET", Some(Ok(number))) if Some(number) == wrong_at => ("200 OK", "\"oops\"".to_owned()),
        ("GET", Some(Ok(number @ 0..100))) => ("200 OK", (number * number).to_string()),
        ("GET", Some(_)) => ("400 Bad Request", String::new()),
        ("GET", None) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed\r\nAllow: GET", String::new()),
    };
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{kind}content-length: {length}\r\n");
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await
}

#[tokio::test]
async fn a_service_that_keeps_to_its_document_passes() {
    match Fuzz::of(serve(None).await).run().await {
        Outcome::Clean { operations, cases } => assert!(operations == 1 && cases >= 10, "{cases}"),
        Outcome::NotRun(_) => {} // said, and an error where it is required
    }
}

#[tokio::test]
async fn one_wrong_answer_is_found() {
    // The boundary of a range is among the first things it tries.
    let run = Fuzz::of(serve(Some(99)).await).run();
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Outcome::NotRun(_)) => {}
        Ok(clean) => panic!("a wrong service was found {clean:?}"),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().expect("a message");
            assert!(said.contains("/squares/99"), "{said}");
        }
    }
}
