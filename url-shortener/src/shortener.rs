//! The service: the parts put together, without HTTP.
//!
//! A write goes to the store first, to the index second, to the client third. So a client that was
//! answered finds its link at once, and a crash between two of these steps loses nothing that was
//! promised.
//!
//! Trap: a client that hangs up drops the future of its request, wherever that waits. Between the
//! store and the index this would leave a committed link that nobody can follow until the next
//! start, so these two steps run in a task of their own (`Shortener::complete`).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::{Clock, Shutdown};
use sha2::{Digest, Sha256};

use crate::clicks::pipeline::Pipeline;
use crate::clicks::ring::Click;
use crate::clicks::{Day, DayTally};
use crate::code::{Code, from_base62};
use crate::codes::feistel::Permutation;
use crate::codes::{AnyCodes, Codes, Draw, Scheme, random::Random};
use crate::index::Index;
use crate::keys::KeyRing;
use crate::link::{
    BATCH_LINKS_MAX, Change, Created, Creation, Entry, Error, Link, LinkId, Listing, Once, Owner,
    Redirect, State, Terms, Version,
};
use crate::lookup::{AnyLookup, Found, Lookup as _};
use crate::recent::Recent;
use crate::redirect::{Decision, decide};
use crate::store::Store;
use crate::target_url::{TargetUrl, UrlPolicy};
use crate::turns::give_way;

/// Codes drawn for one link before giving up. With a code space that is half full, one create in
/// 65,000 needs more.
pub const ATTEMPTS_MAX: u32 = 16;

/// Rows of an import that are worked on in one turn.
pub(crate) const ROWS_PER_TURN: usize = 32;

/// How often keys are read again and the store does its chores.
const CHORES_EVERY: Duration = Duration::from_secs(1);

/// Pause before listening for the changes of other servers again.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What can be chosen at the start.
#[derive(Clone, Debug)]
pub struct Options {
    /// What targets must be.
    pub policy: UrlPolicy,
    /// Which codes links get.
    pub scheme: Scheme,
    /// How long they are.
    pub code_length: usize,
    /// Whether a redirect waits until its click is as durable as the store is.
    pub durable_clicks: bool,
    /// Bytes of links in memory, the others are asked for; `None` for all of them.
    pub recent_bytes: Option<u64>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: UrlPolicy::default(),
            scheme: Scheme::default(),
            code_length: 7,
            durable_clicks: false,
            recent_bytes: None,
            clock: Clock::system(),
        }
    }
}

/// A link somebody wants: everything checked, the code not drawn yet.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Where it leads.
    pub target: TargetUrl,
    /// The code, if it must be this one.
    pub alias: Option<Code>,
    /// See [`Terms`].
    pub expires_at_ms: Option<u64>,
    /// See [`Terms`].
    pub max_visits: Option<u32>,
    /// See [`Terms`].
    pub redirect: Redirect,
    /// See [`Terms`].
    pub tags: Vec<String>,
    /// See [`Terms`].
    pub unlisted: bool,
}

/// An `Idempotency-Key` and the fingerprint of the request it came with.
#[derive(Clone, Debug)]
pub struct OnceKey {
    /// The key.
    pub key: String,
    /// The fingerprint.
    pub fingerprint: [u8; 32],
}

/// What a create is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The link's code.
    pub code: Code,
    /// What was rendered when the link was created.
    pub reply: Vec<u8>,
    /// Whether that was an earlier request.
    pub replayed: bool,
}

/// What is known about who follows a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visit<'a> {
    /// The visitor's address.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, empty when there is none.
    pub agent: &'a str,
    /// Its `Referer`.
    pub referer: Option<&'a str>,
}

/// The shortener over one store.
pub struct Shortener<S> {
    store: Arc<S>,
    lookup: AnyLookup,
    codes: AnyCodes<S>,
    unlisted: Random,
    clicks: Pipeline<S>,
    keys: KeyRing,
    options: Options,
    in_flight: Mutex<HashSet<(Owner, String)>>,
    cursors: Permutation,
}

impl<S: Store> Shortener<S> {
    /// Loads all links of `store`, unless only the recent ones are to be held, and is ready.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer, [`Error::Invalid`] for a code length
    /// that the scheme cannot have.
    pub async fn start(store: Arc<S>, options: Options) -> Result<Arc<Self>, Error> {
        let (scheme, length) = (options.scheme, options.code_length);
        let codes = AnyCodes::new(scheme, length, &store, options.clock.clone()).await?;
        let secret = store.secret().await?;
        let clicks = Pipeline::new(Arc::clone(&store), &secret);
        let cursor_key = Sha256::new().chain_update(b"cursors").chain_update(secret).finalize();
        let lookup = match options.recent_bytes {
            None => AnyLookup::All(Index::default()),
            Some(bytes) => AnyLookup::Recent(Recent::new(bytes)),
        };
        let shortener = Arc::new(Self {
            store,
            lookup,
            codes,
            unlisted: Random::unlisted(),
            clicks,
            keys: KeyRing::default(),
            options,
            in_flight: Mutex::default(),
            cursors: Permutation::new(&cursor_key.into(), 1 << 32),
        });
        if shortener.lookup.wants_all() {
            let filled = Arc::clone(&shortener);
            shortener.store.load(move |entry| filled.lookup.apply(entry)).await?;
        }
        shortener.keys.replace(shortener.store.keys().await?);
        Ok(shortener)
    }

    /// Starts what runs beside the requests, until `shutdown`: committing clicks, and chores.
    pub fn run(self: &Arc<Self>, shutdown: &Shutdown) {
        let (this, closing) = (Arc::clone(self), shutdown.closing());
        tokio::spawn(async move { this.clicks.run(closing).await });
        let (this, closing) = (Arc::clone(self), shutdown.closing());
        tokio::spawn(closing.run_until_cancelled_owned(async move {
            let mut every = tokio::time::interval(CHORES_EVERY);
            loop {
                every.tick().await;
                if let Err(error) = this.chores().await {
                    tracing::warn!(%error, "chores are put off");
                }
            }
        }));
        let (this, closing) = (Arc::clone(self), shutdown.closing());
        tokio::spawn(closing.run_until_cancelled_owned(async move {
            loop {
                if let Err(error) = this.store.watch(|entry| this.lookup.apply(entry)).await {
                    tracing::warn!(%error, "changes of other servers are missed until it is back");
                    tokio::time::sleep(WATCH_AGAIN_AFTER).await;
                }
            }
        }));
        let this = Arc::clone(self);
        // After the last redirect was answered: what it left behind is committed, too.
        shutdown.on_drained("clicks", async move {
            if let Err(error) = this.clicks.flush().await {
                tracing::error!(%error, "the last clicks are lost");
            }
        });
    }

    async fn chores(&self) -> Result<(), Error> {
        self.store.housekeep(self.now_ms()).await?;
        self.keys.replace(self.store.keys().await?);
        Ok(())
    }

    /// Creates one link. With `once`, a repeat of the same request gets the same reply; `render`
    /// makes the reply of a new link.
    ///
    /// # Errors
    /// [`Error::Taken`] for an alias, [`Error::KeyReused`], [`Error::KeyInFlight`],
    /// [`Error::NoFreeCode`], [`Error::Unavailable`].
    pub async fn create(
        self: &Arc<Self>,
        owner: &Owner,
        wish: Wish,
        once: Option<OnceKey>,
        render: impl Fn(&Terms) -> Vec<u8> + Send,
    ) -> Result<Reply, Error> {
        let _place = once.as_ref().map(|once| self.enter(owner, &once.key)).transpose()?;
        for attempt in 0..ATTEMPTS_MAX {
            let terms = self.terms(owner, &wish, attempt).await?;
            let reply = render(&terms);
            let once = once.clone().map(|OnceKey { key, fingerprint }| Once {
                key,
                fingerprint,
                reply: reply.clone(),
            });
            match self.commit(vec![Creation { terms, once }]).await?.pop() {
                Some(Ok(Created::New(link))) => {
                    return Ok(Reply { code: link.terms.code, reply, replayed: false });
                }
                Some(Ok(Created::Replayed { code, reply })) => {
                    return Ok(Reply { code, reply, replayed: true });
                }
                // Somebody has it, perhaps as an alias: another draw gives another code.
                Some(Err(Error::Taken(_))) if wish.alias.is_none() => {
                    metrics::counter!("url_shortener_codes_redrawn_total").increment(1);
                }
                Some(Err(error)) => return Err(error),
                None => unreachable!("a store answers every row"),
            }
        }
        Err(Error::NoFreeCode { attempts: ATTEMPTS_MAX })
    }

    /// Creates many links, each by itself, up to [`BATCH_LINKS_MAX`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] for all of them.
    pub async fn create_many(
        self: &Arc<Self>,
        owner: &Owner,
        wishes: Vec<Wish>,
    ) -> Result<Vec<Result<Link, Error>>, Error> {
        assert!(wishes.len() <= BATCH_LINKS_MAX, "the caller cuts batches");
        let mut results: Vec<Option<Result<Link, Error>>> = wishes.iter().map(|_| None).collect();
        for attempt in 0..ATTEMPTS_MAX {
            let open: Vec<usize> =
                (0..wishes.len()).filter(|row| results[*row].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let mut batch = Vec::with_capacity(open.len());
            for row in &open {
                give_way(*row, ROWS_PER_TURN).await;
                let terms = self.terms(owner, &wishes[*row], attempt).await?;
                batch.push(Creation { terms, once: None });
            }
            for (row, created) in open.into_iter().zip(self.commit(batch).await?) {
                results[row] = match created {
                    Ok(Created::New(link)) => Some(Ok(*link)),
                    Err(Error::Taken(_)) if wishes[row].alias.is_none() => None,
                    Err(error) => Some(Err(error)),
                    Ok(Created::Replayed { .. }) => unreachable!("no row has a key"),
                };
            }
        }
        let full = || Err(Error::NoFreeCode { attempts: ATTEMPTS_MAX });
        Ok(results.into_iter().map(|result| result.unwrap_or_else(full)).collect())
    }

    async fn commit(
        self: &Arc<Self>,
        batch: Vec<Creation>,
    ) -> Result<Vec<Result<Created, Error>>, Error> {
        let this = Arc::clone(self);
        self.complete(async move {
            let created = this.store.create(batch).await?;
            for (row, created) in created.iter().enumerate() {
                give_way(row, ROWS_PER_TURN).await;
                if let Ok(Created::New(link)) = created {
                    this.lookup.apply(link.entry());
                }
            }
            Ok(created)
        })
        .await
    }

    /// Runs `steps` to their end, also when the caller is dropped while it waits.
    async fn complete<T: Send + 'static>(
        &self,
        steps: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        tokio::spawn(steps)
            .await
            .unwrap_or_else(|error| Err(Error::unavailable("a task of this service", error)))
    }

    /// Marks a request as in flight; the mark goes when the place is dropped.
    fn enter(&self, owner: &Owner, key: &str) -> Result<Place<'_, S>, Error> {
        let of = (owner.clone(), key.to_owned());
        match self.in_flight.lock().insert(of.clone()) {
            true => Ok(Place { shortener: self, of }),
            false => Err(Error::KeyInFlight),
        }
    }

    async fn terms(&self, owner: &Owner, wish: &Wish, attempt: u32) -> Result<Terms, Error> {
        let code = match &wish.alias {
            Some(alias) => alias.clone(),
            None => self.draw(wish, attempt).await?,
        };
        Ok(Terms {
            code,
            target: wish.target.clone(),
            owner: owner.clone(),
            created_at_ms: self.now_ms(),
            expires_at_ms: wish.expires_at_ms,
            max_visits: wish.max_visits,
            redirect: wish.redirect,
            tags: wish.tags.clone(),
            unlisted: wish.unlisted,
        })
    }

    async fn draw(&self, wish: &Wish, attempt: u32) -> Result<Code, Error> {
        for reserved in 0..ATTEMPTS_MAX {
            let draw = Draw { target: wish.target.as_str(), attempt: attempt + reserved };
            let code = match wish.unlisted {
                true => self.unlisted.draw(draw).await?,
                false => self.codes.draw(draw).await?,
            };
            if !code.is_reserved() {
                return Ok(code);
            }
        }
        Err(Error::NoFreeCode { attempts: ATTEMPTS_MAX })
    }

    /// See [`Links::get`](crate::link::Links::get).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        self.store.get(owner, code).await
    }

    /// See [`Links::list`](crate::link::Links::list).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        self.store.list(owner, listing).await
    }

    /// See [`Links::update`](crate::link::Links::update); redirects follow before this returns.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn update(
        self: &Arc<Self>,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Link, Error> {
        let (this, owner, code) = (Arc::clone(self), owner.clone(), code.clone());
        self.complete(async move {
            let link = this.store.update(&owner, &code, expected, change).await?;
            this.lookup.apply(link.entry());
            Ok(link)
        })
        .await
    }

    /// See [`Links::delete`](crate::link::Links::delete); redirects stop before this returns.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(
        self: &Arc<Self>,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<(), Error> {
        let (this, owner, code) = (Arc::clone(self), owner.clone(), code.clone());
        self.complete(async move {
            let link = this.store.delete(&owner, &code, expected).await?;
            this.lookup.apply(Entry { state: State::Deleted, target: "", ..link.entry() });
            Ok(())
        })
        .await
    }

    /// Where a page ended, for the client to come back with. Permuted, because the number itself
    /// would tell how many links there are.
    pub fn cursor(&self, last: LinkId) -> String {
        Code::base62(self.cursors.apply(last.0.into()), 6).to_string()
    }

    /// The link a cursor stands for.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field `cursor`.
    pub fn cursor_end(&self, cursor: &str) -> Result<LinkId, Error> {
        let number = (cursor.len() == 6).then(|| from_base62(cursor)).flatten();
        match number.filter(|number| *number < 1 << 32) {
            Some(number) => Ok(LinkId(self.cursors.invert(number) as u32)),
            None => Err(Error::invalid("cursor", "is not one that a page ended with")),
        }
    }

    /// The clicks of a link by day; those of the last moments may not be among them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn clicks(&self, owner: &Owner, code: &Code) -> Result<Vec<(Day, DayTally)>, Error> {
        let link = self.store.get(owner, code).await?;
        self.store.clicks(link.id).await
    }

    /// The redirect that needs nobody: `found` gets status and target. `None` when it takes
    /// [`follow`](Self::follow), because the link is limited, does not redirect, is not in memory,
    /// or clicks are durable.
    ///
    /// # Cost
    /// Memory only: an index lookup, the policy, and a click in a ring.
    pub fn follow_now<T>(
        &self,
        code: &str,
        visit: Option<Visit<'_>>,
        found: impl FnOnce(Redirect, &str) -> T,
    ) -> Option<T> {
        if self.options.durable_clicks {
            return None;
        }
        let now_ms = self.now_ms();
        let go = |entry: Entry<'_>| {
            (decide(entry, now_ms, &self.options.policy) == Decision::Go)
                .then(|| (found(entry.redirect, entry.target), entry.id))
        };
        let Found::Here(Some((answer, link))) = self.lookup.find_now(code, go) else { return None };
        if let Some(visit) = visit {
            self.clicks.record(self.click(link, now_ms, visit));
        }
        Some(answer)
    }

    /// Any redirect: charges a limited link and, in durable mode, waits for the click. Without a
    /// visit (a HEAD request) nothing is charged or counted.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Gone`], [`Error::Unavailable`].
    pub async fn follow(
        &self,
        code: &str,
        visit: Option<Visit<'_>>,
    ) -> Result<(Redirect, TargetUrl), Error> {
        let (now_ms, code) = (self.now_ms(), Code::parse(code)?);
        let read = |entry: Entry<'_>| {
            let target = TargetUrl::stored(entry.target.to_owned());
            (decide(entry, now_ms, &self.options.policy), entry.id, entry.redirect, target)
        };
        let found = self.lookup.find(&code, || self.store.look_up(&code), read).await?;
        let Some((decision, link, redirect, target)) = found else {
            return Err(Error::NotFound(code));
        };
        if let Some(refusal) = decision.refusal(&code) {
            return Err(refusal);
        }
        if decision == Decision::Charge {
            self.store.visit(&code, visit.is_none()).await?;
        }
        if let Some(visit) = visit {
            let click = self.click(link, now_ms, visit);
            match self.options.durable_clicks {
                true => self.clicks.record_durably(click).await?,
                false => self.clicks.record(click),
            }
        }
        Ok((redirect, target))
    }

    fn click(&self, link: LinkId, now_ms: u64, visit: Visit<'_>) -> Click {
        let words = self.clicks.words();
        Click {
            link,
            day: Day::of(now_ms),
            browser: words.browser(visit.agent),
            host: words.host(visit.referer),
            visitor: words.visitor(visit.address, visit.agent),
        }
    }

    /// Commits all clicks recorded so far.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; they are kept.
    pub async fn flush_clicks(&self) -> Result<(), Error> {
        self.clicks.flush().await
    }

    /// The keys that open the API.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The store behind it all.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// What redirects read.
    pub fn lookup(&self) -> &AnyLookup {
        &self.lookup
    }

    /// What targets must be.
    pub fn policy(&self) -> &UrlPolicy {
        &self.options.policy
    }

    /// The time now.
    pub fn now_ms(&self) -> u64 {
        self.options.clock.now_ms()
    }
}

struct Place<'a, S> {
    shortener: &'a Shortener<S>,
    of: (Owner, String),
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        self.shortener.in_flight.lock().remove(&self.of);
    }
}
