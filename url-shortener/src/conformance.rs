//! The contracts as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by. [`promises`] are those of a store, [`codes::promises`] those of a
//! generator, [`lookups::promises`] those of what redirects read, each in the order in which an interviewer would probe.

use std::collections::BTreeSet;
use std::sync::Arc;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::ensure;

use crate::code::Code;
use crate::link::{
    Change, Created, Creation, Error, Link, Links, Listing, Once, OwnedEntry, Owner,
    REPLAY_KEPT_MS, Redirect, State, Terms, Version, Why,
};
use crate::store::Store;
use crate::target_url::TargetUrl;

pub mod codes;
mod counting;
pub mod lookups;

use counting::{
    a_batch_of_clicks_counts_once, keys_come_and_go, leased_numbers_are_nobody_elses,
    the_secret_stays, visitors_of_several_batches_are_merged,
};

/// How the suite reaches the store under test.
pub trait Fixture: Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// As many servers as asked for over the same, fresh data.
    fn servers(&self, count: usize) -> impl Future<Output = Vec<Arc<Self::Store>>> + Send;
}

/// What every store promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    testkit::promises! { F;
        a_link_is_found_as_it_was_written => "What was created is read back, field by field.",
        one_code_has_one_winner.on_many_threads() =>
            "Of 64 racing creates of one alias exactly one succeeds, and the others are told why.",
        codes_differ_by_case => "`Ab` and `aB` are different links.",
        a_deleted_code_stays_taken => "Nobody gets a code that was ever printed.",
        a_link_belongs_to_its_owner => "To anybody else a link does not exist.",
        a_stale_version_changes_nothing => "A write that names an old version leaves no trace.",
        concurrent_changes_are_not_lost.on_many_threads() =>
            "Of changes that name the same version exactly one is made.",
        a_change_touches_only_its_fields => "Absent fields stay, cleared ones are cleared.",
        a_repeated_create_answers_the_same_bytes.on_many_threads() =>
            "The same request under one key makes one link, and every caller gets its reply.",
        an_idempotency_key_is_its_owners => "Two owners may use the same key.",
        a_refused_create_is_not_remembered => "A key whose create failed can be used again.",
        replies_are_forgotten_after_a_day_and_not_before => "A key is free again after 24 hours.",
        rows_of_a_batch_stand_alone => "A row that is refused harms no other, and answers keep their order.",
        pages_neither_repeat_nor_skip => "Whatever is created or deleted between two pages.",
        tags_and_search_find_exactly_theirs => "Filters find what they say, also after a change.",
        a_limited_link_admits_exactly_that_many.on_many_threads() =>
            "Of 64 visitors at once, as many get through as visits are left.",
        an_index_sees_every_link => "Loading gives every link, with deleted ones marked.",
        a_batch_of_clicks_counts_once => "However often its commit is repeated.",
        visitors_of_several_batches_are_merged => "Who came twice is one visitor.",
        leased_numbers_are_nobody_elses.on_many_threads() => "No number is leased twice.",
        the_secret_stays.on_many_threads() => "All servers have the same secret, always.",
        keys_come_and_go => "A key that was added is there, a revoked one is not.",
    }
}

fn owner(name: &str) -> Owner {
    Owner(name.to_owned())
}

fn code(text: &str) -> Code {
    Code::parse(text).expect("the suite's own codes are good")
}

fn terms(text: &str) -> Terms {
    Terms {
        code: code(text),
        target: TargetUrl::stored(format!("https://example.com/{text}")),
        owner: owner("ann"),
        created_at_ms: 1_790_000_000_000,
        expires_at_ms: None,
        max_visits: None,
        redirect: Redirect::Found,
        tags: vec![],
        unlisted: false,
    }
}

fn once(key: &str, fingerprint: u8, reply: &str) -> Option<Once> {
    Some(Once { key: key.to_owned(), fingerprint: [fingerprint; 32], reply: reply.into() })
}

fn unexpected(what: &str) -> impl Fn(Error) -> Broken {
    move |error| Broken::because(format!("{what} failed: {error}"))
}

async fn create(store: &impl Store, creation: Creation) -> Result<Result<Created, Error>, Broken> {
    let mut answers = store.create(vec![creation]).await.map_err(unexpected("a create"))?;
    ensure!(answers.len() == 1, "one row got {} answers", answers.len());
    Ok(answers.remove(0))
}

async fn created(store: &impl Store, terms: Terms) -> Result<Link, Broken> {
    match create(store, Creation { terms, once: None }).await? {
        Ok(Created::New(link)) => Ok(*link),
        other => Err(Broken::because(format!("a new link was expected, got {other:?}"))),
    }
}

async fn only<F: Fixture>(fixture: &F) -> Arc<F::Store> {
    fixture.servers(1).await.remove(0)
}

async fn a_link_is_found_as_it_was_written<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let full = Terms {
        expires_at_ms: Some(1_800_000_000_001),
        max_visits: Some(u32::MAX),
        redirect: Redirect::Permanent,
        tags: vec!["b".to_owned(), "ä \"quoted\" %_".to_owned()],
        unlisted: true,
        ..terms("full-1_Z")
    };
    for terms in [terms("plain"), full] {
        let link = created(&*store, terms.clone()).await?;
        ensure!(link.version == Version::FIRST && link.enabled, "a new link was {link:?}");
        let found = store.get(&terms.owner, &terms.code).await.map_err(unexpected("get"))?;
        ensure!(found == link, "{link:?} was created, {found:?} was found");
        ensure!(found.terms == terms, "{terms:?} was asked for, {:?} is stored", found.terms);
    }
    let none = store.get(&owner("ann"), &code("nothing")).await;
    ensure!(matches!(none, Err(Error::NotFound(_))), "an unknown code gave {none:?}");
    Ok(())
}

async fn one_code_has_one_winner<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(4).await;
    for round in 0..4 {
        let alias = format!("race-{round}");
        let racing: Vec<_> = (0..64)
            .map(|racer| {
                let server = Arc::clone(&servers[racer % servers.len()]);
                let target = TargetUrl::stored(format!("https://example.com/{racer}"));
                let creation = Creation { terms: Terms { target, ..terms(&alias) }, once: None };
                tokio::spawn(async move { create(&*server, creation).await })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racing {
            match racer.await.map_err(|error| Broken::because(error.to_string()))?? {
                Ok(Created::New(link)) => winners.push(link.terms.target),
                Err(Error::Taken(taken)) => ensure!(taken == code(&alias), "{taken} was named"),
                other => return Err(Broken::because(format!("a racer got {other:?}"))),
            }
        }
        ensure!(winners.len() == 1, "{} of 64 racing creates succeeded", winners.len());
        let stored = servers[0].get(&owner("ann"), &code(&alias)).await;
        let stored = stored.map_err(unexpected("get"))?.terms.target;
        ensure!(stored == winners[0], "{:?} won and {stored:?} is stored", winners[0]);
    }
    Ok(())
}

async fn codes_differ_by_case<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    created(&*store, terms("Ab")).await?;
    created(&*store, terms("aB")).await?;
    for text in ["Ab", "aB"] {
        let link = store.get(&owner("ann"), &code(text)).await.map_err(unexpected("get"))?;
        ensure!(link.terms == terms(text), "{text} leads to {:?}", link.terms.target);
    }
    let other = store.get(&owner("ann"), &code("AB")).await;
    ensure!(matches!(other, Err(Error::NotFound(_))), "AB was never created and gave {other:?}");
    Ok(())
}

async fn a_deleted_code_stays_taken<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let link = created(&*store, terms("gone")).await?;
    let deleted = store.delete(&owner("ann"), &code("gone"), Some(link.version)).await;
    let deleted = deleted.map_err(unexpected("delete"))?;
    ensure!(deleted.version > link.version, "deleting left the version at {:?}", deleted.version);
    let found = store.get(&owner("ann"), &code("gone")).await;
    ensure!(matches!(found, Err(Error::NotFound(_))), "a deleted link gave {found:?}");
    let again = store.delete(&owner("ann"), &code("gone"), None).await;
    ensure!(matches!(again, Err(Error::NotFound(_))), "deleting it again gave {again:?}");
    let visit = store.visit(&code("gone"), false).await;
    ensure!(matches!(visit, Err(Error::NotFound(_))), "a visit of it gave {visit:?}");
    for next in ["ann", "bob"] {
        let terms = Terms { owner: owner(next), ..terms("gone") };
        let taken = create(&*store, Creation { terms, once: None }).await?;
        ensure!(matches!(taken, Err(Error::Taken(_))), "{next} got the deleted code: {taken:?}");
    }
    Ok(())
}

async fn a_link_belongs_to_its_owner<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let link = created(&*store, terms("mine")).await?;
    let bob = owner("bob");
    let seen = store.get(&bob, &code("mine")).await;
    ensure!(matches!(seen, Err(Error::NotFound(_))), "another owner saw {seen:?}");
    let change = Change { enabled: Some(false), ..Change::default() };
    let changed = store.update(&bob, &code("mine"), None, change).await;
    ensure!(matches!(changed, Err(Error::NotFound(_))), "another owner changed it: {changed:?}");
    let deleted = store.delete(&bob, &code("mine"), None).await;
    ensure!(matches!(deleted, Err(Error::NotFound(_))), "another owner deleted it: {deleted:?}");
    let listed = store.list(&bob, &Listing { limit: 10, ..Listing::default() }).await;
    let listed = listed.map_err(unexpected("list"))?;
    ensure!(listed.is_empty(), "another owner's list holds {listed:?}");
    let still = store.get(&owner("ann"), &code("mine")).await.map_err(unexpected("get"))?;
    ensure!(still == link, "after another owner tried, it is {still:?}");
    Ok(())
}

async fn a_stale_version_changes_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (store, ann) = (only(&*fixture).await, owner("ann"));
    let first = created(&*store, terms("edit")).await?;
    let to = |path: &str| Change {
        target: Some(TargetUrl::stored(format!("https://example.com/{path}"))),
        ..Change::default()
    };
    let second = store.update(&ann, &code("edit"), Some(first.version), to("second")).await;
    let second = second.map_err(unexpected("update"))?;
    ensure!(second.version > first.version, "a change left the version at {:?}", second.version);
    let stale = store.update(&ann, &code("edit"), Some(first.version), to("stale")).await;
    let current = second.version;
    ensure!(
        matches!(stale, Err(Error::VersionMismatch { current: said }) if said == current),
        "a stale update gave {stale:?}; the version is {current:?}"
    );
    let deleted = store.delete(&ann, &code("edit"), Some(first.version)).await;
    let mismatch = matches!(deleted, Err(Error::VersionMismatch { .. }));
    ensure!(mismatch, "a stale delete gave {deleted:?}");
    let found = store.get(&ann, &code("edit")).await.map_err(unexpected("get"))?;
    ensure!(found == second, "{second:?} was last, {found:?} is stored");
    Ok(())
}

async fn concurrent_changes_are_not_lost<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (servers, ann) = (fixture.servers(4).await, owner("ann"));
    created(&*servers[0], terms("busy")).await?;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (server, ann) = (Arc::clone(&servers[writer % servers.len()]), ann.clone());
            tokio::spawn(async move {
                loop {
                    let link = server.get(&ann, &code("busy")).await?;
                    let mut tags = link.terms.tags;
                    tags.push(format!("w{writer}"));
                    let change = Change { tags: Some(tags), ..Change::default() };
                    match server.update(&ann, &code("busy"), Some(link.version), change).await {
                        Err(Error::VersionMismatch { .. }) => {}
                        other => return other,
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        let written = writer.await.map_err(|error| Broken::because(error.to_string()))?;
        written.map_err(unexpected("a concurrent update"))?;
    }
    let link = servers[0].get(&ann, &code("busy")).await.map_err(unexpected("get"))?;
    let tags: BTreeSet<_> = link.terms.tags.iter().collect();
    ensure!(tags.len() == 16, "16 writers added a tag each, {} are there", tags.len());
    ensure!(link.version == Version(17), "after 16 changes it is at {:?}", link.version);
    Ok(())
}

async fn a_change_touches_only_its_fields<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (store, ann) = (only(&*fixture).await, owner("ann"));
    let before = Terms {
        expires_at_ms: Some(1_800_000_000_000),
        max_visits: Some(5),
        tags: vec!["a".to_owned()],
        ..terms("fields")
    };
    let mut expected = created(&*store, before).await?;
    let changes = [
        Change { expires_at_ms: Some(None), ..Change::default() },
        Change { max_visits: Some(None), redirect: Some(Redirect::Temporary), ..Change::default() },
        Change { tags: Some(vec!["b".to_owned()]), enabled: Some(false), ..Change::default() },
        Change { expires_at_ms: Some(Some(1_900_000_000_000)), ..Change::default() },
        Change { max_visits: Some(Some(9)), enabled: Some(true), ..Change::default() },
    ];
    for change in changes {
        let said = format!("{change:?}");
        expected = expected.changed(change.clone());
        let changed = store.update(&ann, &code("fields"), None, change).await;
        let changed = changed.map_err(unexpected("update"))?;
        ensure!(changed == expected, "{said} gave {changed:?}, not {expected:?}");
        let stored = store.get(&ann, &code("fields")).await.map_err(unexpected("get"))?;
        ensure!(stored == expected, "after {said} it is {stored:?}, not {expected:?}");
    }
    Ok(())
}

async fn a_repeated_create_answers_the_same_bytes<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(4).await;
    let repeats: Vec<_> = (0..32)
        .map(|repeat| {
            let server = Arc::clone(&servers[repeat % servers.len()]);
            // Each repeat draws a code of its own: only the key tells that they are one.
            let terms = terms(&format!("drawn-{repeat}"));
            let once = once("k", 1, &format!("reply {repeat}\n"));
            tokio::spawn(async move { create(&*server, Creation { terms, once }).await })
        })
        .collect();
    let (mut new, mut replies) = (Vec::new(), BTreeSet::new());
    for repeat in repeats {
        match repeat.await.map_err(|error| Broken::because(error.to_string()))?? {
            Ok(Created::New(link)) => new.push(link.terms.code.to_string()),
            Ok(Created::Replayed { code, reply }) => {
                replies.insert((code.to_string(), String::from_utf8_lossy(&reply).into_owned()));
            }
            Err(error) => return Err(Broken::because(format!("a repeat was refused: {error}"))),
        }
    }
    ensure!(new.len() == 1, "32 repeats of one request made {} links: {new:?}", new.len());
    let expected = (new[0].clone(), new[0].replace("drawn-", "reply ") + "\n");
    ensure!(
        replies.len() == 1 && replies.contains(&expected),
        "{expected:?} was answered first, {replies:?} afterwards"
    );
    let listed = servers[0].list(&owner("ann"), &Listing { limit: 50, ..Listing::default() }).await;
    let listed = listed.map_err(unexpected("list"))?.len();
    ensure!(listed == 1, "32 repeats left {listed} links");
    let other = Creation { terms: terms("other"), once: once("k", 2, "other") };
    let other = create(&*servers[1], other).await?;
    ensure!(matches!(other, Err(Error::KeyReused)), "another request under the key gave {other:?}");
    Ok(())
}

async fn an_idempotency_key_is_its_owners<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    for name in ["ann", "bob"] {
        let terms = Terms { owner: owner(name), ..terms(&format!("of-{name}")) };
        let answer = create(&*store, Creation { terms, once: once("same", 1, name) }).await?;
        ensure!(matches!(answer, Ok(Created::New(_))), "{name}'s first use gave {answer:?}");
    }
    Ok(())
}

async fn a_refused_create_is_not_remembered<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    created(&*store, terms("taken")).await?;
    let refused = Creation { terms: terms("taken"), once: once("k", 1, "never") };
    let refused = create(&*store, refused).await?;
    ensure!(matches!(refused, Err(Error::Taken(_))), "a taken code gave {refused:?}");
    let again = Creation { terms: terms("free"), once: once("k", 1, "now") };
    let again = create(&*store, again).await?;
    ensure!(matches!(again, Ok(Created::New(_))), "the next create under the key gave {again:?}");
    Ok(())
}

async fn replies_are_forgotten_after_a_day_and_not_before<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let at = terms("x").created_at_ms;
    let attempt = |text: &str| Creation { terms: terms(text), once: once("k", 1, text) };
    let first = create(&*store, attempt("first")).await?;
    ensure!(matches!(first, Ok(Created::New(_))), "the first use gave {first:?}");
    store.housekeep(at + REPLAY_KEPT_MS).await.map_err(unexpected("housekeep"))?;
    let repeat = create(&*store, attempt("repeat")).await?;
    ensure!(matches!(repeat, Ok(Created::Replayed { .. })), "within a day it gave {repeat:?}");
    store.housekeep(at + REPLAY_KEPT_MS + 1).await.map_err(unexpected("housekeep"))?;
    let late = create(&*store, attempt("late")).await?;
    ensure!(matches!(late, Ok(Created::New(_))), "after a day the key gave {late:?}");
    Ok(())
}

async fn rows_of_a_batch_stand_alone<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    created(&*store, terms("old")).await?;
    let rows = ["one", "old", "two", "one", "three"];
    let batch = rows.map(|text| Creation { terms: terms(text), once: None });
    let answers = store.create(batch.into()).await.map_err(unexpected("a batch"))?;
    let said: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Created::New(link)) => link.terms.code.to_string(),
            Err(Error::Taken(code)) => format!("{code} taken"),
            other => format!("{other:?}"),
        })
        .collect();
    ensure!(said == ["one", "old taken", "two", "one taken", "three"], "the answers were {said:?}");
    for text in ["one", "two", "three"] {
        let link = store.get(&owner("ann"), &code(text)).await;
        ensure!(link.is_ok(), "{text} was said to be created and gave {link:?}");
    }
    Ok(())
}

async fn page(store: &impl Store, listing: Listing) -> Result<Vec<Link>, Broken> {
    store.list(&owner("ann"), &listing).await.map_err(unexpected("list"))
}

async fn pages_neither_repeat_nor_skip<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (store, ann) = (only(&*fixture).await, owner("ann"));
    for number in 0..25 {
        created(&*store, terms(&format!("p{number:02}"))).await?;
        created(&*store, Terms { owner: owner("bob"), ..terms(&format!("b{number:02}")) }).await?;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    for round in 0..10 {
        let links = page(&*store, Listing { before, limit: 7, ..Listing::default() }).await?;
        ensure!(links.len() <= 7, "a page of 7 holds {}", links.len());
        let Some(last) = links.last() else { break };
        before = Some(last.id);
        seen.extend(links.iter().map(|link| link.terms.code.to_string()));
        // The world goes on: newer links come, and one that was already shown goes.
        created(&*store, terms(&format!("new{round}"))).await?;
        let shown = code(&seen[round]);
        store.delete(&ann, &shown, None).await.map_err(unexpected("delete"))?;
    }
    let expected: Vec<String> = (0..25).rev().map(|number| format!("p{number:02}")).collect();
    ensure!(seen == expected, "the pages showed {seen:?}");
    Ok(())
}

async fn tags_and_search_find_exactly_theirs<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (store, ann) = (only(&*fixture).await, owner("ann"));
    let with = |text: &str, tags: &[&str], path: &str| Terms {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        target: TargetUrl::stored(format!("https://example.com/{path}")),
        ..terms(text)
    };
    created(&*store, with("first", &["red", "big"], "100%25_off")).await?;
    created(&*store, with("second", &["reddish"], "Sale")).await?;
    created(&*store, with("third", &["red"], "x")).await?;
    let found = async |tag: Option<&str>, search: Option<&str>| {
        let (tag, search) = (tag.map(str::to_owned), search.map(str::to_owned));
        let links = page(&*store, Listing { limit: 10, tag, search, before: None }).await?;
        Ok::<_, Broken>(links.iter().map(|link| link.terms.code.to_string()).collect::<Vec<_>>())
    };
    for (tag, search, expected) in [
        (Some("red"), None, vec!["third", "first"]),
        (Some("RED"), None, vec![]),
        (None, Some("SALE"), vec!["second"]),
        (None, Some("IR"), vec!["third", "first"]),
        (None, Some("%25_"), vec!["first"]),
        (None, Some("%"), vec!["first"]),
        (None, Some("5__o"), vec![]),
        (Some("red"), Some("off"), vec!["first"]),
    ] {
        let got = found(tag, search).await?;
        ensure!(got == expected, "tag {tag:?} and search {search:?} found {got:?}");
    }
    let change = Change { tags: Some(vec!["blue".to_owned()]), ..Change::default() };
    store.update(&ann, &code("first"), None, change).await.map_err(unexpected("update"))?;
    store.delete(&ann, &code("third"), None).await.map_err(unexpected("delete"))?;
    for (tag, expected) in [("red", vec![]), ("big", vec![]), ("blue", vec!["first"])] {
        let got = found(Some(tag), None).await?;
        ensure!(got == expected, "after the change, tag {tag} found {got:?}");
    }
    Ok(())
}

async fn a_limited_link_admits_exactly_that_many<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(4).await;
    created(&*servers[0], Terms { max_visits: Some(20), ..terms("limited") }).await?;
    created(&*servers[0], terms("unlimited")).await?;
    let free = servers[0].visit(&code("unlimited"), false).await;
    ensure!(matches!(free, Ok(None)), "a visit without a limit gave {free:?}");
    for _ in 0..3 {
        let left = servers[0].visit(&code("limited"), true).await;
        ensure!(matches!(left, Ok(Some(20))), "a look at 20 visits gave {left:?}");
    }
    let visitors: Vec<_> = (0..64)
        .map(|visitor| {
            let server = Arc::clone(&servers[visitor % servers.len()]);
            tokio::spawn(async move { server.visit(&code("limited"), false).await })
        })
        .collect();
    let mut left = Vec::new();
    for visitor in visitors {
        match visitor.await.map_err(|error| Broken::because(error.to_string()))? {
            Ok(Some(after)) => left.push(after),
            Err(Error::Gone(Why::UsedUp)) => {}
            other => return Err(Broken::because(format!("a visitor got {other:?}"))),
        }
    }
    left.sort_unstable();
    ensure!(left.len() == 20, "{} of 64 visitors got through, 20 were admitted", left.len());
    let each_once: Vec<u32> = (0..20).collect();
    ensure!(left == each_once, "the visits left were told as {left:?}");
    for (max_visits, expected) in [(22, Some(2)), (5, None)] {
        let change = Change { max_visits: Some(Some(max_visits)), ..Change::default() };
        let changed = servers[0].update(&owner("ann"), &code("limited"), None, change).await;
        changed.map_err(unexpected("update"))?;
        let now = servers[1].visit(&code("limited"), true).await;
        let right = match expected {
            Some(left) => matches!(now, Ok(Some(said)) if said == left),
            None => matches!(now, Err(Error::Gone(Why::UsedUp))),
        };
        ensure!(right, "after 20 visits a limit of {max_visits} gave {now:?}");
    }
    Ok(())
}

async fn an_index_sees_every_link<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (store, ann) = (only(&*fixture).await, owner("ann"));
    let expires_at_ms = Some(1_800_000_000_000);
    let fancy = Terms { expires_at_ms, redirect: Redirect::Permanent, ..terms("fancy") };
    let limited = Terms { max_visits: Some(1), ..terms("limited") };
    let links = [terms("plain"), fancy, limited, terms("off"), terms("gone")];
    let mut expected = Vec::new();
    for terms in links {
        expected.push(created(&*store, terms).await?);
    }
    let off = Change { enabled: Some(false), ..Change::default() };
    let off = store.update(&ann, &code("off"), None, off).await.map_err(unexpected("update"))?;
    let gone = store.delete(&ann, &code("gone"), None).await.map_err(unexpected("delete"))?;
    let mut expected: Vec<OwnedEntry> =
        expected[..3].iter().chain([&off]).map(|link| link.entry().into()).collect();
    let deleted = crate::link::Entry { state: State::Deleted, target: "", ..gone.entry() };
    expected.push(deleted.into());
    let loaded = Arc::new(parking_lot::Mutex::new(Vec::<OwnedEntry>::new()));
    let into = Arc::clone(&loaded);
    store.load(move |entry| into.lock().push(entry.into())).await.map_err(unexpected("load"))?;
    let mut loaded = std::mem::take(&mut *loaded.lock());
    loaded.sort_by_key(|entry| entry.as_entry().id);
    ensure!(loaded == expected, "{expected:?} exist, {loaded:?} was loaded");
    for entry in &expected {
        let found = store.look_up(&code(&entry.code)).await.map_err(unexpected("look_up"))?;
        ensure!(found.as_ref() == Some(entry), "{entry:?} was looked up as {found:?}");
    }
    let none = store.look_up(&code("nothing")).await.map_err(unexpected("look_up"))?;
    ensure!(none.is_none(), "an unknown code was looked up as {none:?}");
    Ok(())
}
