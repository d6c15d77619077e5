//! The database is down.

use std::sync::Arc;

use url_shortener::codes::Scheme;
use url_shortener::store::postgres::{Postgres, SCHEMA};

use faultline::Proxy;

use super::{clicks, create, person, shortener};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "database-down",
        asks: "The database is down. What still works, and what is lost?",
        explanation: "Redirects read an index in memory, so they do not notice. Creates are \
            refused, because a link that is not on disk must not be promised. Clicks wait in \
            memory, folded by link and day, so an hour of them takes no more space than a minute; \
            when the database is back they are committed under the number they were first sent \
            with, so that an answer that got lost counts nothing twice. Only links with a limited \
            number of visits stop: that number is exact only where it is kept.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let server = infra::postgres().await?;
    let database = server.database("url_shortener", SCHEMA).await?;
    let proxy = Proxy::start(database.url()).await?;
    let store = Arc::new(Postgres::connect(&proxy.url_of(database.url())).await?);
    let (shortener, _shutdown) = shortener(store, Scheme::Feistel, 7).await?;
    stage.scene(format!("one server, Postgres {} behind a proxy, one link", server.version()));
    let code = create(&shortener, "https://example.com/", None).await?;
    let visits = stage.pick(10_000, 100_000);
    let follow = |count: u64| {
        let followed = (0..count)
            .filter(|_| shortener.follow_now(code.as_str(), Some(person()), |_, _| ()).is_some());
        followed.count() as u64
    };
    follow(visits);
    shortener.flush_clicks().await?;
    stage.fault("postgres-down", "the connections are cut, new ones are refused");
    proxy.cut();
    let during = follow(visits);
    stage.expect("redirects while it is down", during == visits, format!("{during} of {visits}"));
    let refused = create(&shortener, "https://example.com/2", Some("refused")).await;
    let said = refused.as_ref().err().map_or("created".to_owned(), ToString::to_string);
    stage.expect("a create is refused, not promised", refused.is_err(), said);
    let failed = shortener.flush_clicks().await.is_err();
    stage.expect("clicks cannot be committed, and are kept", failed, "the flush failed");
    proxy.heal();
    stage.heal("postgres-down");
    let mut flushed = shortener.flush_clicks().await;
    for _ in 0..20 {
        if flushed.is_ok() {
            break;
        }
        flushed = shortener.flush_clicks().await;
    }
    let counted = clicks(&shortener, &code).await?;
    stage.expect(
        "every click is counted, none twice",
        counted == 2 * visits,
        format!("{counted} of {}", 2 * visits),
    );
    stage.because(
        "the database is a log behind the index: it is needed to promise, not to redirect",
    );
    Ok(())
}
