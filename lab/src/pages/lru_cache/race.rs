//! Several policies under the same requests, a little every tenth of a second.

use std::time::Duration;

use benches::harness::Keys;
use futures::{Stream, stream};
use lru_cache::policy::{Arc, Clock, Fifo, Lfu, S3Fifo, Sieve, Slru, WTinyLfu};
use lru_cache::sim::run::PolicyName;
use lru_cache::sim::trace::{self, Format};
use lru_cache::{Cache, LruCache, PolicyCache};
use serde::{Deserialize, Serialize};
use service::Problem;

/// More lines than this in one chart cannot be told apart.
const POLICIES_MAX: usize = 4;
/// Larger caches would take long to fill, and memory.
const CAPACITY_MAX: u32 = 100_000;
/// More keys than this show nothing new.
const KEYS_MAX: u32 = 1_000_000;
/// A race ends after this many moments: a minute.
const MOMENTS: u32 = 600;
const MOMENT: Duration = Duration::from_millis(100);
/// Requests in a moment: under ten milliseconds for four policies.
const REQUESTS_A_MOMENT: u64 = 5_000;
/// A longer trace would take memory, eight bytes a request, and more than its race's minute.
const TRACE_REQUESTS_MAX: usize = 2_000_000;
/// The moments a trace is spread over: half a minute, or fewer when it is short.
const TRACE_MOMENTS: u64 = 300;
/// A moment of fewer requests would make the line jump.
const TRACE_REQUESTS_A_MOMENT_MIN: u64 = 100;
/// A scan comes after this many requests, and is twice as long as the cache.
const SCAN_EVERY: u64 = 50_000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mix {
    /// A few keys are asked for most of the time.
    Zipf,
    /// All keys, one after the other, over and over.
    Loop,
    /// Zipf, and now and then a walk through keys nobody else wants.
    Scan,
    /// Zipf, but every ten seconds other keys are popular.
    Shift,
    /// The requests of a trace, once.
    Trace,
}

/// The form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    policies: Vec<String>,
    mix: Mix,
    capacity: u32,
    keys: u32,
    /// Lines of a trace in the format `lirs` or `arc`, for the mix `trace`.
    #[serde(default)]
    trace: String,
}

/// Reads a key, and inserts it on a miss. Returns whether it was a hit.
type Ask = Box<dyn FnMut(u64) -> bool + Send>;

/// A race that has not begun.
pub(super) struct Race {
    runners: Vec<Runner>,
    requests: Requests,
}

struct Runner {
    policy: PolicyName,
    ask: Ask,
    hits: u64,
}

/// How the race stands.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Moment {
    at_ms: u64,
    requests: u64,
    standings: Vec<Standing>,
}

/// How one policy stands.
#[derive(Debug, PartialEq, Serialize)]
struct Standing {
    policy: &'static str,
    /// Of the requests of this moment.
    percent_now: f64,
    /// Of all requests.
    percent: f64,
}

impl Race {
    /// Checks the form.
    ///
    /// # Errors
    /// 422 naming the field at fault.
    pub(super) fn new(settings: &Settings) -> Result<Self, Problem> {
        let Settings { policies, mix, capacity, keys, trace } = settings;
        let within = |field: &str, value: u32, max: u32| match value {
            value if (1..=max).contains(&value) => Ok(()),
            value => {
                let detail = format!("must be 1 to {max}, not {value}");
                Err(Problem::invalid(format!("/{field}"), detail))
            }
        };
        within("capacity", *capacity, CAPACITY_MAX)?;
        within("keys", *keys, KEYS_MAX)?;
        if !(1..=POLICIES_MAX).contains(&policies.len()) {
            let detail = format!("choose 1 to {POLICIES_MAX}, not {}", policies.len());
            return Err(Problem::invalid("/policies", detail));
        }
        let runner = |name: &String| {
            let wrong = |detail| Problem::invalid("/policies", detail);
            let policy = name.parse::<PolicyName>().map_err(wrong)?;
            let needs_future =
                || wrong("opt needs the whole trace first; the simulator shows it".to_owned());
            let ask = asker(policy, *capacity as usize).ok_or_else(needs_future)?;
            Ok(Runner { policy, ask, hits: 0 })
        };
        let runners = policies.iter().map(runner).collect::<Result<Vec<_>, Problem>>()?;
        let (scan, keys) = (2 * u64::from(*capacity), u64::from(*keys));
        let trace = if *mix == Mix::Trace { keys_of(trace)? } else { Vec::new() };
        let popular = Keys::zipf(keys, 0.9);
        let requests = Requests { mix: *mix, keys, popular, scan, trace, sent: 0 };
        Ok(Self { runners, requests })
    }

    /// A moment every tenth of a second. `place` is given back when the stream ends.
    pub(super) fn moments(
        self,
        place: impl Send + 'static,
    ) -> impl Stream<Item = (&'static str, Moment)> + Send + 'static {
        let start = (self, tokio::time::interval(MOMENT), 0, fastrand::Rng::new(), place);
        stream::unfold(start, |(mut race, mut ticks, number, mut rng, place)| async move {
            (number < MOMENTS && !race.requests.are_over()).then_some(())?;
            ticks.tick().await;
            let moment = race.moment(number + 1, &mut rng);
            Some((("moment", moment), (race, ticks, number + 1, rng, place)))
        })
    }

    fn moment(&mut self, number: u32, rng: &mut fastrand::Rng) -> Moment {
        let asked = self.requests.in_a_moment();
        let keys: Vec<u64> = (0..asked).map(|_| self.requests.next(rng)).collect();
        let requests = self.requests.sent;
        let percent = |hits: u64, of: u64| 100.0 * hits as f64 / of as f64;
        let standing = |runner: &mut Runner| {
            let hits = keys.iter().filter(|&&key| (runner.ask)(key)).count() as u64;
            runner.hits += hits;
            Standing {
                policy: runner.policy.name(),
                percent_now: percent(hits, asked),
                percent: percent(runner.hits, requests),
            }
        };
        let standings = self.runners.iter_mut().map(standing).collect();
        Moment { at_ms: u64::from(number) * MOMENT.as_millis() as u64, requests, standings }
    }
}

/// The keys of a trace that was sent.
fn keys_of(text: &str) -> Result<Vec<u64>, Problem> {
    let wrong = |detail: String| Problem::invalid("/trace", detail);
    let requests = trace::parse_at_most(text.as_bytes(), Format::Auto, TRACE_REQUESTS_MAX)
        .map_err(|error| wrong(error.to_string()))?;
    if requests.is_empty() {
        return Err(wrong("choose a file: one key on each line".to_owned()));
    }
    Ok(requests.into_iter().map(|request| request.key).collect())
}

/// The sequence of keys: endless, unless it is a trace.
struct Requests {
    mix: Mix,
    keys: u64,
    popular: Keys,
    scan: u64,
    trace: Vec<u64>,
    sent: u64,
}

impl Requests {
    fn are_over(&self) -> bool {
        self.mix == Mix::Trace && self.sent == self.trace.len() as u64
    }

    fn in_a_moment(&self) -> u64 {
        if self.mix != Mix::Trace {
            return REQUESTS_A_MOMENT;
        }
        let length = self.trace.len() as u64;
        length.div_ceil(TRACE_MOMENTS).max(TRACE_REQUESTS_A_MOMENT_MIN).min(length - self.sent)
    }

    fn next(&mut self, rng: &mut fastrand::Rng) -> u64 {
        let at = self.sent;
        self.sent += 1;
        match self.mix {
            Mix::Zipf => self.popular.pick(rng),
            Mix::Loop => at % self.keys,
            Mix::Trace => self.trace[at as usize],
            // Scanned keys are beyond the popular ones and never come again.
            Mix::Scan if at % SCAN_EVERY < self.scan.min(SCAN_EVERY / 2) => self.keys + at,
            Mix::Scan => self.popular.pick(rng),
            Mix::Shift => {
                let shifts = at / (100 * REQUESTS_A_MOMENT);
                (self.popular.pick(rng) + shifts * self.keys / 3) % self.keys
            }
        }
    }
}

/// A cache of this policy. `None`: it cannot run live.
fn asker(policy: PolicyName, capacity: usize) -> Option<Ask> {
    fn of(mut cache: impl Cache<u64, ()> + Send + 'static) -> Option<Ask> {
        Some(Box::new(move |key| {
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, ());
            }
            hit
        }))
    }
    match policy {
        PolicyName::Lru => of(LruCache::new(capacity)),
        PolicyName::Fifo => of(PolicyCache::<u64, (), Fifo>::new(capacity)),
        PolicyName::Clock => of(PolicyCache::<u64, (), Clock>::new(capacity)),
        PolicyName::Lfu => of(PolicyCache::<u64, (), Lfu>::new(capacity)),
        PolicyName::Sieve => of(PolicyCache::<u64, (), Sieve>::new(capacity)),
        PolicyName::S3Fifo => of(PolicyCache::<u64, (), S3Fifo>::new(capacity)),
        PolicyName::Slru => of(PolicyCache::<u64, (), Slru>::new(capacity)),
        PolicyName::Arc => of(PolicyCache::<u64, (), Arc>::new(capacity)),
        PolicyName::WTinyLfu => of(PolicyCache::<u64, (), WTinyLfu>::new(capacity)),
        PolicyName::Opt => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::json;

    use super::{MOMENTS, Race, Settings};

    fn settings(changed: serde_json::Value) -> Settings {
        let mut all =
            json!({"policies": ["lru", "wtinylfu"], "mix": "loop", "capacity": 999, "keys": 1000});
        for (name, value) in changed.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a form")
    }

    #[tokio::test(start_paused = true)]
    async fn a_race_ends_and_the_loop_defeats_lru() {
        let race = Race::new(&settings(json!({}))).expect("a good form");
        let moments: Vec<_> = race.moments(()).collect().await;
        assert_eq!(moments.len(), MOMENTS as usize);
        let (_, last) = moments.last().expect("there are moments");
        assert_eq!(last.standings[0].percent, 0.0);
        assert!(last.standings[1].percent > 50.0, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_is_raced_once_to_its_end() {
        let lines: String = (0..1_234).map(|at| format!("{}\n", at % 100)).collect();
        let form = settings(json!({"mix": "trace", "trace": lines, "capacity": 100}));
        let moments: Vec<_> = Race::new(&form).expect("a good form").moments(()).collect().await;
        let (_, last) = moments.last().expect("there are moments");
        assert_eq!(last.requests, 1_234);
        let ideal = 100.0 * 1_134.0 / 1_234.0;
        assert!((last.standings[0].percent - ideal).abs() < 0.001, "{last:?}");
    }

    #[test]
    fn a_bad_form_is_refused() {
        for bad in [
            json!({"capacity": 0}),
            json!({"capacity": 100_001}),
            json!({"keys": 0}),
            json!({"policies": []}),
            json!({"policies": ["lru", "lru", "lru", "lru", "lru"]}),
            json!({"policies": ["opt"]}),
            json!({"policies": ["mru"]}),
            json!({"mix": "trace"}),
            json!({"mix": "trace", "trace": "1\nx\n"}),
            json!({"mix": "trace", "trace": "1 999999999 0 0\n"}),
        ] {
            let refused = Race::new(&settings(bad.clone())).err();
            assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(422), "{bad}");
        }
    }
}
