//! Prometheus metrics: the recorder of this process, and the two every service has.
//!
//! - `http_requests_total{route, method, status}`
//! - `http_request_duration_seconds{route, method, status}`, until the response's head
//!
//! `route` is the pattern (`/v1/links/{code}`), so the number of series is bounded by the code,
//! not by clients. A system adds its own with the `metrics` macros; a histogram whose name ends in
//! `_seconds` gets these buckets.
//!
//! The recorder is one per process, whoever installs it first: systems mounted together share
//! `/metrics` and are told apart by the mount path in `route`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram, SharedString, counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the `_seconds` histograms: 100 us to 30 s.
pub const SECONDS_BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];

/// How often samples are folded into buckets when nobody scrapes. Until then each takes 8 bytes:
/// without it a service that is never scraped would grow for ever.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Installs the recorder, or finds it installed; returns what renders `/metrics`.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(start_recorder).clone()
}

fn start_recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::error!("another metrics recorder is installed; /metrics will stay empty");
    }
    metrics::describe_counter!("http_requests_total", "Requests answered");
    metrics::describe_histogram!(
        "http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time from the request's head to the response's head"
    );
    let upkeep = handle.clone();
    let folding = std::thread::Builder::new().name("metrics-upkeep".to_owned());
    let spawned = folding.spawn(move || {
        loop {
            std::thread::sleep(UPKEEP_EVERY);
            upkeep.run_upkeep();
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no metrics upkeep: memory grows until /metrics is scraped");
    }
    handle
}

/// The metric handles of one route, kept so that a request builds no labels and hashes nothing:
/// it walks a list of the few (method, status) pairs this route has answered with.
#[derive(Default)]
pub struct RouteMetrics(ArcSwap<Vec<Arc<Cell>>>);

struct Cell {
    route: Box<str>,
    method: &'static str,
    status: StatusCode,
    total: Counter,
    seconds: Histogram,
}

impl RouteMetrics {
    /// Counts one answered request.
    pub fn record(&self, route: &str, method: &Method, status: StatusCode, elapsed: Duration) {
        let method = method_label(method);
        let cells = self.0.load();
        // The route is compared too: one router may be mounted under two prefixes.
        let known = cells
            .iter()
            .find(|cell| cell.status == status && cell.method == method && *cell.route == *route);
        match known {
            Some(cell) => cell.record(elapsed),
            None => self.add(Cell::new(route, method, status)).record(elapsed),
        }
    }

    /// Two requests adding the same cell at once make it twice: same series, nothing lost.
    fn add(&self, cell: Cell) -> Arc<Cell> {
        let cell = Arc::new(cell);
        self.0.rcu(|cells| {
            let mut longer = Vec::clone(cells);
            longer.push(Arc::clone(&cell));
            longer
        });
        cell
    }
}

impl Cell {
    fn new(route: &str, method: &'static str, status: StatusCode) -> Self {
        let labels: [(&'static str, SharedString); 3] = [
            ("route", route.to_owned().into()),
            ("method", method.into()),
            ("status", status.as_str().to_owned().into()),
        ];
        Self {
            route: route.into(),
            method,
            status,
            total: counter!("http_requests_total", &labels),
            seconds: histogram!("http_request_duration_seconds", &labels),
        }
    }

    fn record(&self, elapsed: Duration) {
        self.total.increment(1);
        self.seconds.record(elapsed.as_secs_f64());
    }
}

/// Clients may invent methods: those share one label.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(&Method, &str); 7] = [
        (&Method::GET, "GET"),
        (&Method::POST, "POST"),
        (&Method::PUT, "PUT"),
        (&Method::DELETE, "DELETE"),
        (&Method::PATCH, "PATCH"),
        (&Method::HEAD, "HEAD"),
        (&Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN.iter().find(|(known, _)| *known == method).map_or("OTHER", |(_, label)| label)
}
