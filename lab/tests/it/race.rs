//! The cache's page in a browser: policies race on a mix, and on a trace that is chosen as a file.

use serde_json::json;

use crate::browser::{self, Tab};

const STATUS: &str = "document.querySelector('#status').textContent";

async fn set(tab: &mut Tab, field: &str, value: &str) {
    let field = format!("document.querySelector('#settings').elements['{field}']");
    let change = format!("{field}.dispatchEvent(new Event('change'))");
    tab.eval(&format!("void ({field}.value = '{value}', {change})")).await;
}

async fn click(tab: &mut Tab, selector: &str) {
    tab.eval(&format!("document.querySelector('{selector}').click()")).await;
}

/// A cell of the row of a policy, as a number.
fn hits(policy: &str, cell: usize) -> String {
    format!(
        "Number.parseFloat([...document.querySelectorAll('#standings tr')]\
         .find((row) => row.cells[0].textContent === '{policy}')?.cells[{cell}].textContent)"
    )
}

/// Chooses a file with this content, as a person would in the dialogue.
async fn choose_trace(tab: &mut Tab, content: &str) {
    tab.eval(&format!(
        "void (() => {{ const chosen = new DataTransfer(); \
         chosen.items.add(new File([{content}], 'a.trace')); \
         document.querySelector('[name=trace]').files = chosen.files; }})()"
    ))
    .await;
}

#[tokio::test]
async fn policies_race_on_a_mix_and_on_a_trace() {
    let Some((lab, mut tab)) = browser::visit("/lru-cache/", 1000).await else { return };

    click(&mut tab, "#start").await;
    for policy in ["lru", "s3fifo", "wtinylfu"] {
        tab.wait("every policy hits", &format!("{} > 30", hits(policy, 2))).await;
    }
    tab.wait("the chart has lines", "document.querySelector('#ratios svg polyline')").await;
    tab.screenshot("lru-cache.png").await;
    click(&mut tab, "#stop").await;
    tab.wait("it says that it stopped", &format!("{STATUS} === 'Stopped.'")).await;

    set(&mut tab, "mix", "loop").await;
    set(&mut tab, "keys", "1001").await;
    click(&mut tab, "#start").await;
    // Until the first moment arrives the table shows the race before.
    let defeated = format!("{} === 0 && {} > 50", hits("lru", 2), hits("wtinylfu", 1));
    tab.wait("the loop defeats LRU, and W-TinyLFU keeps most of it", &defeated).await;
    click(&mut tab, "#stop").await;

    set(&mut tab, "mix", "trace").await;
    choose_trace(&mut tab, "Array.from({ length: 3000 }, (_, at) => `${at % 300}`).join('\\n')")
        .await;
    click(&mut tab, "#start").await;
    tab.wait("the trace ends", &format!("{STATUS} === 'The race is over.'")).await;
    assert_eq!(tab.eval(&hits("lru", 2)).await, json!(90), "all but the first of 300 keys");
    tab.must_be_clean(&lab.url("")).await;
}

#[tokio::test]
async fn a_wrong_setting_of_the_race_is_marked_at_its_field() {
    let Some((_lab, mut tab)) = browser::visit("/lru-cache/", 1000).await else { return };
    let marked = |field: &str| {
        format!("document.querySelector('[name={field}][aria-invalid=true] + [data-wrong]')")
    };
    set(&mut tab, "capacity", "0").await;
    click(&mut tab, "#start").await;
    tab.wait("the capacity is marked", &marked("capacity")).await;
    set(&mut tab, "capacity", "10").await;
    set(&mut tab, "mix", "trace").await;
    for (content, says) in [
        ("'1\\n2\\nthree'", "line 3 is malformed"),
        ("''", "choose a file"),
        ("new Uint8Array([0x1f, 0x8b, 1, 2])", "cannot be unpacked"),
    ] {
        choose_trace(&mut tab, content).await;
        click(&mut tab, "#start").await;
        let text = format!("{}?.textContent.includes('{says}')", marked("trace"));
        tab.wait(&format!("the trace is refused: {says}"), &text).await;
    }
    // The browser itself writes refused requests to its console, and nothing else is there.
    tab.eval("1").await;
    let complaints = &tab.complaints;
    assert!(complaints.iter().all(|complaint| complaint.contains("422")), "{complaints:?}");
}
