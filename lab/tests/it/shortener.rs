//! The URL shortener's page in a browser: shorten, follow, watch the clicks arrive.

use crate::browser;

fn set(form: &str, field: &str, value: &str) -> String {
    format!("void (document.querySelector('{form}').elements['{field}'].value = '{value}')")
}

fn click(selector: &str) -> String {
    format!("document.querySelector('{selector}').click()")
}

fn figure(name: &str) -> String {
    format!("Number(document.querySelector('#figure-{name}').textContent.replaceAll(',', ''))")
}

#[tokio::test]
async fn a_link_is_made_and_the_clicks_of_its_visitors_arrive() {
    let Some((lab, mut tab)) = browser::visit("/url-shortener/", 1500).await else { return };

    // What is wrong is said where it is wrong, and nothing is made.
    tab.eval(&set("#shorten", "url", "javascript:alert(1)")).await;
    tab.eval(&click("#make")).await;
    let wrong = "document.querySelector('#shorten [name=url][aria-invalid=true]')";
    tab.wait("the wrong field is marked", wrong).await;
    tab.complaints.clear(); // the browser itself notes the 422

    tab.eval(&set("#shorten", "url", "https://example.com/a/page")).await;
    tab.eval(&set("#shorten", "alias", "famous")).await;
    tab.eval(&click("#make")).await;
    let link = "document.querySelector('#links a')";
    tab.wait("the link is listed", &format!("{link} && {link}.textContent === 'famous'")).await;
    let leads = format!("{link}.href === '{}'", lab.url("/url-shortener/famous"));
    assert_eq!(tab.eval(&leads).await, true, "the short link leads to the service");

    tab.eval(&click("#start")).await;
    tab.wait("visitors are redirected", &format!("{} > 100", figure("redirected"))).await;
    tab.wait("their clicks are counted", &format!("{} > 100", figure("counted"))).await;
    let answer = "document.querySelector('#response').textContent";
    let shown = format!(
        "{answer}.includes('302') && {answer}.includes('location: https://example.com/a/page')"
    );
    tab.wait("a real answer shows", &shown).await;
    let who = "document.querySelector('#who').textContent";
    tab.wait("browsers show", &format!("{who}.includes('Firefox') || {who}.includes('firefox')"))
        .await;

    tab.eval(&click("#draw")).await;
    let rows = "document.querySelectorAll('#codes tr').length === 6";
    tab.wait("six generators show their codes", rows).await;
    tab.screenshot("url-shortener.png").await;

    tab.eval(&click("#stop")).await;
    tab.wait("the visitors are gone", "document.querySelector('#stop').disabled").await;
    // Visits under way at the stop, and those of the last quarter of a second, are counted without
    // having been shown.
    let caught_up = format!("{} >= {}", figure("counted"), figure("redirected"));
    tab.wait("every redirect that was shown is counted", &caught_up).await;
    tab.must_be_clean(&lab.url("")).await;
}
