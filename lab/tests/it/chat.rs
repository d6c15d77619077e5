//! The chat service's page: three people, two servers, and what goes wrong between them.

use crate::browser::{self, Tab};

fn of(person: &str) -> String {
    format!("document.querySelector('[data-person={person}]')")
}

/// Writes as somebody would: into the field, then the button.
async fn write(tab: &mut Tab, person: &str, text: &str) {
    let form = format!("{}.querySelector('form')", of(person));
    tab.eval(&format!(
        "void ({form}.querySelector('input').value = '{text}', {form}.querySelector('button').click())"
    ))
    .await;
}

async fn network(tab: &mut Tab, person: &str, network: &str) {
    let button = format!("{}.querySelector('[data-network={network}]')", of(person));
    tab.eval(&format!("{button}.click()")).await;
    let pressed = format!("{button}.getAttribute('aria-pressed') === 'true'");
    tab.wait(&format!("{person}'s network is {network}"), &pressed).await;
}

async fn sees(tab: &mut Tab, person: &str, text: &str, times: usize) {
    // The people are put on the page by its script.
    let rows = format!("[...({}?.querySelectorAll('.messages li') ?? [])]", of(person));
    let count = format!("{rows}.filter((row) => row.textContent.includes('{text}')).length");
    tab.wait(&format!("{person} sees {text:?}"), &format!("{count} === {times}")).await;
}

async fn tick(tab: &mut Tab, person: &str, text: &str, tick: &str) {
    let rows = format!("[...{}.querySelectorAll('.mine')]", of(person));
    let row = format!("{rows}.find((row) => row.textContent.includes('{text}'))");
    let shown = format!("{row}?.querySelector('[data-tick]').textContent.includes('{tick}')");
    tab.wait(&format!("{person}'s {text:?} is {tick}"), &shown).await;
}

#[tokio::test]
async fn people_write_lose_their_network_and_their_server_and_miss_nothing() {
    let Some((lab, mut tab)) = browser::visit("/chat-service/", 900).await else { return };
    for person in ["alice", "bob", "carol"] {
        sees(&mut tab, person, "yesterday, 200 of 200", 1).await;
    }
    let rows = format!("{}.querySelectorAll('.messages li').length", of("alice"));
    tab.eval(&format!("{}.querySelector('.plain').click()", of("alice"))).await;
    tab.wait("an older page shows above", &format!("{rows} >= 60")).await;

    write(&mut tab, "alice", "soup?").await;
    sees(&mut tab, "bob", "soup?", 1).await;
    // Carol's phone has it; she has not looked.
    tick(&mut tab, "alice", "soup?", "delivered").await;
    tab.wait("Carol sees what is unread", "!document.querySelectorAll('.badge')[2].hidden").await;
    tab.eval("document.querySelector('#carol-hand').click()").await;
    tick(&mut tab, "alice", "soup?", "read").await;

    network(&mut tab, "bob", "offline").await;
    write(&mut tab, "alice", "are you there?").await;
    write(&mut tab, "bob", "in a tunnel").await;
    tick(&mut tab, "alice", "are you there?", "sent").await;
    tick(&mut tab, "bob", "in a tunnel", "on its way").await;
    network(&mut tab, "bob", "good").await;
    tick(&mut tab, "alice", "are you there?", "read").await;
    sees(&mut tab, "alice", "in a tunnel", 1).await;

    tab.eval("document.querySelector('[data-server=A]').click()").await;
    tab.wait("the server is dead", "document.querySelector('[data-server=A][aria-pressed=true]')")
        .await;
    write(&mut tab, "alice", "elsewhere now").await;
    sees(&mut tab, "bob", "elsewhere now", 1).await;
    network(&mut tab, "carol", "slow").await;
    sees(&mut tab, "carol", "elsewhere now", 1).await;
    tick(&mut tab, "alice", "elsewhere now", "read").await;
    tab.screenshot("chat-service.png").await;
    tab.eval("document.querySelector('[data-server=A]').click()").await;
    tab.wait("it runs again", "document.querySelector('[data-server=A][aria-pressed=false]')")
        .await;
    tab.eval("document.querySelector('#backlog button').click()").await;
    sees(&mut tab, "bob", "while you were away, 1000 of 1000", 1).await;
    tab.must_be_clean(&lab.url("")).await;
}
