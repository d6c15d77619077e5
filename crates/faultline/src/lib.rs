//! A TCP proxy that injects named, seeded faults between a service and its store.
//!
//! Use it when a claim is about the network between two processes: what a service does when its
//! store is slow, silent, or answers half a reply. When the claim is about the store process
//! itself (killed, frozen, restarted), use the handles of the `infra` crate instead; when it is
//! about timing logic, use a pure core and virtual time.
//!
//! ```
//! use faultline::{Direction, Fault, Proxy};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let store_addr = store.local_addr()?;
//! let proxy = Proxy::start(store_addr).await?;
//! proxy.set("latency:5ms".parse::<Fault>()?);
//! proxy.set(Fault::Slice { bytes_max: 1 }.on(Direction::Down));
//! # let server = tokio::spawn(async move {
//! #     let (mut stream, _) = store.accept().await.unwrap();
//! #     stream.write_all(b"hello").await.unwrap();
//! # });
//!
//! let mut service = tokio::net::TcpStream::connect(proxy.addr()).await?;
//! let mut greeting = [0; 5];
//! service.read_exact(&mut greeting).await?; // arrives late, a byte at a time
//! assert_eq!(proxy.stats().bytes_down, 5);
//! # server.await?;
//! # Ok(()) }
//! ```
//!
//! What is deliberately absent: packet loss, reordering and duplication, which TCP hides from
//! both ends and turns into the latency, stalls and resets that are here.

mod error;
pub use error::{Error, Result};

mod fault;
pub use fault::{Direction, Fault, ScopedFault};

mod plan;

mod lane;

mod proxy;
pub use proxy::{Proxy, Stats};
