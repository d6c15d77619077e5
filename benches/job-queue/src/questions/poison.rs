//! A message that kills every worker that takes it.

use job_queue::clock::Clock;
use job_queue::settings::Redrive;
use job_queue::store::memory::Memory;
use job_queue::{Ask, Content, NewMessage, Queues, Settings};

use super::id;
use measure::{Question, Stage};

const RECEIVES_MAX: u32 = 5;
const GOOD_JOBS: usize = 100;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "poison",
        asks: "One message crashes every worker that takes it, before it can report anything. Does \
               it crash them for ever?",
        explanation: "A queue that counts reported failures never counts this one: the worker dies \
            before it reports. Receives are therefore counted when the lease is given. After the \
            last one allowed, the next receive moves the message to the dead-letter queue, with \
            the queue it came from, and goes on with the next message.",
        run: |stage| Box::pin(poison(stage)),
    }
}

async fn poison(stage: Stage) -> anyhow::Result<()> {
    let clock = Clock::manual(1_790_000_000_000);
    let store = Memory::new(clock.clone());
    let (work, dead) = (id("work"), id("dead"));
    stage.scene(format!(
        "a queue in memory on virtual time; {RECEIVES_MAX} receives, then the dead-letter queue"
    ));
    store.create(&dead, Settings::standard()).await?;
    let redrive = Some(Redrive { target: dead.clone(), max_receives: RECEIVES_MAX });
    store.create(&work, Settings { redrive, ..Settings::standard() }).await?;
    store.send(&work, vec![NewMessage::new(Content::text("poison"))]).await?;
    for _ in 0..GOOD_JOBS {
        store.send(&work, vec![NewMessage::new(Content::text("good"))]).await?;
    }
    stage.load(format!("{GOOD_JOBS} good jobs and, in front of them, one that kills its worker"));
    stage.fault("kill-9", "a worker that receives the poison dies and says nothing");
    let (mut crashes, mut done) = (0, 0);
    while done < GOOD_JOBS || crashes < RECEIVES_MAX {
        let received = store.receive(&work, Ask::now(1)).await?;
        match received.first() {
            Some(job) if job.content.body == "good" => {
                store.delete(&work, vec![job.receipt]).await?;
                done += 1;
            }
            Some(_) => crashes += 1,
            // Only the poison's lease is left to wait for.
            None => clock.advance_ms(30_000),
        }
        anyhow::ensure!(crashes <= 100, "the poison goes on and on");
    }
    clock.advance_ms(30_000);
    let rest = store.receive(&work, Ask::now(10)).await?;
    let letters = store.receive(&dead, Ask::now(10)).await?;
    stage.observe("workers killed", crashes);
    stage.observe("good jobs done", done);
    stage.expect(
        "the poison is given up after the receives allowed",
        rest.is_empty() && crashes == RECEIVES_MAX,
        format!("{crashes} crashes, {} messages left", rest.len()),
    );
    let source = letters.first().and_then(|letter| letter.dead_letter_source.clone());
    stage.expect(
        "it waits in the dead-letter queue and knows where it came from",
        letters.len() == 1 && source.as_ref() == Some(&work),
        format!("{} dead letters, from {source:?}", letters.len()),
    );
    stage.because(
        "the receive is counted by the queue when it leases, not by the worker when it fails",
    );
    Ok(())
}
