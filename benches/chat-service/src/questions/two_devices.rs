//! One person, two devices.

use std::sync::Arc;

use chat_service::client::Device;
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{Seq, Store};

use super::{Server, connect, enter, fill, hear};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "two-devices",
        asks: "Bob has a phone and a laptop. The phone has everything, the laptop was closed. What \
            does each get, and what does Alice see?",
        explanation: "Each device has a cursor, so the laptop misses what the phone has. What Alice \
            sees is per person: delivered when any device has it, read when Bob has read it \
            anywhere. Bob's own messages are in the log like any other, so his other device gets \
            them too.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let store = Arc::new(Memory::default());
    let server = Server::alone(Arc::clone(&store)).await?;
    let api = server.api();
    let alice = enter(&api, "alice", "laptop").await?;
    let phone = enter(&api, "bob", "phone").await?;
    let laptop = enter(&api, "bob", "laptop").await?;
    let conversation = api.direct(&alice, "bob").await?;
    stage.scene("Bob's phone is on, his laptop is closed");
    stage.load("Alice writes 20; Bob answers from the phone");
    fill(&*store, "alice", conversation, 20, |_| 0).await?;

    let mut phone = Device::new(phone, 256);
    let mut on_phone = connect(&server.base, &mut phone, Resume::Missed).await?;
    let got = hear(&mut on_phone, &mut phone, |f| *f == ServerFrame::CaughtUp).await?;
    stage.expect("the phone gets all 20", got.len() == 20, got.len());
    on_phone.send(&phone.write(conversation, "hello")).await?;
    on_phone.send(&ClientFrame::Read { conversation, seq: Seq(20) }).await?;
    hear(&mut on_phone, &mut phone, |frame| {
        matches!(frame, ServerFrame::Receipt(r) if r.user.as_str() == "bob" && r.read == Seq(20))
    })
    .await?;

    let mut laptop = Device::new(laptop, 256);
    let mut on_laptop = connect(&server.base, &mut laptop, Resume::Missed).await?;
    let mut unread = None;
    let got = hear(&mut on_laptop, &mut laptop, |frame| {
        if let ServerFrame::Conversations { items, .. } = frame {
            unread = items.first().map(|item| item.unread);
        }
        *frame == ServerFrame::CaughtUp
    })
    .await?;
    let complete = got.iter().copied().eq(1..=21);
    stage.expect("the laptop gets all 21, Bob's own included", complete, got.len());
    stage.expect("and shows nothing as unread", unread == Some(0), format!("{unread:?}"));
    let receipts = store.receipts("alice".parse()?, conversation).await?;
    let bobs = receipts.iter().find(|receipt| receipt.user.as_str() == "bob");
    let told = bobs.map(|receipt| (receipt.delivered.0, receipt.read.0));
    let right = told.is_some_and(|(delivered, read)| delivered >= 20 && read == 20);
    stage.expect("Alice sees that Bob has read her 20", right, format!("{told:?}"));
    stage.because("delivery is a cursor per device, reading is a cursor per person");
    Ok(())
}
