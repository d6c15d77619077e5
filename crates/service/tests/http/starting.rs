//! Settings, and what goes wrong before serving.

use std::io::Write;
use std::sync::Arc;

use clap::Parser;
use parking_lot::Mutex;
use service::settings::LogFormat;
use service::{Error, RequestId, ServerSettings, StoreSettings, StoreUrl, reach};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerSettings,
    #[command(flatten)]
    store: StoreSettings,
}

fn parse(flags: &[&str]) -> Result<Flags, String> {
    let all = ["test"].iter().chain(flags);
    Flags::try_parse_from(all).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_taken_port_is_one_line_that_names_the_flag() {
    let holder = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = holder.local_addr().unwrap();
    let error = service::bind(address).await.unwrap_err();
    assert!(matches!(error, Error::AddressInUse(_)));
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("--listen {address}: address already in use")),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn the_defaults_need_no_server() {
    let flags = parse(&[]).unwrap();
    assert_eq!(flags.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(flags.store.store, StoreUrl::Memory);
    assert_eq!(flags.server.limits().body_bytes, service::limits::BODY_BYTES_MAX);
}

#[test]
fn a_bad_setting_names_its_flag() {
    for (flag, value, says) in [
        ("--listen", "8080", "invalid socket address"),
        ("--log", "xml", "pretty, json"),
        ("--log-filter", "info,=,", "invalid filter directive"),
        ("--store", "mysql://db", "unknown scheme `mysql:`"),
        ("--store", "redis:", "needs a host"),
        ("--store", "sqlite:", "needs a file"),
        ("--store", "memory:x", "takes nothing"),
        ("--store", "redis-cluster://a,,b", "empty host"),
        ("--store", "redis-cluster://a:x", "not host or host:port"),
        ("--trusted-proxies", "10.0.0.0/33", "0 to 32"),
    ] {
        let message = parse(&[flag, value]).err().unwrap_or_else(|| panic!("{value} accepted"));
        assert!(message.contains(flag) && message.contains(says), "{message}");
    }
}

#[test]
fn every_form_of_store_is_understood() {
    let cluster = |nodes: &[&str]| {
        StoreUrl::RedisCluster(nodes.iter().map(|node| format!("redis://{node}")).collect())
    };
    for (text, expected) in [
        ("memory:", StoreUrl::Memory),
        ("sqlite:data/jobs.db", StoreUrl::Sqlite("data/jobs.db".into())),
        ("sqlite:///tmp/jobs.db", StoreUrl::Sqlite("/tmp/jobs.db".into())),
        ("postgres://u@h/db", StoreUrl::Postgres("postgres://u@h/db".into())),
        ("redis://h:1/2", StoreUrl::Redis("redis://h:1/2".into())),
        ("redis-cluster://h1,h2:7001", cluster(&["h1:6379", "h2:7001"])),
        ("redis-cluster://u:p@h1,h2", cluster(&["u:p@h1:6379", "u:p@h2:6379"])),
    ] {
        assert_eq!(text.parse::<StoreUrl>().as_ref(), Ok(&expected), "{text}");
    }
}

#[test]
fn a_store_without_an_answer_is_refused_and_no_password_is_shown() {
    let store: StoreUrl = "postgres://app:hunter2@db:5432/x".parse().unwrap();
    let message = store.unsupported(&["memory:", "redis://..."]).to_string();
    assert_eq!(
        message,
        "--store postgres://app:***@db:5432/x: no answer on this store; \
         accepted here: memory: | redis://..."
    );
    let cluster: StoreUrl = "redis-cluster://app:hunter2@h1,h2".parse().unwrap();
    assert!(!format!("{cluster:?} {cluster}").contains("hunter2"));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn logged(format: LogFormat) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = service::telemetry::lines(format, move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(layer);
    let _guard = tracing::subscriber::set_default(subscriber);
    let id = RequestId::fresh();
    id.clone().scope(async { tracing::info!(seats = 3, "reserved") }).await;
    tracing::info!("outside");
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    text.replace(&id.to_string(), "THE-ID")
}

#[tokio::test]
async fn every_line_of_a_request_carries_its_id() {
    let text = logged(LogFormat::Json).await;
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines[0]["request_id"], "THE-ID");
    assert_eq!((&lines[0]["message"], &lines[0]["seats"]), (&"reserved".into(), &3.into()));
    assert_eq!((&lines[1]["message"], lines[1].get("request_id")), (&"outside".into(), None));

    let text = logged(LogFormat::Pretty).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("[THE-ID] ") && lines[0].contains("reserved"), "{text}");
    assert!(!lines[1].contains("THE-ID"), "{text}");
}

#[tokio::test]
async fn a_client_command_is_told_in_one_line_why_nobody_can_be_asked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ask = |url: &str, scheme| reach::somebody_answers("server", url, scheme, "start one");
    ask(&format!("http://{address}/mounted"), "http").unwrap();
    ask(&format!("redis://:secret@{address}/0"), "redis").unwrap();
    drop(listener);
    for (url, says) in [
        (&*format!("http://{address}"), "nobody answers there"),
        (&*format!("http://user:secret@{address}"), "start one"),
        (&*format!("redis://{address}"), "does not begin with http://"),
        ("nonsense", "does not begin with http://"),
        ("http://[", "is not an address"),
    ] {
        let message = ask(url, "http").unwrap_err().to_string();
        assert!(message.starts_with("--server ") && message.contains(says), "{message}");
        assert!(message.lines().count() == 1 && !message.contains("secret"), "{message}");
    }
}
