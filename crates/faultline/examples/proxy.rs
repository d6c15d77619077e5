//! A proxy from the command line, until Ctrl-C:
//! `cargo run -p faultline --example proxy -- 127.0.0.1:6379 latency:50ms reset:4KiB@down`.

use faultline::{Fault, Proxy, ScopedFault};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(upstream) = arguments.next() else {
        println!("usage: proxy UPSTREAM [FAULT..]\nfaults: {}", Fault::EXAMPLES.join(", "));
        return Ok(());
    };
    let faults = arguments.map(|text| text.parse()).collect::<Result<Vec<ScopedFault>, _>>()?;
    let proxy = Proxy::start(&upstream).await?;
    for fault in faults {
        proxy.set(fault);
        println!("set {fault}");
    }
    println!("{} -> {upstream}, seed {}", proxy.addr(), proxy.seed());
    tokio::signal::ctrl_c().await?;
    println!("{:#?}", proxy.stats());
    Ok(())
}
