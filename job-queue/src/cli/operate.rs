//! `stats`, `peek`, `redrive`: what an operator does with a running server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use job_queue::client::Client;
use job_queue::{http, sqs};
use serde_json::{Value, json};

#[derive(Args)]
pub(crate) struct Server {
    /// The server
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:9324")]
    pub(crate) endpoint: String,
    /// The region whose queues are meant
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = sqs::REGION_DEFAULT)]
    pub(crate) region: String,
}

/// What somebody can do who finds no server.
const ADVICE: &str = "start a server first: cargo run --release -p job-queue -- serve";

impl Server {
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.endpoint, &self.region)?)
    }

    /// # Errors
    /// When nobody is there, with what to do about it.
    pub(crate) fn must_answer(&self) -> Result<()> {
        Ok(service::reach::somebody_answers("endpoint", &self.endpoint, "http", ADVICE)?)
    }

    /// A client of a server that is there.
    fn reached(&self) -> Result<Client> {
        self.must_answer()?;
        self.client()
    }
}

#[derive(Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    server: Server,
}

impl Stats {
    pub(crate) async fn run(self) -> Result<()> {
        let stats: Vec<http::Stats> = self.server.reached()?.get("/stats").await?;
        println!(
            "{:<28} {:>8} {:>9} {:>8} {:>10} {:>9} {:>9}  {:>17}  {:>17}",
            "queue",
            "ready",
            "in flight",
            "delayed",
            "oldest",
            "recv/s",
            "done/s",
            "queued p50/p99 ms",
            "worked p50/p99 ms"
        );
        for it in stats {
            println!(
                "{:<28} {:>8} {:>9} {:>8} {:>9.1}s {:>9.1} {:>9.1}  {:>17}  {:>17}",
                it.queue,
                it.ready,
                it.in_flight,
                it.delayed,
                it.oldest_age_ms as f64 / 1_000.0,
                it.received_per_second,
                it.deleted_per_second,
                format!("{}/{}", it.in_queue_p50_ms, it.in_queue_p99_ms),
                format!("{}/{}", it.in_processing_p50_ms, it.in_processing_p99_ms),
            );
        }
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Peek {
    /// The queue's name
    queue: String,
    /// Messages to show
    #[arg(long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    server: Server,
}

impl Peek {
    pub(crate) async fn run(self) -> Result<()> {
        let path = format!("/peek/{}/{}?limit={}", self.server.region, self.queue, self.limit);
        let messages: Vec<http::Peek> = self.server.reached()?.get(&path).await?;
        for it in &messages {
            let body: String = it.body.chars().take(60).collect();
            println!("{} {:<8} received {} times  {body}", it.id, it.phase, it.receives);
            for (name, value) in &it.attributes {
                println!("    {name}: {value}");
            }
            if let Some(source) = &it.dead_letter_source {
                println!("    given up in: {source}");
            }
        }
        println!("{} messages shown; looking leased none of them", messages.len());
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Redrive {
    /// The dead-letter queue's name
    queue: String,
    /// Move to this queue instead of each message's own
    #[arg(long)]
    to: Option<String>,
    /// At most this many a second
    #[arg(long)]
    per_second: Option<u32>,
    #[command(flatten)]
    server: Server,
}

impl Redrive {
    pub(crate) async fn run(self) -> Result<()> {
        let client = self.server.reached()?;
        let source = arn(&client, &self.queue).await?;
        let mut input = json!({ "SourceArn": source });
        if let Some(to) = &self.to {
            input["DestinationArn"] = arn(&client, to).await?.into();
        }
        if let Some(rate) = self.per_second {
            input["MaxNumberOfMessagesPerSecond"] = rate.into();
        }
        let _: Value = client.call("StartMessageMoveTask", &input).await?;
        loop {
            let of = json!({ "SourceArn": source });
            let tasks: Value = client.call("ListMessageMoveTasks", &of).await?;
            let task = &tasks["Results"][0];
            let moved = &task["ApproximateNumberOfMessagesMoved"];
            match task["Status"].as_str() {
                Some("RUNNING") => tokio::time::sleep(Duration::from_millis(200)).await,
                Some("COMPLETED") => {
                    println!("{moved} messages moved out of {}", self.queue);
                    return Ok(());
                }
                other => bail!("the move ended as {other:?} after {moved} messages"),
            }
        }
    }
}

async fn arn(client: &Client, queue: &str) -> Result<String> {
    let input = json!({ "QueueUrl": format!("/{queue}"), "AttributeNames": ["QueueArn"] });
    let answer: Value = client.call("GetQueueAttributes", &input).await?;
    let arn = answer["Attributes"]["QueueArn"].as_str().map(str::to_owned);
    arn.with_context(|| format!("the server did not tell the ARN of {queue}"))
}
