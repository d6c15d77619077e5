//! A Redis Cluster of six nodes: three primaries with a third of the 16384 slots each, and a
//! replica for every one of them.
//!
//! It is put together with the `CLUSTER` commands themselves, in the order that `redis-cli
//! --cluster create` uses: slots, distinct epochs, introductions, replicas. Only the waiting
//! differs: here everybody is introduced to everybody, which saves rounds of gossip.

use std::sync::Arc;

use ::redis::{Connection, cmd};

use crate::backing::{Backing, containers_first, given, off_the_runtime};
use crate::error::{Error, Result};
use crate::place;
use crate::process::{Server, wait_for};
use crate::redis::replicated::host_and_port;
use crate::redis::{Redis, RedisOptions, connect, field, missing, start_server, url_of, version};

const URLS_VARIABLE: &str = "INFRA_REDIS_CLUSTER_URLS";
const PRIMARIES: usize = 3;
const NODES: usize = 2 * PRIMARIES;
const SLOTS: u16 = 16_384;
/// A primary that is silent this long is voted out. Shorter makes failovers of healthy nodes on
/// a loaded machine, longer makes every failover test wait.
const NODE_TIMEOUT_MS: &str = "1500";
/// How many keys one `MIGRATE` carries.
const KEYS_PER_MIGRATE: usize = 100;

/// A node of a cluster: a Redis with its cluster identity.
pub struct RedisNode {
    id: String,
    redis: Redis,
}

impl RedisNode {
    /// The node's name inside the cluster, forty hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The node's server, to kill, pause or restart it.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }
}

/// A Redis Cluster. Dropping it ends all its servers.
pub struct RedisCluster {
    nodes: Vec<RedisNode>,
}

/// Returns a private cluster of three primaries and three replicas in which every node agrees
/// that all is well (or the cluster named by `INFRA_REDIS_CLUSTER_URLS`, as it is).
///
/// # Errors
/// As [`redis`](crate::redis()). There is no container variant: the nodes of a cluster tell
/// clients their own addresses, which inside containers are not the ones a client can reach.
///
/// # Cost
/// Six processes; ready in a little over two seconds, all but a few milliseconds of it a pause
/// that Redis makes before a new primary declares the cluster writable.
pub async fn redis_cluster() -> Result<RedisCluster> {
    if let Some(urls) = given(URLS_VARIABLE) {
        return off_the_runtime(move || use_given(&urls)).await;
    }
    match place::program("redis-server") {
        Some(program) if !containers_first() => off_the_runtime(move || create(&program)).await,
        _ => Err(missing("Redis Cluster", URLS_VARIABLE)),
    }
}

impl RedisCluster {
    /// The addresses of all nodes, for any cluster client.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.redis.url().to_owned()).collect()
    }

    /// The server version, for the head of a report.
    pub fn version(&self) -> &str {
        self.nodes[0].redis.version()
    }

    /// All nodes. Right after the start the first three are the primaries, in the order of their
    /// slots.
    pub fn nodes(&self) -> &[RedisNode] {
        &self.nodes
    }

    /// The primary that serves `slot`, in the eyes of the first node that answers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when no node of ours serves the slot at this moment.
    pub async fn primary_of(&self, slot: u16) -> Result<&RedisNode> {
        self.find(format!("slot {slot} has no primary"), move |view| {
            view.lines.iter().find(|line| line.owns(slot)).map(|line| line.id.clone())
        })
        .await
    }

    /// A connected replica of the primary that serves `slot`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is none at this moment.
    pub async fn replica_of(&self, slot: u16) -> Result<&RedisNode> {
        self.find(format!("slot {slot} has no replica"), move |view| {
            let primary = view.lines.iter().find(|line| line.owns(slot))?;
            let follows = |line: &&NodeLine| {
                line.primary.as_deref() == Some(&primary.id) && !line.has_failed()
            };
            view.lines.iter().find(follows).map(|line| line.id.clone())
        })
        .await
    }

    /// Kills the primary that serves `slot` and returns it, so that it can be restarted later.
    /// The slot is down until the others have voted; await that with
    /// [`wait_healthy`](Self::wait_healthy).
    ///
    /// # Errors
    /// As [`primary_of`](Self::primary_of); [`Error::NotOurs`] when the cluster was given by URL.
    pub async fn kill_primary_of(&self, slot: u16) -> Result<&RedisNode> {
        let primary = self.primary_of(slot).await?;
        primary.redis.kill9().await?;
        Ok(primary)
    }

    /// Lets a replica of the primary of `slot` take over in an orderly way, losing nothing, and
    /// returns the new primary once every node knows it.
    ///
    /// # Errors
    /// As [`replica_of`](Self::replica_of), [`Error::Redis`], and [`Error::Start`] when it has
    /// not happened after twenty seconds.
    pub async fn fail_over(&self, slot: u16) -> Result<&RedisNode> {
        let replica = self.replica_of(slot).await?;
        let (url, id) = (replica.redis.url().to_owned(), replica.id.clone());
        let running = self.running();
        off_the_runtime(move || {
            cmd("CLUSTER").arg("FAILOVER").exec(&mut connect(&url)?)?;
            wait_for("every node to know the new primary", || {
                let knows = |line: &NodeLine| line.id == id && line.owns(slot);
                running.iter().try_fold(true, |all, node| {
                    Ok(all && View::of(&node.url)?.lines.iter().any(knows))
                })
            })
        })
        .await?;
        Ok(replica)
    }

    /// Waits until every running node sees all slots served by running nodes, and every running
    /// replica is linked to its primary.
    ///
    /// # Errors
    /// [`Error::Start`] when that has not happened after twenty seconds.
    pub async fn wait_healthy(&self) -> Result<()> {
        let running = self.running();
        off_the_runtime(move || wait_healthy(&running)).await
    }

    /// Begins to move `slot` to the primary `to`, which is when clients start to meet `ASK` and
    /// `TRYAGAIN`. Nothing is moved yet; see [`SlotMove`].
    ///
    /// # Errors
    /// As [`primary_of`](Self::primary_of), and [`Error::Redis`] when `to` is a replica or serves
    /// the slot already.
    pub async fn begin_slot_move(&self, slot: u16, to: &RedisNode) -> Result<SlotMove> {
        let from = self.primary_of(slot).await?;
        let slot_move = SlotMove {
            slot,
            from: Peer::of(from),
            to: Peer::of(to),
            others: self.running().into_iter().filter(|node| node.id != to.id).collect(),
        };
        let begun = slot_move.clone();
        off_the_runtime(move || {
            set_slot(&mut connect(&begun.to.url)?, slot, "IMPORTING", &begun.from.id)?;
            set_slot(&mut connect(&begun.from.url)?, slot, "MIGRATING", &begun.to.id)
        })
        .await?;
        Ok(slot_move)
    }

    /// Moves `slot` with all its keys to the primary `to`.
    ///
    /// # Errors
    /// As [`begin_slot_move`](Self::begin_slot_move).
    pub async fn move_slot(&self, slot: u16, to: &RedisNode) -> Result<()> {
        let slot_move = self.begin_slot_move(slot, to).await?;
        while slot_move.move_keys(KEYS_PER_MIGRATE).await? > 0 {}
        slot_move.finish().await
    }

    async fn find(
        &self,
        otherwise: String,
        pick: impl Fn(&View) -> Option<String> + Send + 'static,
    ) -> Result<&RedisNode> {
        let running = self.running();
        let id = off_the_runtime(move || {
            let view = running.iter().find_map(|node| View::of(&node.url).ok());
            Ok(view.and_then(|view| pick(&view)))
        })
        .await?;
        let node = self.nodes.iter().find(|node| Some(&node.id) == id.as_ref());
        node.ok_or(Error::Unsupported(otherwise))
    }

    fn running(&self) -> Vec<Peer> {
        self.nodes.iter().filter(|node| node.redis.may_run()).map(Peer::of).collect()
    }
}

/// A slot on its way. Between [`begin_slot_move`](RedisCluster::begin_slot_move) and
/// [`finish`](Self::finish) the old primary answers for keys it still has and sends clients to
/// the new one, with `ASK`, for those it has not.
#[derive(Debug, Clone)]
pub struct SlotMove {
    slot: u16,
    from: Peer,
    to: Peer,
    others: Vec<Peer>,
}

impl SlotMove {
    /// Moves at most `count_max` keys and returns how many it moved; zero means none are left.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn move_keys(&self, count_max: usize) -> Result<usize> {
        let Self { slot, from, to, .. } = self.clone();
        off_the_runtime(move || {
            let mut source = connect(&from.url)?;
            let keys: Vec<Vec<u8>> =
                cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(count_max).query(&mut source)?;
            if !keys.is_empty() {
                let (host, port) = host_and_port(&to.url)?;
                let mut migrate = cmd("MIGRATE");
                migrate.arg(host).arg(port).arg("").arg(0).arg(5_000).arg("KEYS").arg(&keys);
                migrate.exec(&mut source)?;
            }
            Ok(keys.len())
        })
        .await
    }

    /// Makes the move final on every node. Keys that were not moved stay behind and are lost to
    /// clients, so move all of them first.
    ///
    /// # Errors
    /// [`Error::Redis`]; the server refuses while the old primary still has keys.
    pub async fn finish(self) -> Result<()> {
        off_the_runtime(move || {
            // The new owner first: it must not send clients back while the old one sends them on.
            for node in std::iter::once(&self.to).chain(&self.others) {
                let mut connection = connect(&node.url)?;
                let role: String = cmd("INFO").arg("replication").query(&mut connection)?;
                if field(&role, "role") == Some("master") {
                    set_slot(&mut connection, self.slot, "NODE", &self.to.id)?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// What the blocking code needs to know of a node.
#[derive(Debug, Clone)]
struct Peer {
    id: String,
    url: String,
}

impl Peer {
    fn of(node: &RedisNode) -> Self {
        Self { id: node.id.clone(), url: node.redis.url().to_owned() }
    }
}

fn set_slot(connection: &mut Connection, slot: u16, state: &str, id: &str) -> Result<()> {
    cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id).exec(connection)?;
    Ok(())
}

fn create(program: &std::path::Path) -> Result<RedisCluster> {
    let arguments = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
        .into_iter()
        .chain(["--cluster-node-timeout", NODE_TIMEOUT_MS])
        .chain(["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"])
        .map(String::from)
        .collect();
    let options = RedisOptions { arguments, ..RedisOptions::default() };
    let servers = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..NODES)
            .map(|_| scope.spawn(|| start_server(program.to_owned(), Vec::new(), &options)))
            .collect();
        starting
            .into_iter()
            .map(|thread| thread.join().expect("starting a server does not panic"))
            .collect::<Result<Vec<Server>>>()
    })?;
    let nodes = servers.into_iter().map(adopt).collect::<Result<Vec<_>>>()?;
    join(&nodes)?;
    Ok(RedisCluster { nodes })
}

/// Reads the identity of a freshly started server.
fn adopt(server: Server) -> Result<RedisNode> {
    let url = url_of(&server);
    let id = cmd("CLUSTER").arg("MYID").query(&mut connect(&url)?)?;
    let version = version(&url)?;
    let backing = Backing::Local(Arc::new(server));
    Ok(RedisNode { id, redis: Redis { url, version, backing, slow_fsync: None } })
}

fn join(nodes: &[RedisNode]) -> Result<()> {
    let mut connections =
        nodes.iter().map(|node| Ok(connect(node.redis.url())?)).collect::<Result<Vec<_>>>()?;
    for (index, connection) in connections.iter_mut().enumerate() {
        // Equal epochs would be settled by gossip, one conflict at a time.
        cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(index + 1).exec(connection)?;
        if index < PRIMARIES {
            let slots: Vec<u16> = slots_of(index).collect();
            cmd("CLUSTER").arg("ADDSLOTS").arg(slots).exec(connection)?;
        }
        for other in &nodes[..index] {
            let (host, port) = host_and_port(other.redis.url())?;
            cmd("CLUSTER").arg("MEET").arg(host).arg(port).exec(connection)?;
        }
    }
    let peers: Vec<Peer> = nodes.iter().map(Peer::of).collect();
    wait_for("the nodes to know each other", || {
        peers.iter().try_fold(true, |all, peer| Ok(all && View::of(&peer.url)?.is_complete()))
    })?;
    for (index, connection) in connections.iter_mut().enumerate().skip(PRIMARIES) {
        cmd("CLUSTER").arg("REPLICATE").arg(&nodes[index - PRIMARIES].id).exec(connection)?;
    }
    wait_for("every primary to have its replica in everybody's eyes", || {
        peers.iter().try_fold(true, |all, peer| {
            let view = View::of(&peer.url)?;
            Ok(all && view.lines.iter().filter(|line| line.primary.is_some()).count() == PRIMARIES)
        })
    })?;
    wait_healthy(&peers)
}

/// The third of the slots that the primary of this index starts with.
fn slots_of(index: usize) -> std::ops::Range<u16> {
    let bound = |index: usize| {
        u16::try_from(usize::from(SLOTS) * index / PRIMARIES).expect("at most 16384 by the formula")
    };
    bound(index)..bound(index + 1)
}

fn wait_healthy(running: &[Peer]) -> Result<()> {
    wait_for("a healthy cluster", || {
        for peer in running {
            let mut connection = connect(&peer.url)?;
            let info: String = cmd("CLUSTER").arg("INFO").query(&mut connection)?;
            let replication: String = cmd("INFO").arg("replication").query(&mut connection)?;
            let unlinked = field(&replication, "master_link_status") == Some("down");
            let served: u32 = View::of(&peer.url)?
                .lines
                .iter()
                .filter(|line| running.iter().any(|peer| peer.id == line.id))
                .map(NodeLine::slot_count)
                .sum();
            if field(&info, "cluster_state") != Some("ok") || unlinked || served != u32::from(SLOTS)
            {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn use_given(urls: &str) -> Result<RedisCluster> {
    let nodes = urls
        .split(',')
        .map(|url| {
            let url = url.trim().to_owned();
            let id = cmd("CLUSTER").arg("MYID").query(&mut connect(&url)?)?;
            let version = version(&url)?;
            let redis = Redis { url, version, backing: Backing::Given, slow_fsync: None };
            Ok(RedisNode { id, redis })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RedisCluster { nodes })
}

/// The cluster in the eyes of one node: its answer to `CLUSTER NODES`.
struct View {
    lines: Vec<NodeLine>,
}

impl View {
    fn of(url: &str) -> Result<Self> {
        let text: String = cmd("CLUSTER").arg("NODES").query(&mut connect(url)?)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self { lines: text.lines().filter_map(NodeLine::parse).collect() }
    }

    fn is_complete(&self) -> bool {
        let known = self.lines.iter().filter(|line| !line.flags.contains("handshake"));
        known.count() == NODES && self.lines.len() == NODES
    }
}

/// One line of `CLUSTER NODES`: `id address flags primary ping pong epoch link slot-ranges..`.
struct NodeLine {
    id: String,
    flags: String,
    primary: Option<String>,
    slots: Vec<(u16, u16)>,
}

impl NodeLine {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, _address, flags, primary, _ping, _pong, _epoch, _link, ranges @ ..] = &words[..]
        else {
            return None;
        };
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            // Slots on the move look like "[93->-id]" and are not ranges.
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self {
            id: (*id).to_owned(),
            flags: (*flags).to_owned(),
            primary: (*primary != "-").then(|| (*primary).to_owned()),
            slots: ranges.iter().filter_map(range).collect(),
        })
    }

    fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    fn slot_count(&self) -> u32 {
        self.slots.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
    }

    fn has_failed(&self) -> bool {
        self.flags.contains("fail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_exactly_one_first_owner() {
        let slots: Vec<u16> = (0..PRIMARIES).flat_map(slots_of).collect();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
    }

    #[test]
    fn cluster_nodes_is_read_with_slots_on_the_move() {
        let view = View::parse(
            "aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 7000 [93->-bb]\n\
             bb 127.0.0.1:3@4 slave,fail aa 0 0 1 connected\n",
        );
        assert_eq!(view.lines[0].slot_count(), 5462);
        assert!(view.lines[0].owns(7000) && !view.lines[0].owns(5461));
        assert_eq!(view.lines[1].primary.as_deref(), Some("aa"));
        assert!(view.lines[1].has_failed());
    }
}
