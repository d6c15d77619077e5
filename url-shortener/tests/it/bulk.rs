//! Bulk creation: streamed, a result per row.

use serde_json::{Value, json};

use crate::support::{Client, Response, app};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

async fn bulk(client: &Client, body: String) -> Response {
    client.send("POST", "/v1/links/bulk", &[NDJSON], body).await
}

fn rows(response: &Response) -> Vec<Value> {
    response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_row_gets_an_answer_of_its_own_in_order() {
    let app = app().await;
    app.client.create(json!({"url": "https://example.com/", "alias": "taken"})).await.code();
    let body = concat!(
        "{\"url\": \"https://example.com/1\"}\n",
        "\n",
        "{\"url\": \"https://example.com/2\", \"alias\": \"mine\"}\r\n",
        "not json\n",
        "[\"https://example.com/by-position\"]\n",
        "{\"url\": \"https://example.com/3\", \"alias\": \"taken\"}\n",
        "{\"url\": \"ftp://example.com/\"}\n",
        "{\"url\": \"https://example.com/4\", \"alias\": \"mine\"}\n",
        "{\"url\": \"https://example.com/5\"}",
    );
    let answer = bulk(&app.client, body.to_owned()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON.1));
    let rows = rows(&answer);
    let said: Vec<_> = rows
        .iter()
        .map(|row| (row["row"].as_u64().unwrap(), row["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        said,
        [(1, 201), (3, 201), (4, 422), (5, 422), (6, 409), (7, 422), (8, 409), (9, 201)]
    );
    assert!(rows[2]["detail"].as_str().unwrap().contains("JSON object"), "{}", rows[2]);
    assert!(rows[5]["detail"].as_str().unwrap().starts_with("url "), "{}", rows[5]);
    for row in rows.iter().filter(|row| row["status"] == 201) {
        let code = row["code"].as_str().unwrap();
        assert_eq!(row["short_url"], format!("https://sho.rt/{code}"));
        assert_eq!(app.client.follow(code).await.status, 302);
    }
}

#[tokio::test]
async fn thousands_of_rows_stream_through() {
    let app = app().await;
    let lines: String =
        (0..5_000).map(|n| format!("{{\"url\":\"https://example.com/{n}\"}}\n")).collect();
    let rows = rows(&bulk(&app.client, lines).await);
    assert_eq!(rows.len(), 5_000);
    assert!(rows.iter().enumerate().all(|(at, row)| row["row"] == at + 1 && row["status"] == 201));
    assert_eq!(app.shortener.lookup().len(), 5_000);
}

#[tokio::test]
async fn what_is_no_bulk_body_is_refused() {
    let app = app().await;
    let json = [("content-type", "application/json")];
    let refused = app.client.send("POST", "/v1/links/bulk", &json, "{}").await;
    assert_eq!(refused.status, 415, "{}", refused.text());
    // A line without end stops the import with an answer, not with memory.
    let body = format!("{{\"url\":\"https://example.com/\"}}\n{}", "x".repeat(200_000));
    let rows = rows(&bulk(&app.client, body).await);
    assert_eq!((rows.len(), &rows[0]["status"], &rows[1]["status"]), (2, &json!(201), &json!(422)));
    assert!(rows[1]["detail"].as_str().unwrap().contains("longer than"), "{}", rows[1]);
}
