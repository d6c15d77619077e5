//! A client that hangs up in the middle of a create leaves nothing half done.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use url_shortener::link::{Owner, Redirect};
use url_shortener::shortener::{Options, Wish};
use url_shortener::store::sqlite::Sqlite;
use url_shortener::{Code, Shortener, TargetUrl};

#[tokio::test]
async fn a_link_whose_creator_hung_up_can_be_followed_or_does_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&directory.path().join("links.db")).unwrap());
    let shortener = Shortener::start(store, Options::default()).await.unwrap();
    let wish = Wish {
        target: TargetUrl::stored("https://example.com/".to_owned()),
        alias: Some(Code::parse("hung-up").unwrap()),
        expires_at_ms: None,
        max_visits: None,
        redirect: Redirect::Found,
        tags: vec![],
        unlisted: false,
    };
    let owner = Owner("o".to_owned());
    {
        // Polled once, so that the write is on its way; then dropped, as hyper does.
        let mut create = pin!(shortener.create(&owner, wish, None, |_| vec![]));
        assert!(create.as_mut().now_or_never().is_none(), "a commit takes time");
    }
    testkit::wait_until("the commit is through", Duration::from_secs(5), || async {
        shortener.get(&owner, &Code::parse("hung-up").unwrap()).await.is_ok()
    })
    .await;
    testkit::wait_until("and the index knows it", Duration::from_secs(5), || async {
        shortener.follow("hung-up", None).await.is_ok()
    })
    .await;
}
