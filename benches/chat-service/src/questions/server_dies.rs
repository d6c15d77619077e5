//! The server dies between "sent" and telling anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chat_service::Error;
use chat_service::bus::local::Local;
use chat_service::bus::{Bus, Event, Listener};
use chat_service::client::Device;
use chat_service::protocol::{Resume, ServerFrame};
use chat_service::store::sqlite::Sqlite;

use super::{Server, connect, enter, hear};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "server-dies",
        asks: "The server has answered \"sent\" and dies before it tells Bob's server. Does Bob, \
            who is online elsewhere, ever get the message?",
        explanation: "The log of each conversation has a mark: told up to here. The mark moves \
            after telling, so what a dead server left behind stands between the mark and the end. \
            Every server looks for such conversations twice a second and tells of them. It is an \
            outbox, but a cursor instead of a table: nothing is inserted and deleted per message.",
        run: |stage| Box::pin(run(stage)),
    }
}

/// The way to the other servers, which can be cut.
struct Link {
    bus: Arc<Local>,
    is_cut: AtomicBool,
}

impl Bus for Link {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(Error::Unavailable { what: "publish", source: None });
        }
        self.bus.publish(event).await
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        self.bus.attach(listener).await
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let bus = Arc::new(Local::default());
    let link = Arc::new(Link { bus: Arc::clone(&bus), is_cut: AtomicBool::new(false) });
    let one = Server::start(Arc::clone(&store), Arc::clone(&link)).await?;
    let two = Server::start(Arc::clone(&store), bus).await?;
    stage.scene("two servers over one store; Alice is on the first, Bob on the second");
    let alice = enter(&one.api(), "alice", "laptop").await?;
    let bob = enter(&two.api(), "bob", "phone").await?;
    let conversation = one.api().direct(&alice, "bob").await?;
    let mut phone = Device::new(bob, 256);
    let mut bobs = connect(&two.base, &mut phone, Resume::Missed).await?;
    hear(&mut bobs, &mut phone, |frame| *frame == ServerFrame::CaughtUp).await?;
    let mut laptop = Device::new(alice, 256);
    let mut alices = connect(&one.base, &mut laptop, Resume::Missed).await?;

    stage.load("Alice writes one message");
    link.is_cut.store(true, Ordering::SeqCst);
    alices.send(&laptop.write(conversation, "did you get this?")).await?;
    hear(&mut alices, &mut laptop, |frame| matches!(frame, ServerFrame::Sent { .. })).await?;
    let answered = Instant::now();
    drop(one);
    stage.fault("partition", "the first server has answered, told nobody, and is gone");
    let pushed = hear(&mut bobs, &mut phone, |f| matches!(f, ServerFrame::Message(_))).await?;
    let took = answered.elapsed();
    stage.expect("Bob gets it", pushed == [1], format!("{pushed:?}"));
    stage.expect("within two seconds", took < Duration::from_secs(2), format!("{took:?}"));
    stage.because("the second server found the log ahead of its mark");
    Ok(())
}
