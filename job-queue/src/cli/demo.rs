//! `demo`: thumbnails of many images, through the queue, while workers are being killed.
//!
//! The server runs in this process on a SQLite file; the workers are processes of their own, so
//! that they can be killed the way machines die: SIGKILL, in the middle of a job, without goodbye.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use job_queue::client::Client;
use job_queue::clock::Clock;
use job_queue::store::sqlite::Sqlite;
use job_queue::worker::{Ledger, enqueue};
use job_queue::{http, sqs};
use serde_json::{Value, json};
use service::{Limits, Shutdown};
use tokio::process::{Child, Command};

use super::thumbnail::{MakeThumbnails, SIDE_PX, Thumbnail};

const QUEUE: &str = "thumbnails";
const DEAD_LETTERS: &str = "thumbnails-dead";
/// Short, so that the jobs of a killed worker come back while somebody watches.
const VISIBILITY_SECONDS: u64 = 2;
const KILL_EVERY: Duration = Duration::from_millis(900);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 32;
/// The demonstration gives up after this long.
const TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct Demo {
    /// A folder of PNG and JPEG images; without it, images are generated
    #[arg(long)]
    images: Option<PathBuf>,
    /// How many images to generate
    #[arg(long, default_value_t = 60)]
    count: usize,
    /// Worker processes
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Workers to kill on the way
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Least time a job takes, so that kills meet jobs in the middle
    #[arg(long, default_value_t = 150)]
    pace_ms: u64,
    /// Where the thumbnails go; a temporary folder by default
    #[arg(long)]
    thumbnails: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<()> {
        let scratch = tempfile::tempdir().context("a temporary folder")?;
        let images = match &self.images {
            Some(folder) => images_in(folder)?,
            None => generate(&scratch.path().join("images"), self.count)?,
        };
        let thumbnails = self.thumbnails.clone().unwrap_or(scratch.path().join("thumbnails"));
        fs::create_dir_all(&thumbnails).context("--thumbnails")?;
        let (address, shutdown) = serve(&scratch.path().join("queue.db")).await?;
        let endpoint = format!("http://{address}");
        let client = Client::new(&endpoint, sqs::REGION_DEFAULT)?;
        create_queues(&client).await?;
        println!("a queue at {endpoint}, {} images, {} workers", images.len(), self.workers);
        for image in &images {
            let job = Thumbnail { image: image.clone(), thumbnail: target(&thumbnails, image) };
            enqueue::<MakeThumbnails, _>(&client, QUEUE, &job, Duration::ZERO).await?;
        }
        let ledger = scratch.path().join("ledger.db");
        let began = Instant::now();
        let killed = self.work(&endpoint, &client, &ledger, images.len()).await?;
        println!("\n{} workers were killed in {:.1} s", killed, began.elapsed().as_secs_f64());
        let proven = prove(&client, &ledger, &thumbnails, &images).await;
        shutdown.begin();
        proven
    }

    /// Workers, kills and the progress bar, until nothing is left to do. How many were killed.
    async fn work(
        &self,
        endpoint: &str,
        client: &Client,
        ledger: &Path,
        jobs: usize,
    ) -> Result<usize> {
        let start = || self.start_worker(endpoint, ledger);
        let mut workers = (0..self.workers.max(1)).map(|_| start()).collect::<Result<Vec<_>>>()?;
        let (began, mut killed, mut last_kill) = (Instant::now(), 0, Instant::now());
        loop {
            let stats: Vec<http::Stats> = client.get("/stats").await?;
            let of = |name: &str| stats.iter().find(|it| it.queue == name).cloned();
            let work = of(QUEUE).unwrap_or_default();
            let dead = of(DEAD_LETTERS).unwrap_or_default();
            let left = work.ready + work.in_flight + work.delayed;
            show(jobs, left, &work, &dead, killed);
            if left == 0 {
                break;
            }
            ensure!(began.elapsed() < TIME_MAX, "not done within {TIME_MAX:?}");
            if killed < self.kills && last_kill.elapsed() >= KILL_EVERY {
                let victim = fastrand::usize(..workers.len());
                workers[victim].kill().await.context("a worker to kill")?;
                workers[victim] = start()?;
                (killed, last_kill) = (killed + 1, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for worker in &mut workers {
            worker.kill().await.context("a worker to stop")?;
        }
        Ok(killed)
    }

    fn start_worker(&self, endpoint: &str, ledger: &Path) -> Result<Child> {
        Command::new(std::env::current_exe().context("this program")?)
            .args(["work", "--queue", QUEUE, "--dead-letters", DEAD_LETTERS])
            .args(["--endpoint", endpoint, "--region", sqs::REGION_DEFAULT, "--concurrency", "2"])
            .args(["--visibility-seconds", &VISIBILITY_SECONDS.to_string()])
            .args(["--log-filter", "error"])
            .args(["--pace-ms", &self.pace_ms.to_string(), "--ledger"])
            .arg(ledger)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("a worker")
    }
}

async fn serve(database: &Path) -> Result<(SocketAddr, Shutdown)> {
    let queues = Sqlite::open(database, Clock::system()).await?;
    let shutdown = Shutdown::new();
    let router = http::router(queues, sqs::ACCOUNT_DEFAULT, &shutdown);
    let router = service::harden(router, http::limits(Limits::default()));
    let listener = service::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = listener.local_addr().context("the listener's address")?;
    tokio::spawn(service::serve(listener, router, shutdown.clone()));
    Ok((address, shutdown))
}

async fn create_queues(client: &Client) -> Result<()> {
    let dead = json!({ "QueueName": DEAD_LETTERS });
    client.call::<Value>("CreateQueue", &dead).await?;
    let arn = json!({ "QueueUrl": format!("/{DEAD_LETTERS}"), "AttributeNames": ["QueueArn"] });
    let arn: Value = client.call("GetQueueAttributes", &arn).await?;
    let arn = arn["Attributes"]["QueueArn"].as_str().unwrap_or_default();
    // Far above the handler's own limit: for jobs that kill their worker each time.
    let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 20 }).to_string();
    let queue = json!({ "QueueName": QUEUE, "Attributes": { "RedrivePolicy": redrive } });
    client.call::<Value>("CreateQueue", &queue).await?;
    Ok(())
}

fn show(jobs: usize, left: usize, work: &http::Stats, dead: &http::Stats, killed: usize) {
    let done = jobs.saturating_sub(left);
    let filled = (BAR_WIDTH * done).checked_div(jobs).unwrap_or(BAR_WIDTH);
    let bar = "#".repeat(filled) + &"-".repeat(BAR_WIDTH - filled);
    print!(
        "\r[{bar}] {done}/{jobs} done, {} waiting, {} in flight, {} dead letters, {killed} killed ",
        work.ready + work.delayed,
        work.in_flight,
        dead.ready,
    );
    // A terminal that went away is no reason to stop.
    drop(std::io::stdout().flush());
}

/// Looks at what is there, not at what anybody said.
async fn prove(
    client: &Client,
    ledger: &Path,
    thumbnails: &Path,
    images: &[PathBuf],
) -> Result<()> {
    let stats: Vec<http::Stats> = client.get("/stats").await?;
    let work = stats.iter().find(|it| it.queue == QUEUE).context("the queue's numbers")?;
    let path = format!("/peek/{}/{DEAD_LETTERS}?limit=1000", sqs::REGION_DEFAULT);
    let letters: Vec<http::Peek> = client.get(&path).await?;
    let made: Vec<_> = images.iter().filter(|it| target(thumbnails, it).exists()).collect();
    for image in &made {
        let target = target(thumbnails, image);
        let (width, height) = image::image_dimensions(&target)
            .with_context(|| format!("{} is no image", target.display()))?;
        ensure!(width.max(height) <= SIDE_PX, "{} is {width} x {height}", target.display());
    }
    let (done, more_than_once) = Ledger::open(ledger)?.totals().await?;
    println!("images            {}", images.len());
    println!("thumbnails        {}", made.len());
    println!(
        "deliveries        {} ({} more than jobs)",
        work.received,
        work.received.saturating_sub(images.len() as u64)
    );
    println!("effects           {done}, of which more than once: {more_than_once}");
    println!("dead letters      {}", letters.len());
    for letter in &letters {
        let reason = letter.attributes.get("reason").map_or("(none)", String::as_str);
        println!("    {reason}");
    }
    let accounted = made.len() + letters.len() == images.len();
    if !accounted || done != made.len() as u64 || more_than_once > 0 {
        bail!("the numbers do not add up");
    }
    println!(
        "every image is either a thumbnail, made once in effect, or a dead letter with its reason"
    );
    Ok(())
}

fn target(thumbnails: &Path, image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    thumbnails.join(format!("{name}.png"))
}

fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("--images {}", folder.display());
    let mut images = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let extension = path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
        if matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg")) {
            images.push(path.canonicalize().with_context(context)?);
        }
    }
    ensure!(!images.is_empty(), "--images {}: no PNG or JPEG image there", folder.display());
    images.sort();
    Ok(images)
}

/// Pictures of colourful waves, half of them JPEG, and one file that only says it is an image.
fn generate(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).context("a folder for images")?;
    let mut images = Vec::new();
    for n in 0..count {
        let phase = n as f32 / 7.0;
        let wave = |x: u32, y: u32, k: f32| {
            let angle = phase + k * (x as f32 / 40.0 + y as f32 / 60.0);
            ((angle.sin() + 1.0) * 127.0) as u8
        };
        let picture = image::RgbImage::from_fn(640, 480, |x, y| {
            image::Rgb([wave(x, y, 1.0), wave(y, x, 1.7), wave(x + y, y, 0.6)])
        });
        let extension = if n % 2 == 0 { "png" } else { "jpg" };
        let path = folder.join(format!("picture-{n:03}.{extension}"));
        picture.save(&path).with_context(|| format!("{}", path.display()))?;
        images.push(path);
    }
    let corrupt = folder.join("corrupt.jpg");
    let whole = fs::read(
        images
            .iter()
            .find(|it| it.extension().is_some_and(|it| it == "jpg"))
            .context("at least two images")?,
    )?;
    fs::write(&corrupt, [&whole[..200], &[0; 100]].concat()).context("the corrupt image")?;
    images.insert(images.len() / 2, corrupt);
    Ok(images)
}
