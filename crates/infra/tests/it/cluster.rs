//! A Redis Cluster: whole, after a failover, after a killed primary, with a slot on the move.

use infra::{RedisCluster, redis_cluster};
use redis::AsyncCommands;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;

/// Every key with this tag is in one slot.
const TAG: &str = "{slot}";

async fn connect(cluster: &RedisCluster) -> ClusterConnection {
    let client = ClusterClient::new(cluster.urls()).unwrap();
    client.get_async_connection().await.unwrap()
}

async fn slot_of_tag(cluster: &RedisCluster) -> u16 {
    let client = redis::Client::open(cluster.nodes()[0].redis().url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CLUSTER").arg("KEYSLOT").arg(TAG).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_cluster_serves_keys_on_every_primary() {
    let cluster = redis_cluster().await.unwrap();
    assert_eq!(cluster.nodes().len(), 6);
    let mut connection = connect(&cluster).await;
    for number in 0..100 {
        let () = connection.set(format!("key:{number}"), number).await.unwrap();
    }
    for number in 0..100 {
        let value: u32 = connection.get(format!("key:{number}")).await.unwrap();
        assert_eq!(value, number);
    }
    for primary in &cluster.nodes()[..3] {
        let client = redis::Client::open(primary.redis().url()).unwrap();
        let mut direct = client.get_multiplexed_async_connection().await.unwrap();
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut direct).await.unwrap();
        assert!(keys > 0, "{} has no key", primary.id());
    }
}

#[tokio::test]
async fn an_orderly_failover_moves_the_slot_and_keeps_the_keys() {
    let cluster = redis_cluster().await.unwrap();
    let slot = slot_of_tag(&cluster).await;
    let mut connection = connect(&cluster).await;
    let () = connection.set(TAG, "kept").await.unwrap();
    let before = cluster.primary_of(slot).await.unwrap().id().to_owned();
    let after = cluster.fail_over(slot).await.unwrap();
    assert_ne!(after.id(), before);
    assert_eq!(cluster.primary_of(slot).await.unwrap().id(), after.id());
    let value: String = connection.get(TAG).await.unwrap();
    assert_eq!(value, "kept");
}

#[tokio::test]
async fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let cluster = redis_cluster().await.unwrap();
    let slot = slot_of_tag(&cluster).await;
    let killed = cluster.kill_primary_of(slot).await.unwrap();
    cluster.wait_healthy().await.unwrap();
    let heir = cluster.primary_of(slot).await.unwrap();
    assert_ne!(heir.id(), killed.id());
    killed.redis().restart().await.unwrap();
    crate::wait_until("the old primary to follow the new one", || async {
        cluster.replica_of(slot).await.is_ok_and(|replica| replica.id() == killed.id())
    })
    .await;
}

#[tokio::test]
async fn a_slot_on_the_move_answers_with_ask_and_arrives_complete() {
    let cluster = redis_cluster().await.unwrap();
    let slot = slot_of_tag(&cluster).await;
    let mut connection = connect(&cluster).await;
    for number in 0..250 {
        let () = connection.set(format!("{TAG}:{number}"), number).await.unwrap();
    }
    let from = cluster.primary_of(slot).await.unwrap();
    let to = cluster.nodes()[..3].iter().find(|node| node.id() != from.id()).unwrap();

    let moving = cluster.begin_slot_move(slot, to).await.unwrap();
    assert_eq!(moving.move_keys(100).await.unwrap(), 100);
    let client = redis::Client::open(from.redis().url()).unwrap();
    let mut direct = client.get_multiplexed_async_connection().await.unwrap();
    let mut asked = 0;
    for number in 0..250 {
        let answer: redis::RedisResult<u32> = direct.get(format!("{TAG}:{number}")).await;
        match answer {
            Ok(value) => assert_eq!(value, number),
            Err(error) => {
                assert_eq!(error.code(), Some("ASK"), "{error}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 100);

    while moving.move_keys(100).await.unwrap() > 0 {}
    moving.finish().await.unwrap();
    cluster.wait_healthy().await.unwrap();
    assert_eq!(cluster.primary_of(slot).await.unwrap().id(), to.id());
    for number in 0..250 {
        let value: u32 = connection.get(format!("{TAG}:{number}")).await.unwrap();
        assert_eq!(value, number);
    }
}
