//! An interviewer's follow-up questions about the URL shortener.

mod database_down;
mod same_alias;
mod scanner;
mod schemes;
mod status;
mod viral;

use std::sync::Arc;

use service::Shutdown;
use url_shortener::codes::Scheme;
use url_shortener::link::{Owner, Redirect};
use url_shortener::shortener::{Options, Visit, Wish};
use url_shortener::{Code, Shortener, Store, TargetUrl};

use measure::Question;

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        schemes::question(),
        status::question(),
        viral::question(),
        database_down::question(),
        scanner::question(),
        same_alias::question(),
    ]
}

const FIREFOX: &str = "Mozilla/5.0 (X11; rv:144.0) Gecko/20100101 Firefox/144.0";

fn owner() -> Owner {
    Owner("interviewer".to_owned())
}

fn person() -> Visit<'static> {
    Visit { address: None, agent: FIREFOX, referer: None }
}

fn wish(target: &str, alias: Option<&str>) -> anyhow::Result<Wish> {
    Ok(Wish {
        target: TargetUrl::parse(target, &url_shortener::UrlPolicy::default())?,
        alias: alias.map(Code::alias).transpose()?,
        expires_at_ms: None,
        max_visits: None,
        redirect: Redirect::Found,
        tags: vec![],
        unlisted: false,
    })
}

/// A shortener over this store, with everything that runs beside the requests.
async fn shortener<S: Store>(
    store: Arc<S>,
    scheme: Scheme,
    code_length: usize,
) -> anyhow::Result<(Arc<Shortener<S>>, Shutdown)> {
    let options = Options { scheme, code_length, ..Options::default() };
    let (shortener, shutdown) = (Shortener::start(store, options).await?, Shutdown::new());
    shortener.run(&shutdown);
    Ok((shortener, shutdown))
}

async fn create<S: Store>(
    shortener: &Arc<Shortener<S>>,
    target: &str,
    alias: Option<&str>,
) -> anyhow::Result<Code> {
    Ok(shortener.create(&owner(), wish(target, alias)?, None, |_| vec![]).await?.code)
}

async fn clicks<S: Store>(shortener: &Shortener<S>, code: &Code) -> anyhow::Result<u64> {
    let days = shortener.clicks(&owner(), code).await?;
    Ok(days.iter().map(|(_, day)| day.clicks).sum())
}
