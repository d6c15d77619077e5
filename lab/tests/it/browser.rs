//! A headless Chromium, driven over the DevTools protocol: a WebSocket that carries JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::crash::{Child, Program};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::running::{LIMIT, Lab};

/// Loopback only, nothing in the background, and as root.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
];

/// Between two looks at a condition on the page.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the browser is. `TEST_BROWSER` names it, or says `absent` where none can be had: that is
/// said aloud and is the only way in which the browser tests do not run.
pub(crate) fn found() -> Option<PathBuf> {
    let given = std::env::var_os("TEST_BROWSER").filter(|given| !given.is_empty());
    match given {
        Some(given) if given == "absent" => {
            eprintln!("NOT RUN: there is no Chromium on this machine (TEST_BROWSER=absent)");
            None
        }
        Some(given) => Some(given.into()),
        None => Some(in_path().expect(
            "no Chromium found: run `cargo x setup`, or name one in TEST_BROWSER \
             (TEST_BROWSER=absent if there is none)",
        )),
    }
}

/// A lab and a page of it, as it is seen by day on a desk whose screen is so high; `None` where
/// there is no browser.
pub(crate) async fn visit(path: &str, height: u32) -> Option<(Lab, Tab)> {
    let program = found()?;
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    tab.resize(1280, height, false).await;
    tab.prefer("light").await;
    tab.goto(&lab.url(path)).await;
    Some((lab, tab))
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "google-chrome-stable", "google-chrome", "chromium-browser"];
    names.iter().find_map(|name| {
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
    })
}

/// A tab, and the browser around it. Dropping it ends the browser.
pub(crate) struct Tab {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    calls: u64,
    /// What the page complained about on its console, and scripts that failed.
    pub(crate) complaints: Vec<String>,
    /// Every address it asked.
    pub(crate) requested: Vec<String>,
    _browser: Child,
    _profile: tempfile::TempDir,
}

impl Tab {
    /// Starts `program` with a profile of its own and opens a tab.
    pub(crate) async fn open(program: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let mut browser = Program::new(program)
            .args(FLAGS)
            .args([format!("--user-data-dir={}", profile.path().display())])
            .start();
        let line = browser.wait_line("DevTools listening on ").await;
        let url = line.split_whitespace().last().expect("the line ends in the address").to_owned();
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("DevTools answers");
        let mut tab = Self {
            socket,
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            requested: Vec::new(),
            _browser: browser,
            _profile: profile,
        };
        let target = tab.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = tab.call("Target.attachToTarget", attach).await;
        tab.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab
    }

    /// Calls a method and returns its result; what happens meanwhile is noted.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(call.to_string())).await.expect("DevTools listens");
        let answer = async {
            while let Some(message) = self.socket.next().await {
                let Ok(Message::Text(text)) = message else { continue };
                let message: Value = serde_json::from_str(&text).expect("DevTools speaks JSON");
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                    return message["result"].clone();
                }
                note(&message, &mut self.complaints, &mut self.requested);
            }
            panic!("the browser went away during {method}");
        };
        let answer = tokio::time::timeout(LIMIT, answer).await;
        answer.unwrap_or_else(|_| panic!("{method} did not return"))
    }

    /// Opens a page and waits until it and its scripts are loaded.
    pub(crate) async fn goto(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        let loaded = format!("document.readyState === 'complete' && location.href === '{url}'");
        self.wait(&format!("{url} is loaded"), &loaded).await;
    }

    /// Evaluates an expression on the page.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters).await;
        let failed = &result["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        result["result"]["value"].clone()
    }

    /// Returns once `condition` is true on the page.
    pub(crate) async fn wait(&mut self, what: &str, condition: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while self.eval(&format!("Boolean({condition})")).await != true {
            assert!(tokio::time::Instant::now() < deadline, "waited until {what}: {condition}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The size of the window, and whether it is a phone's.
    pub(crate) async fn resize(&mut self, width: u32, height: u32, mobile: bool) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`, as the system would say.
    pub(crate) async fn prefer(&mut self, scheme: &str) {
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": feature })).await;
    }

    /// Presses and releases a key, such as `Tab` or `Enter`.
    pub(crate) async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            " " => (32, Some(" ")),
            other => panic!("this test knows no key {other}"),
        };
        let mut event = json!({ "key": key, "code": key, "windowsVirtualKeyCode": code });
        event["type"] = json!(if text.is_some() { "keyDown" } else { "rawKeyDown" });
        if let Some(text) = text {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone()).await;
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event).await;
    }

    /// Writes what the window shows to `target/`, and returns where.
    pub(crate) async fn screenshot(&mut self, name: &str) -> PathBuf {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let data = shot["data"].as_str().expect("a picture in base64");
        let png = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&directory).expect("target can be written");
        let path = directory.join(name);
        std::fs::write(&path, png).expect("target can be written");
        path
    }

    /// No error on the console, and nothing asked of anybody but the lab at `origin`.
    pub(crate) async fn must_be_clean(&mut self, origin: &str) {
        self.eval("1").await; // reads what is still on its way
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
        let elsewhere = |url: &&String| {
            !url.starts_with(origin) && !url.starts_with("data:") && *url != "about:blank"
        };
        let elsewhere: Vec<_> = self.requested.iter().filter(elsewhere).collect();
        assert!(elsewhere.is_empty(), "asked elsewhere: {elsewhere:#?}");
        assert!(!self.requested.is_empty(), "the requests are seen at all");
    }
}

fn note(message: &Value, complaints: &mut Vec<String>, requested: &mut Vec<String>) {
    let parameters = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "Runtime.exceptionThrown" => complaints.push(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            complaints.push(parameters["args"].to_string());
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            complaints.push(parameters["entry"].to_string());
        }
        "Network.requestWillBeSent" | "Network.webSocketCreated" => {
            let url = parameters["request"]["url"].as_str().or(parameters["url"].as_str());
            // A WebSocket asks the same server as a request does.
            requested.push(url.unwrap_or_default().replacen("ws://", "http://", 1));
        }
        _ => {}
    }
}
