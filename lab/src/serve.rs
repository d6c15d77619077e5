//! `lab` without a command: every system and the console on one address.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, FromArgMatches};
use service::{ConnectionLimits, Limits, ServerSettings, Shutdown};

use crate::console::{self, Guard};
use crate::pages::{self, Lab, Page};

/// Where to listen, and under which names.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of the console; port 0 takes any free port.
    #[arg(long, env = "LAB_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// Names it may be reached by, besides localhost and addresses: comma separated. Any other
    /// name is refused, because a page elsewhere can make its own name point here.
    #[arg(long, env = "LAB_NAMES", value_delimiter = ',', value_name = "NAME,...")]
    names: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    service::telemetry::init(&logging()?);
    let listener = service::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let found = Arc::new(infra::found().await);
    let lab = Lab { address: reachable(address), shutdown: shutdown.clone(), found };
    let pages = pages::all(&lab).await?;
    print_table(&lab, &pages);
    if !address.ip().is_loopback() {
        eprintln!(
            "warning: {address} is not loopback: whoever can reach it can load and break things \
             on this machine"
        );
    }
    let router = console::router(&lab, pages, Guard::new(arguments.names));
    let router = service::harden(router, Limits::default());
    drop(lab);
    service::serve_with(listener, router, shutdown, ConnectionLimits::default()).await;
    Ok(ExitCode::SUCCESS)
}

/// `SERVICE_LOG` and `SERVICE_LOG_FILTER` work here as in every service; by default only warnings
/// are logged, so that the table is what one sees.
fn logging() -> anyhow::Result<ServerSettings> {
    let command = ServerSettings::augment_args(clap::Command::new("lab"));
    let mut words = vec!["lab"];
    if std::env::var_os("SERVICE_LOG_FILTER").is_none() {
        words.extend(["--log-filter", "warn"]);
    }
    let matches = command.try_get_matches_from(words);
    let matches = matches.context("a SERVICE_ environment variable")?;
    Ok(ServerSettings::from_arg_matches(&matches)?)
}

/// An address to put into a browser: 0.0.0.0 is one to listen on, not one to go to.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, listening.port())
}

fn print_table(lab: &Lab, pages: &[Page]) {
    let console = format!("http://{}/", lab.address);
    let mut rows = vec![
        ["system".to_owned(), "address".to_owned(), "stored on".to_owned()],
        ["console".to_owned(), console.clone(), "every system on one page".to_owned()],
    ];
    rows.extend(pages.iter().map(|page| {
        [page.system.to_owned(), format!("{console}{}/", page.system), page.stored_on.clone()]
    }));
    for (name, presence) in [
        ("redis-server", &lab.found.redis),
        ("postgres", &lab.found.postgres),
        ("docker", &lab.found.docker),
    ] {
        rows.push([name.to_owned(), "on this machine".to_owned(), presence.to_string()]);
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let (first, second) = (width(0), width(1));
    println!();
    for (index, [system, address, stored_on]) in rows.iter().enumerate() {
        println!("  {system:<first$}  {address:<second$}  {stored_on}");
        if index == 0 || index == 1 + pages.len() {
            println!("  {}  {}  {}", "-".repeat(first), "-".repeat(second), "-".repeat(24));
        }
    }
    println!("\n  Ctrl-C stops it.\n");
}
