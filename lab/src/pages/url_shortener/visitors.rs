//! One visit of the page's traffic: who comes from where, what the answer was, and now and then an
//! answer kept to be shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{REFERER, USER_AGENT};
use benches::harness::{Outcome, Shot};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::Problem;
use tokio::time::Instant;

use crate::exchange::Answer;
use crate::traffic::{Loopback, RATE_MAX, Traffic};

/// More people than this need more than ten minutes to come.
const PEOPLE_MAX: u32 = 100_000;
/// How often an answer is kept to be shown.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

const BROWSERS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36 Edg/142.0",
];
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const REFERRERS: [Option<&str>; 4] = [
    None,
    Some("https://news.example/item/1"),
    Some("https://social.example/@somebody"),
    Some("https://mail.example/"),
];

/// The form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) code: String,
    pub(super) visits_per_s: u32,
    pub(super) people: u32,
    /// How much of the traffic comes from programs.
    pub(super) bot_percent: u8,
}

impl Settings {
    /// # Errors
    /// 422 naming the first field at fault.
    pub(super) fn check(&self) -> Result<(), Problem> {
        for (field, value, min, max) in [
            ("visits_per_s", self.visits_per_s, 1, RATE_MAX),
            ("people", self.people, 1, PEOPLE_MAX),
            ("bot_percent", self.bot_percent.into(), 0, 100),
        ] {
            if !(min..=max).contains(&value) {
                let rule = format!("must be {min} to {max}, not {value}");
                return Err(Problem::invalid(format!("/{field}"), rule));
            }
        }
        Ok(())
    }
}

/// Sends visitors and keeps an answer now and then.
#[derive(Clone)]
pub(super) struct Visitors {
    client: Loopback,
    traffic: Traffic,
    shown: Arc<Mutex<Option<Instant>>>,
}

impl Visitors {
    /// To the lab at `address`.
    pub(super) fn new(address: SocketAddr, traffic: Traffic) -> Self {
        Self { client: Loopback::new(address), traffic, shown: Arc::default() }
    }

    /// The operation that the traffic repeats.
    pub(super) fn op(
        &self,
        settings: &Settings,
    ) -> impl Fn(Shot) -> BoxFuture<'static, Outcome> + Send + Sync + use<> {
        *self.shown.lock() = None;
        let (this, settings) = (self.clone(), settings.clone());
        let path = format!("/url-shortener/{}", settings.code);
        move |shot| {
            let (this, path, mut rng) = (this.clone(), path.clone(), shot.rng());
            let is_bot = rng.u8(..100) < settings.bot_percent;
            let person = rng.u32(..settings.people);
            let browser = BROWSERS[person as usize % BROWSERS.len()];
            // All come from this address: what tells people apart here is their browser's name.
            let agent = match is_bot {
                true => BOT.to_owned(),
                false => format!("{browser} person/{person}"),
            };
            let referrer = REFERRERS[rng.usize(..REFERRERS.len())];
            Box::pin(async move { this.visit(&path, &agent, referrer).await })
        }
    }

    async fn visit(self, path: &str, agent: &str, referrer: Option<&str>) -> Outcome {
        let referrer = referrer.map(|from| (REFERER.as_str(), from));
        let headers: Vec<_> = [(USER_AGENT.as_str(), agent)].into_iter().chain(referrer).collect();
        let answer = self.client.get(path, &headers).await?;
        self.show(path, &headers, &answer);
        match answer.status.as_u16() {
            301 | 302 | 307 | 308 => Ok("redirected"),
            410 => Ok("gone"),
            404 => Ok("unknown"),
            500.. => Err("server error"),
            _ => Err("refused"),
        }
    }

    /// Shows an answer, unless one was shown a moment ago.
    fn show(&self, path: &str, sent: &[(&str, &str)], answer: &Answer) {
        let now = Instant::now();
        let mut last = self.shown.lock();
        if last.is_some_and(|last| now - last < SHOWN_EVERY) {
            return;
        }
        *last = Some(now);
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| {
                [name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
            })
            .collect();
        let response = json!({
            "request": format!("GET {path}"),
            "sent": sent,
            "status": answer.status.as_u16(),
            "reason": answer.status.canonical_reason(),
            "headers": headers,
            "body": String::from_utf8_lossy(&answer.body),
        });
        self.traffic.note("answer", response);
    }
}
