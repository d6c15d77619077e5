//! 301 or 302?

use std::collections::HashMap;
use std::sync::Arc;

use url_shortener::codes::Scheme;
use url_shortener::link::{Change, Redirect};
use url_shortener::store::memory::Memory;
use url_shortener::{Shortener, TargetUrl};

use super::{clicks, create, owner, person, shortener};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "301-or-302",
        asks: "Do you answer 301 or 302, and what does it change?",
        explanation: "A 301 may be kept by the browser: it is faster the second time, and then the \
            shortener sees neither the click nor the chance to send the visitor elsewhere. Without \
            a max-age it may be kept for ever. A 302 with max-age=0 is asked for each time: every \
            click counts and every edit takes effect. So 302 is the default, and who chooses 301 \
            gets a bounded max-age.",
        run: |stage| Box::pin(run(stage)),
    }
}

/// A browser that keeps permanent redirects.
#[derive(Default)]
struct Browser {
    kept: HashMap<String, String>,
}

impl Browser {
    async fn visit(&mut self, shortener: &Shortener<Memory>, code: &str) -> anyhow::Result<String> {
        if let Some(target) = self.kept.get(code) {
            return Ok(target.clone());
        }
        let (redirect, target) = shortener.follow(code, Some(person())).await?;
        if redirect.is_permanent() {
            self.kept.insert(code.to_owned(), target.as_str().to_owned());
        }
        Ok(target.as_str().to_owned())
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let (shortener, _shutdown) = shortener(Arc::<Memory>::default(), Scheme::Feistel, 7).await?;
    stage.scene("two links to the same page, 10 browsers, 10 visits each; then the page moves");
    for (redirect, counted, moved) in
        [(Redirect::Found, 100, 10), (Redirect::MovedPermanently, 10, 0)]
    {
        let code = create(&shortener, "https://example.com/old", None).await?;
        let change = Change { redirect: Some(redirect), ..Change::default() };
        shortener.update(&owner(), &code, None, change).await?;
        let mut browsers: Vec<Browser> = (0..10).map(|_| Browser::default()).collect();
        for browser in &mut browsers {
            for _ in 0..10 {
                browser.visit(&shortener, code.as_str()).await?;
            }
        }
        shortener.flush_clicks().await?;
        let status = redirect.status();
        let seen = clicks(&shortener, &code).await?;
        stage.expect(
            format!("{status}: visits the shortener counted, of 100"),
            seen == counted,
            seen,
        );
        let target = Some(TargetUrl::stored("https://example.com/new".to_owned()));
        shortener.update(&owner(), &code, None, Change { target, ..Change::default() }).await?;
        let mut arrived = 0;
        for browser in &mut browsers {
            let at = browser.visit(&shortener, code.as_str()).await?;
            arrived += u32::from(at == "https://example.com/new");
        }
        stage.expect(
            format!("{status}: browsers that follow the edit, of 10"),
            arrived == moved,
            arrived,
        );
    }
    stage.because("a browser that kept a redirect does not ask, and who is not asked can neither count nor correct");
    Ok(())
}
