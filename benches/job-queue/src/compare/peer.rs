//! Another SQS-compatible server: fauxqs 1.9.2, the fastest that we could run (Node.js; the JSON
//! protocol only, in memory only).
//!
//! `npm install --prefix target/peers/fauxqs fauxqs@1.9.2` puts it where it is found. It listens on
//! every address of the machine and asks for no password, so it is only started where there is no
//! network but the loopback:
//!
//! ```sh
//! unshare -n sh -c 'ip link set lo up; taskset -c 1 target/release/bench-job-queue compare --only http'
//! ```

use std::path::PathBuf;

use super::{Action, SERVER_CORE, Wire, loaded};
use crate::server::{Server, free_address, pinned};
use measure::Subject;

const PROGRAM: &str = "target/peers/fauxqs/node_modules/fauxqs";

/// The peer, or why it does not take part.
pub(super) struct Peer(Option<PathBuf>);

impl Peer {
    pub(super) fn find() -> Self {
        let program = PathBuf::from(PROGRAM);
        let missing = if !program.join("dist/cli.js").is_file() {
            Some("npm install --prefix target/peers/fauxqs fauxqs@1.9.2")
        } else if !is_alone() {
            Some(
                "it listens to everybody, so it is started in a network namespace only: unshare -n",
            )
        } else {
            None
        };
        if let Some(how) = missing {
            println!("fauxqs does not take part: {how}\n");
            return Self(None);
        }
        Self(Some(program))
    }

    pub(super) fn version(&self) -> Option<String> {
        let manifest = std::fs::read(self.0.as_ref()?.join("package.json")).ok()?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
        manifest["version"].as_str().map(str::to_owned)
    }

    pub(super) fn subject(&self, action: Action) -> Option<Subject> {
        let program = self.0.clone()?;
        Some(Subject::peer("fauxqs", move || {
            let program = program.clone();
            async move {
                let address = free_address()?;
                let mut words = pinned(Some(SERVER_CORE));
                // Its own command logs every request; without that it is faster.
                let app = program.canonicalize()?.join("dist/app.js");
                let (app, port) = (app.display(), address.port());
                let script = format!(
                    "import('{app}').then((it) => it.startFauxqs({{ logger: false, port: {port} }}))"
                );
                words.extend(["node".to_owned(), "-e".to_owned(), script]);
                let server = Server::start(words, address).await?;
                let process = server.process()?;
                Ok(loaded(Wire::new(address), action, server).await?.served_by(process))
            }
        }))
    }
}

/// Whether nothing but the loopback interface is here.
fn is_alone() -> bool {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = interfaces.lines().skip(2).filter_map(|line| line.split(':').next());
    names.map(str::trim).all(|name| name == "lo")
}
