//! Deciding a request: every descriptor by its own limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::tree::{DEPTH_MAX, RateLimit, Tree};
use super::wire::{
    Code, CurrentLimit, Descriptor, DescriptorStatus, HeaderValue, ProtoDuration, RateLimitRequest,
    RateLimitResponse, Unit,
};
use crate::headers;
use crate::limiter::{Decision, Error, Key, Limiter, Store};
use crate::policy::{AlgorithmName, Policy};

/// Descriptors in one request. Envoy sends a handful.
pub const DESCRIPTORS_MAX: usize = 64;
/// Different sets of numbers, from the tree and from overrides. More means that a gateway computes
/// them per caller.
pub const RULES_MAX: usize = 10_000;

/// The service: a tree over a store.
pub struct Envoy<S: Store> {
    store: S,
    trees: HashMap<String, Tree>,
    rules: ArcSwap<Rules<S>>,
    making: Mutex<()>,
}

/// A limiter for each set of numbers.
type Rules<S> = HashMap<(u32, Unit), Arc<<S as Store>::Limiter>>;

/// What a descriptor is limited by.
struct Matched<'a> {
    limit: Option<&'a RateLimit>,
    shadow: bool,
    numbers: Option<(u32, Unit)>,
}

impl<S: Store> Envoy<S> {
    /// Decides by `trees`, one for each domain.
    pub fn new(store: S, trees: impl IntoIterator<Item = Tree>) -> Self {
        let trees = trees.into_iter().map(|tree| (tree.domain.clone(), tree)).collect();
        let (rules, making) = Default::default();
        Self { store, trees, rules, making }
    }

    /// Decides a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, or [`Error::Unavailable`]; what was charged before it
    /// stays charged.
    pub async fn should_rate_limit(
        &self,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, Error> {
        check(&request)?;
        let tree = self.trees.get(&request.domain);
        let matched: Vec<_> =
            request.descriptors.iter().map(|descriptor| matched(tree, descriptor)).collect();
        let replaced: HashSet<&str> = matched
            .iter()
            .filter_map(|matched| matched.limit)
            .flat_map(|limit| limit.replaces.iter().map(|replaced| replaced.name.as_str()))
            .collect();
        let mut response = RateLimitResponse::default();
        let mut overall = Code::Ok;
        let mut binding: Option<(Policy, Decision)> = None;
        for (descriptor, matched) in request.descriptors.iter().zip(&matched) {
            let name = matched.limit.and_then(|limit| limit.name.as_deref());
            let is_replaced = name.is_some_and(|name| replaced.contains(name));
            let Some(numbers) = matched.numbers.filter(|_| !is_replaced) else {
                response
                    .statuses
                    .push(DescriptorStatus { code: Code::Ok.into(), ..Default::default() });
                continue;
            };
            let hits = hits(&request, descriptor);
            let limiter = self.limiter(numbers)?;
            let decision = self.decide(&limiter, &request.domain, descriptor, hits).await?;
            let over = !decision.allowed() && !matched.shadow;
            count(&request.domain, matched.shadow, &decision);
            if over {
                overall = Code::OverLimit;
            }
            response.statuses.push(status(numbers, name, over, &decision));
            if binding.as_ref().is_none_or(|(_, other)| matters_more(&decision, other)) {
                binding = Some((limiter.policy().clone(), decision));
            }
        }
        response.overall_code = overall.into();
        response.response_headers_to_add = binding.map(fields).unwrap_or_default();
        Ok(response)
    }

    async fn decide(
        &self,
        limiter: &S::Limiter,
        domain: &str,
        descriptor: &Descriptor,
        hits: u32,
    ) -> Result<Decision, Error> {
        let caller = name_of(domain, descriptor);
        let key = Key::new(&caller)?;
        match (hits, descriptor.is_negative_hits) {
            (0, _) => limiter.peek(key).await,
            (hits, true) => limiter.refund(key, hits).await,
            (hits, false) => limiter.check(key, hits).await,
        }
    }

    fn limiter(&self, numbers: (u32, Unit)) -> Result<Arc<S::Limiter>, Error> {
        if let Some(limiter) = self.rules.load().get(&numbers) {
            return Ok(Arc::clone(limiter));
        }
        let _one_at_a_time = self.making.lock();
        let rules = self.rules.load();
        if let Some(limiter) = rules.get(&numbers) {
            return Ok(Arc::clone(limiter));
        }
        if rules.len() >= RULES_MAX {
            let reason = format!("would be one more than the {RULES_MAX} different limits in use");
            return Err(Error::invalid("limit", reason));
        }
        let (count, unit) = numbers;
        let per_ms = unit.as_ms().ok_or_else(|| Error::invalid("limit/unit", "is unknown"))?;
        let policy = Policy::single("rls", AlgorithmName::FixedWindow, count, per_ms, None)?;
        self.store.accepts(&policy)?;
        let limiter = Arc::new(self.store.limiter(policy));
        let mut more = Rules::<S>::clone(&rules);
        more.insert(numbers, Arc::clone(&limiter));
        self.rules.store(Arc::new(more));
        Ok(limiter)
    }
}

fn check(request: &RateLimitRequest) -> Result<(), Error> {
    if request.domain.is_empty() {
        return Err(Error::invalid("domain", "must not be empty"));
    }
    if request.descriptors.is_empty() || request.descriptors.len() > DESCRIPTORS_MAX {
        let reason = format!("must be 1 to {DESCRIPTORS_MAX}, not {}", request.descriptors.len());
        return Err(Error::invalid("descriptors", reason));
    }
    for (index, descriptor) in request.descriptors.iter().enumerate() {
        let at = format!("descriptors/{index}/entries");
        if descriptor.entries.is_empty() || descriptor.entries.len() > DEPTH_MAX {
            return Err(Error::invalid(at, format!("must be 1 to {DEPTH_MAX}")));
        }
        if descriptor.entries.iter().any(|entry| entry.key.is_empty()) {
            return Err(Error::invalid(format!("{at}/key"), "must not be empty"));
        }
    }
    Ok(())
}

fn matched<'a>(tree: Option<&'a Tree>, descriptor: &Descriptor) -> Matched<'a> {
    let node = tree.and_then(|tree| tree.find(&descriptor.entries));
    let limit = node.and_then(|node| node.rate_limit.as_ref());
    let shadow = node.is_some_and(|node| node.shadow_mode);
    let overridden = descriptor.limit.map(|limit| (limit.requests_per_unit, limit.unit()));
    let configured = limit
        .filter(|limit| !limit.unlimited)
        .and_then(|limit| Some((limit.requests_per_unit?, limit.unit?)));
    Matched { limit, shadow, numbers: overridden.or(configured) }
}

/// The descriptor's own addend, else the request's, of which none means one.
fn hits(request: &RateLimitRequest, descriptor: &Descriptor) -> u32 {
    match descriptor.hits_addend {
        Some(own) => u32::try_from(own.value).unwrap_or(u32::MAX),
        None => request.hits_addend.max(1),
    }
}

/// The domain and all pairs, lengths first where they could be confused. What is longer than a key
/// may be is kept by its fingerprint.
fn name_of(domain: &str, descriptor: &Descriptor) -> String {
    use std::fmt::Write;
    let mut name = format!("{domain}|");
    for entry in &descriptor.entries {
        // Writing to a string cannot fail.
        let _ = write!(name, "{}:{}={}|", entry.key.len(), entry.key, entry.value);
    }
    if name.len() <= crate::limiter::KEY_BYTES_MAX && !name.bytes().any(|b| b.is_ascii_control()) {
        return name;
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(name.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn status(
    (requests_per_unit, unit): (u32, Unit),
    name: Option<&str>,
    over: bool,
    decision: &Decision,
) -> DescriptorStatus {
    let reset = decision.quota.reset_after;
    let name = name.unwrap_or_default().to_owned();
    DescriptorStatus {
        code: if over { Code::OverLimit } else { Code::Ok }.into(),
        current_limit: Some(CurrentLimit { requests_per_unit, unit: unit.into(), name }),
        limit_remaining: decision.quota.remaining,
        duration_until_reset: Some(ProtoDuration {
            seconds: reset.as_secs() as i64,
            nanos: reset.subsec_nanos() as i32,
        }),
    }
}

/// The limit that a client should hear of: a denial before the least left.
fn matters_more(one: &Decision, other: &Decision) -> bool {
    let rank = |decision: &Decision| (decision.allowed(), decision.quota.remaining);
    rank(one) < rank(other)
}

fn fields((policy, decision): (Policy, Decision)) -> Vec<HeaderValue> {
    let mut fields = axum::http::HeaderMap::new();
    headers::apply(&mut fields, &policy, &decision);
    let field = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        let value = value.to_str().ok()?.to_owned();
        Some(HeaderValue { key: name.as_str().to_owned(), value })
    };
    fields.iter().filter_map(field).collect()
}

fn count(domain: &str, shadow: bool, decision: &Decision) {
    let outcome = match (decision.allowed(), shadow) {
        (true, _) => "allowed",
        (false, true) => "shadow-denied",
        (false, false) => "denied",
    };
    let domain = domain.to_owned();
    metrics::counter!("rate_limiter_rls_total", "domain" => domain, "outcome" => outcome)
        .increment(1);
}
