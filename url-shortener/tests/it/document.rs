//! The API keeps to its own document, held against it by a fuzzer.

use testkit::schemathesis::Fuzz;

use crate::support::app;

/// Rules that JSON Schema has no words for, and the answer that names the field.
const BEYOND_THE_SCHEMA: &str = r#"
[checks]
# A write without If-Match is 428 (RFC 6585), which the check does not know.
missing_required_header.expected-statuses = ["400", "401", "403", "406", "415", "422", "428"]

# A body that breaks the rules may be too large before anybody reads it, which is 413.
negative_data_rejection.expected-statuses = [
    "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429",
]

# A target must have a host and no user name, a tag is measured in bytes, an end is in the future,
# an alias is not one of the service's own paths.
[[operations]]
include-name = "POST /v1/links"
checks.positive_data_acceptance.expected-statuses = ["2xx", "409", "422"]

# Besides: the link may be at another version than If-Match says.
[[operations]]
include-name = "PATCH /v1/links/{code}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "412", "422"]

[[operations]]
include-name = "DELETE /v1/links/{code}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "412"]

# A link that was made may be disabled since.
[[operations]]
include-path = "/{code}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "404", "410"]

# Each row is answered by itself, inside of a 200.
[[operations]]
include-name = "POST /v1/links/bulk"
checks.negative_data_rejection.expected-statuses = ["200", "401", "413", "415"]

# Six digits need not be where a page ended.
[[operations]]
include-name = "GET /v1/links"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]
"#;

#[tokio::test]
async fn every_answer_is_as_documented() {
    let app = app().await;
    let (document, key) = app.client.document();
    Fuzz::of(document)
        .header("Authorization", &format!("Bearer {key}"))
        .config(BEYOND_THE_SCHEMA)
        .run()
        .await;
    // What it sent was not all refused.
    assert!(app.shortener.lookup().len() > 10, "only {} links", app.shortener.lookup().len());
}
