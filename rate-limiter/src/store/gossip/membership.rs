//! Who the other nodes are, found by gossip as well: the `chitchat` crate (scuttlebutt
//! reconciliation over UDP, and a phi-accrual failure detector that says who is alive).
//!
//! Membership and counting stay apart. A node announces where its counters can be told; everybody
//! who is alive is a peer. Being wrong about that is harmless: somebody taken for dead is told
//! nothing for a while and everything afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use chitchat::transport::UdpTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion,
    spawn_chitchat,
};
use tokio::sync::watch;

use super::Peers;

/// The name under which a node announces where its counters are told.
const COUNTERS: &str = "counters";
/// How often nodes tell each other who is there.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long the name of a node that is gone is remembered.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Being a member. Dropping it leaves, without a word: the others will notice.
pub struct Member {
    _chitchat: ChitchatHandle,
    peers: Peers,
}

/// Joins the cluster that `seeds` are members of (none: the first one starts it), listening on
/// UDP `listen`, and announces `counters` as the address for [`GossipStore`](super::GossipStore).
///
/// # Errors
/// When the socket cannot be bound.
pub async fn join(
    listen: SocketAddr,
    seeds: Vec<String>,
    counters: SocketAddr,
) -> std::io::Result<Member> {
    // A node that starts again is another one: the time tells its lives apart.
    let life = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(counters.to_string(), life, listen),
        cluster_id: "rate-limiter".to_owned(),
        gossip_interval: INTERVAL,
        listen_addr: listen,
        seed_nodes: seeds,
        failure_detector_config: FailureDetectorConfig {
            initial_interval: INTERVAL,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: REMEMBERED,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    };
    let announced = vec![(COUNTERS.to_owned(), counters.to_string())];
    let chitchat =
        spawn_chitchat(config, announced, &UdpTransport).await.map_err(std::io::Error::other)?;
    let mut alive = chitchat.with_chitchat(|state| state.live_nodes_watcher()).await;
    let (tell, peers) = watch::channel(Vec::new());
    tokio::spawn(async move {
        loop {
            let others: Vec<SocketAddr> = alive
                .borrow_and_update()
                .values()
                .filter_map(|node| node.get(COUNTERS)?.parse().ok())
                .filter(|address| *address != counters)
                .collect();
            if tell.send(others).is_err() || alive.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(Member { _chitchat: chitchat, peers })
}

impl Member {
    /// Where the counters of all other members that are alive can be told.
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }
}
