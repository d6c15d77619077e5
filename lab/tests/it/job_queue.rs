//! The job queue's page: a backlog, workers that come and are killed, dead letters and their way
//! back.

use crate::browser;

fn set(field: &str, value: &str) -> String {
    format!("void (document.querySelector('#settings').elements['{field}'].value = '{value}')")
}

fn click(selector: &str) -> String {
    format!("document.querySelector('{selector}').click()")
}

fn number(selector: &str) -> String {
    format!("Number(document.querySelector('{selector}').textContent.replace(',', ''))")
}

#[tokio::test]
async fn jobs_are_done_workers_die_and_dead_letters_return() {
    let Some((lab, mut tab)) = browser::visit("/job-queue/", 1560).await else { return };
    for (field, value) in [
        ("jobs_per_s", "40"),
        ("job_ms", "400"),
        ("failing_percent", "20"),
        ("corrupt_percent", "10"),
    ] {
        tab.eval(&set(field, value)).await;
    }
    tab.eval(&click("#start")).await;
    tab.wait("jobs are done", &format!("{} > 10", number("#figure-done"))).await;
    tab.wait("workers came with the backlog", &format!("{} > 2", number("#figure-workers"))).await;
    tab.wait("failures are tried again", &format!("{} > 0", number("#figure-retried"))).await;
    let reason = "document.querySelector('#letters').textContent.includes('no PNG signature')";
    tab.wait("a dead letter says why", reason).await;

    tab.eval(&click("#kill")).await;
    let killed = "document.querySelector('.fault-name') \
                  || document.querySelector('#status').textContent.includes('killed')";
    tab.wait("the page says that they were killed", killed).await;
    let done = tab.eval(&number("#figure-done")).await.as_f64().expect("a number");
    tab.wait("new workers go on", &format!("{} > {done}", number("#figure-done"))).await;
    tab.screenshot("job-queue.png").await;

    // The decoder is repaired: what was given up can be done.
    tab.eval(&set("corrupt_percent", "0")).await;
    tab.eval(&click("#start")).await;
    let enabled = "!document.querySelector('#redrive').disabled";
    tab.wait("the dead letters can be moved", enabled).await;
    // Jobs that were under way with the broken decoder may be given up after the first move, so
    // whoever stands at the page moves those as well.
    let redriven = format!(
        "{} === 0 || void document.querySelector('#redrive:not(:disabled)')?.click()",
        number("#state-dead")
    );
    tab.wait("no dead letter is left", &redriven).await;
    tab.eval(&click("#stop")).await;
    let stopped = "document.querySelector('#stop').disabled";
    tab.wait("no more jobs are sent", stopped).await;
    tab.must_be_clean(&lab.url("")).await;

    // Last, because the browser notes a refused request as an error.
    tab.eval(&set("jobs_per_s", "0")).await;
    tab.eval(&click("#start")).await;
    let named = "document.querySelector('#settings').elements['jobs_per_s'].ariaInvalid === 'true'";
    tab.wait("the page says which field is wrong", named).await;
}
