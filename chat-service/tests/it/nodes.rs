//! Several servers over one store: a user on one reaches a user on another; one dies, or cannot be
//! reached by the others, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat_service::bus::local::Local;
use chat_service::bus::redis::RedisBus;
use chat_service::bus::{Bus, Event, Listener, Signal};
use chat_service::protocol::{ClientFrame, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{Error, Seq};
use tokio::sync::watch;

use crate::support::{Person, Seat, Server, cast, code, end, judge, next_where};

/// A bus whose link from this server to the others can be cut: what is published meanwhile is lost
/// without a word, and `Gap` is heard when it heals, as a reconnecting client of a real bus would.
#[derive(Clone)]
struct Cuttable {
    bus: Arc<Local>,
    cut: Arc<AtomicBool>,
    own: Arc<parking_lot::Mutex<Vec<Listener>>>,
}

impl Cuttable {
    fn new(bus: &Arc<Local>) -> Self {
        Self { bus: Arc::clone(bus), cut: Arc::default(), own: Arc::default() }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
        for listener in self.own.lock().iter() {
            listener(Signal::Gap);
        }
    }
}

impl Bus for Cuttable {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::Unavailable { what: "publish: partitioned", source: None });
        }
        self.bus.publish(event).await
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        self.own.lock().push(Arc::clone(&listener));
        let cut = Arc::clone(&self.cut);
        let hearing = move |signal| {
            if !cut.load(Ordering::SeqCst) {
                listener(signal);
            }
        };
        self.bus.attach(Arc::new(hearing)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_on_one_server_reaches_a_user_on_another_and_presence_and_typing_too() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let one = Server::start(Arc::clone(&store), Arc::clone(&bus)).await;
    let two = Server::start(store, bus).await;
    let alice = Person::enter(&one.api(), "alice", "laptop").await;
    let bob = Person::enter(&two.api(), "bob", "phone").await;
    let conversation = one.api().direct(&alice.token, "bob").await.unwrap();
    let mut at_one = alice.connect(&one.base, 100).await;
    at_one.send(&ClientFrame::Watch { conversation }).await.unwrap();
    let mut at_two = bob.connect(&two.base, 100).await;
    next_where(&mut at_one, |frame| match frame {
        ServerFrame::Presence { user, online: true } if user.as_str() == "bob" => Some(()),
        _ => None,
    })
    .await;
    at_two.send(&ClientFrame::Typing { conversation }).await.unwrap();
    next_where(&mut at_one, |frame| match frame {
        ServerFrame::Typing { user, .. } if user.as_str() == "bob" => Some(()),
        _ => None,
    })
    .await;
    let client_id = chat_service::ClientId::fresh();
    let text = "hello over there".into();
    at_one.send(&ClientFrame::Send { client_id, conversation, text }).await.unwrap();
    let message = next_where(&mut at_two, |frame| match frame {
        ServerFrame::Message(message) => Some(message),
        _ => None,
    })
    .await;
    at_two.send(&ClientFrame::Ack { conversation, seq: message.seq }).await.unwrap();
    next_where(&mut at_one, |frame| match frame {
        ServerFrame::Receipt(receipt) if receipt.delivered == message.seq => Some(()),
        _ => None,
    })
    .await;
    // The same device on another server displaces the connection here, for good.
    let _elsewhere = bob.connect(&one.base, 100).await;
    assert_eq!(code(&end(&mut at_two).await), 4409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_server_that_goes_resume_on_another() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let one = Server::start(Arc::clone(&store), Arc::clone(&bus)).await;
    let two = Server::start(store, bus).await;
    let (moving, base) = watch::channel(one.base.clone());
    let cast = cast(&two.api(), base, 80, 4).await;
    let api = two.api();
    let in_the_middle = cast.written(&api, cast.total() / 3);
    let leaving = async {
        in_the_middle.await;
        moving.send(two.base.clone()).unwrap();
        one.stop().await;
    };
    cast.play_through(&api, leaving).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_between_servers_delays_and_loses_nothing() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let (first, second) = (Cuttable::new(&bus), Cuttable::new(&bus));
    let one = Server::start(Arc::clone(&store), Arc::new(first.clone())).await;
    let two = Server::start(store, Arc::new(second)).await;
    let (_one, at_one) = watch::channel(one.base.clone());
    let (_two, at_two) = watch::channel(two.base.clone());
    let mut cast = cast(&one.api(), at_one, 60, 4).await;
    cast.parts[2].base = at_two; // Bob is on the other server
    let api = one.api();
    let written = |part: u64| cast.written(&api, cast.total() * part / 7);
    let cuts = [1, 3, 5].map(|part| (written(part), written(part + 1)));
    let cutting = async {
        for (before, meanwhile) in cuts {
            before.await;
            first.cut();
            meanwhile.await;
            first.heal();
        }
    };
    cast.play_through(&api, cutting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_could_not_tell_before_it_died_is_told_by_another() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let dying = Cuttable::new(&bus);
    let one = Server::start(Arc::clone(&store), Arc::new(dying.clone())).await;
    let two = Server::start(store, bus).await;
    let alice = Person::enter(&one.api(), "alice", "laptop").await;
    let bob = Person::enter(&two.api(), "bob", "phone").await;
    let conversation = one.api().direct(&alice.token, "bob").await.unwrap();
    let mut at_two = Seat::take(&two.base, "bob", "phone", &bob, 100).await;
    let mut at_one = Seat::take(&one.base, "alice", "laptop", &alice, 100).await;
    // Committed, acknowledged to Alice, and never published; then the server is gone.
    dying.cut();
    at_one.write(conversation, "before the lights go out").await;
    while !matches!(at_one.hear().await.unwrap(), ServerFrame::Sent { .. }) {}
    one.stop().await;
    at_two.until(conversation, Seq(1)).await;
    let devices = [at_one, at_two].map(|seat| seat.witness.into_history());
    judge(&two.api(), &alice.token, conversation, devices.into()).await;
}

/// Two servers on a real Redis that is killed and restarted while people write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_between_servers_loses_nothing() {
    let redis = infra::redis().await.unwrap();
    let store = Arc::new(Memory::default());
    let bus = async || Arc::new(RedisBus::connect(redis.url()).await.unwrap());
    let one = Server::start(Arc::clone(&store), bus().await).await;
    let two = Server::start(store, bus().await).await;
    let (_one, at_one) = watch::channel(one.base.clone());
    let (_two, at_two) = watch::channel(two.base.clone());
    let mut cast = cast(&one.api(), at_one, 60, 8).await;
    cast.parts[2].base = at_two;
    let api = one.api();
    let in_the_middle = cast.written(&api, cast.total() / 3);
    let killing = async {
        in_the_middle.await;
        redis.kill9().await.unwrap();
        redis.restart().await.unwrap();
    };
    cast.play_through(&api, killing).await;
}
