//! Where a server comes from, in processes with an environment of their own.

use crate::orphans::open_directory;
use crate::victim::Victim;

#[tokio::test]
async fn a_given_url_is_used_and_left_alone() {
    let server = infra::redis().await.unwrap();
    let postgres = infra::postgres().await.unwrap();
    let directory = open_directory();
    let environment = [("INFRA_REDIS_URL", server.url()), ("INFRA_POSTGRES_URL", postgres.url())];
    let mut process = Victim::start("resolution", directory.path(), &environment);
    assert_eq!(process.next(), server.url());
    let refused = process.next();
    assert!(refused.contains("cannot kill this Redis: it was given by URL"), "{refused}");
    assert_eq!(process.next(), postgres.url());
    let found = process.next();
    let expected = "redis: given by INFRA_REDIS_URL, postgres: given by INFRA_POSTGRES_URL";
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_missing_redis_names_the_install_command() {
    let directory = open_directory();
    let nowhere = directory.path().join("nowhere");
    let environment = [("PATH", nowhere.to_str().unwrap())];
    let mut process = Victim::start("resolution", directory.path(), &environment);
    let missing = process.next();
    for words in
        ["no Redis here", "cargo x setup", "apt-get install redis-server", "INFRA_REDIS_URL="]
    {
        assert!(missing.contains(words), "{words:?} is missing in: {missing}");
    }
}

#[tokio::test]
async fn what_is_found_is_what_is_handed_out() {
    let found = infra::found().await;
    let server = infra::redis().await.unwrap();
    let postgres = infra::postgres().await.unwrap();
    if let infra::Presence::Installed { version, .. } = &found.redis {
        assert_eq!(version, server.version());
    }
    if let infra::Presence::Installed { version, .. } = &found.postgres {
        assert_eq!(version, postgres.version());
    }
    assert!(found.redis.is_usable() && found.postgres.is_usable());
}
