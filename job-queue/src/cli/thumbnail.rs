//! The job: a thumbnail of an image.
//!
//! Made to be delivered more than once: the thumbnail is written under a temporary name and takes
//! its real one in the ledger's transaction, which only the first delivery gets through.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::{ImageFormat, ImageReader};
use job_queue::worker::{Backoff, Context, Failure, Handler, Ledger, Once, Policy};
use serde::{Deserialize, Serialize};

/// Longest side of a thumbnail.
pub(crate) const SIDE_PX: u32 = 128;
/// Largest image that is decoded: a small file can claim to be a gigantic picture, and decoding it
/// would take the worker's memory.
const PIXELS_MAX: u64 = 50_000_000;

/// What is on the queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Thumbnail {
    pub(crate) image: PathBuf,
    pub(crate) thumbnail: PathBuf,
}

/// What does it.
pub(crate) struct MakeThumbnails {
    pub(crate) ledger: Ledger,
    /// Makes every job take at least this long, so that a demonstration can be watched.
    pub(crate) pace: Duration,
}

impl Handler for MakeThumbnails {
    type Job = Thumbnail;
    const JOB: &'static str = "thumbnail";

    fn policy(&self) -> Policy {
        let backoff = Backoff { base: Duration::from_secs(1), ..Backoff::default() };
        Policy { time_max: Duration::from_secs(60), attempts_max: 5, backoff }
    }

    async fn run(&self, job: Thumbnail, context: Context) -> Result<(), Failure> {
        // The key names the effect and not the message: a job that was sent twice is one job.
        let key = job.thumbnail.display().to_string();
        let retry = |error: job_queue::worker::ledger::Error| Failure::Retry(error.to_string());
        if self.ledger.begin(&key, context.epoch).await.map_err(retry)? == Once::Before {
            return Ok(());
        }
        let unfinished = unfinished(&job.thumbnail, &context);
        let made = unfinished.clone();
        // Decoding takes tens of milliseconds of pure computing: off the async threads.
        let making = tokio::task::spawn_blocking(move || make(&job.image, &made));
        making
            .await
            .map_err(|panic| Failure::Permanent(format!("the decoder panicked: {panic}")))??;
        tokio::time::sleep(self.pace).await;
        let (from, to) = (unfinished.clone(), PathBuf::from(&key));
        let publish = move |_: &_| fs::rename(&from, &to).map_err(|error| error.to_string());
        match self.ledger.once(&key, context.epoch, publish).await.map_err(retry)? {
            Once::Done => Ok(()),
            Once::Before | Once::Fenced => {
                // Somebody else's is in place; ours was in vain.
                drop(fs::remove_file(&unfinished));
                Ok(())
            }
        }
    }
}

fn unfinished(thumbnail: &Path, context: &Context) -> PathBuf {
    thumbnail.with_extension(format!("{}-{}.unfinished", context.id, context.epoch))
}

fn make(image: &Path, thumbnail: &Path) -> Result<(), Failure> {
    let io = |error: std::io::Error| Failure::Retry(format!("{}: {error}", image.display()));
    let wrong =
        |error: image::ImageError| Failure::Permanent(format!("{}: {error}", image.display()));
    let reader = || ImageReader::open(image).and_then(ImageReader::with_guessed_format).map_err(io);
    let (width, height) = reader()?.into_dimensions().map_err(wrong)?;
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        let what = format!("{}: {width} x {height} pixels are too many", image.display());
        return Err(Failure::Permanent(what));
    }
    let picture = reader()?.decode().map_err(wrong)?;
    let small = picture.thumbnail(SIDE_PX, SIDE_PX).to_rgb8();
    small.save_with_format(thumbnail, ImageFormat::Png).map_err(|error| match error {
        image::ImageError::IoError(error) => io(error),
        other => wrong(other),
    })
}
