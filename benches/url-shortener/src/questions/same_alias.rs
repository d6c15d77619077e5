//! Two servers create the same alias.

use std::sync::Arc;
use std::time::Duration;

use url_shortener::Error;
use url_shortener::codes::Scheme;
use url_shortener::lookup::{Found, Lookup as _};
use url_shortener::store::postgres::{Postgres, SCHEMA};

use super::{owner, shortener, wish};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "same-alias",
        asks: "Two servers create the same alias at the same moment. Who gets it?",
        explanation: "Whoever's INSERT reaches the unique index first; the other one waits for \
            that transaction, and when it commits gets nothing back (ON CONFLICT DO NOTHING) and \
            answers 409. A SELECT before the INSERT would find nothing at both servers, and \
            SELECT .. FOR UPDATE locks nothing that is not there. The loser's index learns the \
            winner's link from the notification of its commit.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let server = infra::postgres().await?;
    let database = server.database("url_shortener", SCHEMA).await?;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let store = Arc::new(Postgres::connect(database.url()).await?);
        servers.push(shortener(store, Scheme::Feistel, 7).await?);
    }
    let rounds = stage.pick(10, 100);
    stage.scene(format!("2 servers, one Postgres {}, {rounds} aliases", server.version()));
    stage.load("64 creates of each alias at once, half of them at each server");
    let (mut winners, mut taken, mut other) = (0, 0, 0);
    for round in 0..rounds {
        let alias = format!("alias-{round}");
        let racing = (0..64).map(|racer| {
            let (server, _) = &servers[racer % 2];
            let (server, alias) = (Arc::clone(server), alias.clone());
            tokio::spawn(async move {
                let wish = wish(&format!("https://example.com/{racer}"), Some(&alias))?;
                Ok::<_, anyhow::Error>(server.create(&owner(), wish, None, |_| vec![]).await)
            })
        });
        for racer in racing.collect::<Vec<_>>() {
            match racer.await?? {
                Ok(_) => winners += 1,
                Err(Error::Taken(_)) => taken += 1,
                Err(_) => other += 1,
            }
        }
    }
    stage.expect("each alias has one winner", winners == rounds, winners);
    stage.expect("the others are told that it is taken", taken == 63 * rounds, taken);
    stage.expect("nobody gets any other error", other == 0, other);
    let mut agree = false;
    for _ in 0..100 {
        let target = |server: usize| {
            servers[server].0.lookup().find_now("alias-0", |entry| entry.target.to_owned())
        };
        agree = matches!(target(0), Found::Here(_)) && target(0) == target(1);
        if agree {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.expect("both servers redirect to the winner's target", agree, agree);
    stage.because("uniqueness is a constraint of the store, not a check before the insert");
    Ok(())
}
