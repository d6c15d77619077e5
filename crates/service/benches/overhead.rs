//! What `harden` and `serve` cost a request: hello-world three ways, rounds interleaved, over real
//! sockets. `cargo bench -p service`.
//!
//! The server runs on one thread and the figure is that thread's CPU time for each request, so
//! that a client sharing the machine does not blur it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use service::{Limits, Shutdown, harden, serve};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(400);
const CONNECTIONS: usize = 32;
const REQUEST: &[u8] = b"GET /hello/world HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n\r\n";

#[derive(Clone, Copy, Debug)]
enum Variant {
    BareAxum,
    Served,
    HardenedAndServed,
}

fn main() {
    let variants = [Variant::BareAxum, Variant::Served, Variant::HardenedAndServed];
    let servers = variants.map(start);
    let mut cpu_ns = [const { Vec::new() }; 3];
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        for (index, (address, thread)) in servers.iter().enumerate() {
            let (cpu, rate) = measure(*address, *thread);
            if round > 0 {
                // the first round warms up
                cpu_ns[index].push(cpu);
                rates[index].push(rate);
            }
        }
    }
    println!("{:<20} {:>14} {:>12} {:>8}", "", "CPU ns/request", "requests/s", "CPU x");
    let bare = median(&mut cpu_ns[0].clone());
    for (index, variant) in variants.iter().enumerate() {
        let (cpu, rate) = (median(&mut cpu_ns[index]), median(&mut rates[index]));
        let name = format!("{variant:?}");
        println!("{name:<20} {cpu:>14.0} {rate:>12.0} {:>8.3}", cpu / bare);
    }
    println!("medians of {ROUNDS} interleaved rounds of {ROUND:?}, {CONNECTIONS} connections");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn start(variant: Variant) -> (SocketAddr, i32) {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let listener = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            send.send((listener.local_addr().unwrap(), thread_id())).unwrap();
            let router = Router::new().route("/hello/{name}", get(async || "hello"));
            let router = match variant {
                Variant::BareAxum => return axum::serve(listener, router).await.unwrap(),
                Variant::Served => router,
                Variant::HardenedAndServed => harden(router, Limits::default()),
            };
            serve(listener, router, Shutdown::new()).await;
        });
    });
    receive.recv().unwrap()
}

fn thread_id() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").expect("this bench reads Linux's /proc");
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Nanoseconds this thread of ours has been on a CPU.
fn cpu_time_ns(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn measure(address: SocketAddr, thread: i32) -> (f64, f64) {
    let mut sockets: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut answer = [0; 1024];
    let (started, cpu_before, mut requests) = (Instant::now(), cpu_time_ns(thread), 0);
    while started.elapsed() < ROUND {
        for socket in &mut sockets {
            socket.write_all(REQUEST).unwrap();
        }
        for socket in &mut sockets {
            let length = socket.read(&mut answer).unwrap();
            assert!(answer[..length].ends_with(b"hello"), "a response in one piece");
            requests += 1;
        }
    }
    let requests = f64::from(requests);
    let cpu = (cpu_time_ns(thread) - cpu_before) as f64;
    (cpu / requests, requests / started.elapsed().as_secs_f64())
}
