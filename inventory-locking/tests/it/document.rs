//! The API keeps to its own document, held against it by a fuzzer.

use serde_json::json;
use testkit::schemathesis::Fuzz;

use crate::http::Shop;

/// What JSON Schema has no words for, each with the answer that says so.
const BEYOND_THE_SCHEMA: &str = r#"
[checks]
# A write without If-Match is 428 (RFC 6585), which the check does not know.
missing_required_header.expected-statuses = ["400", "406", "415", "422", "428"]
# A SKU that no item has, or can have, is not found.
negative_data_rejection.expected-statuses = ["400", "404", "406", "415", "422", "428"]
# An ETag or a key has a grammar of its own.
# What is asked for may not be there, be there already, be sold out, over, or changed since; of one
# SKU there may be two lines whose sum is beyond the bound.
positive_data_acceptance.expected-statuses = ["2xx", "304", "400", "404", "409", "410", "412", "422"]
"#;

#[tokio::test]
async fn every_answer_is_as_documented() {
    let shop = Shop::open(&[("pen", 1_000_000)]).await;
    Fuzz::of(format!("http://{}/openapi.json", shop.client.address()))
        .config(BEYOND_THE_SCHEMA)
        .run()
        .await;
    // And whatever it has done, the books add up.
    let audit = shop.client.get("/v1/audit").await.ok(200);
    assert_eq!(audit["drifts"], json!([]), "{audit}");
}
