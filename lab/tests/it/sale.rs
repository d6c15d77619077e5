//! The inventory's page in a browser: a sale that oversells and says so, and one that does not.

use crate::browser::{self, Tab};

async fn open_sale(tab: &mut Tab, answer: &str, stock: u32) {
    let set = format!(
        "void ((fields) => {{ fields.answer.value = '{answer}'; fields.stock.value = '{stock}'; \
         fields.buyers_per_s.value = '400'; }})(document.querySelector('#settings').elements)"
    );
    tab.eval(&set).await;
    tab.eval("document.querySelector('#start').click()").await;
}

/// What the books say of the stock, such as `available`, as a number.
fn units(of: &str) -> String {
    format!(
        "Number([...document.querySelectorAll('#books tr')]\
         .find((row) => row.cells[0].textContent === '{of}')?.cells[1].textContent.replace(/\\D/g, ''))"
    )
}

/// Whether the element is shown in the colour of what is wrong.
fn is_red(selector: &str) -> String {
    format!("document.querySelector('{selector}').classList.contains('wrong')")
}

#[tokio::test]
async fn the_naive_sale_turns_red_and_a_right_one_sells_out() {
    let Some((_lab, mut tab)) = browser::visit("/inventory-locking/", 1000).await else { return };

    open_sale(&mut tab, "postgres/naive", 100).await;
    tab.wait("the audit finds what broke", &is_red("#audit")).await;
    tab.wait("more were told yes than there was", &is_red("#figure-oversold")).await;
    tab.screenshot("inventory-locking-naive.png").await;

    open_sale(&mut tab, "sqlite/batching", 150).await;
    let sold_out = format!("{} === 150 && {} === 0", units("held"), units("available"));
    tab.wait("the right one sells every unit", &sold_out).await;
    tab.wait(
        "and is not red",
        &format!("!{} && !{}", is_red("#audit"), is_red("#figure-oversold")),
    )
    .await;
    tab.wait(
        "later buyers are told",
        "Number(document.querySelector('#figure-sold-out').textContent) > 0",
    )
    .await;
    tab.screenshot("inventory-locking.png").await;

    open_sale(&mut tab, "sqlite/batching", 0).await;
    let marked = "document.querySelector('[name=stock][aria-invalid=true] + [data-wrong]')";
    tab.wait("a sale of nothing is refused at its field", marked).await;
}
