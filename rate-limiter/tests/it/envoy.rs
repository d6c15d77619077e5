//! Envoy's RateLimitService over a real socket, asked by a real gRPC client (tonic).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rate_limiter::Store;
use rate_limiter::envoy::tree::Tree;
use rate_limiter::envoy::wire::{
    Code, Descriptor, Entry, Override, RateLimitRequest, RateLimitResponse, UInt64Value, Unit,
};
use rate_limiter::envoy::{Envoy, router};
use rate_limiter::store::memory::Memory;
use rate_limiter::store::redis::RedisStore;
use tonic::transport::Channel;

const TREE: &str = r"
domain: shop
descriptors:
  - key: plan
    value: free
    descriptors:
      - key: user
        rate_limit: { name: per-user, unit: year, requests_per_unit: 3 }
  - key: path
    value: /static*
    rate_limit: { unlimited: true }
  - key: path
    rate_limit: { name: any-path, unit: year, requests_per_unit: 2 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: year, requests_per_unit: 1 }
  - key: special
    rate_limit: { unit: year, requests_per_unit: 9, replaces: [{ name: any-path }] }
";

async fn serve<S: Store>(store: S) -> Client {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    std::fs::write(&file, TREE).unwrap();
    let envoy = Envoy::new(store, [Tree::read(&file).unwrap()]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(Arc::new(envoy))).await });
    Client::to(address).await
}

struct Client(tonic::client::Grpc<Channel>);

impl Client {
    async fn to(address: SocketAddr) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self(tonic::client::Grpc::new(channel.connect().await.unwrap()))
    }

    async fn send(
        &mut self,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, tonic::Status> {
        self.0.ready().await.unwrap();
        let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
        let codec = tonic_prost::ProstCodec::<RateLimitRequest, RateLimitResponse>::default();
        let path = axum::http::uri::PathAndQuery::from_static(path);
        self.0.unary(tonic::Request::new(request), path, codec).await.map(|r| r.into_inner())
    }

    async fn ask(&mut self, descriptors: &[Descriptor]) -> (Code, Vec<(Code, u32)>) {
        let response = self.send(request(descriptors)).await.unwrap();
        let statuses = response.statuses.iter();
        (response.overall_code(), statuses.map(|s| (s.code(), s.limit_remaining)).collect())
    }
}

fn request(descriptors: &[Descriptor]) -> RateLimitRequest {
    let (domain, descriptors) = ("shop".to_owned(), descriptors.to_vec());
    RateLimitRequest { domain, descriptors, hits_addend: 0 }
}

fn descriptor(pairs: &[(&str, &str)]) -> Descriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    Descriptor { entries: pairs.iter().map(entry).collect(), ..Descriptor::default() }
}

fn user(name: &str) -> Descriptor {
    descriptor(&[("plan", "free"), ("user", name)])
}

fn path(path: &str) -> Descriptor {
    descriptor(&[("path", path)])
}

#[tokio::test]
async fn every_descriptor_has_a_status_of_its_own_and_one_over_is_over_for_all() {
    let mut client = serve(Memory::default()).await;
    let both = [user("1"), path("/search"), path("/static/logo")];
    let nothing = (Code::Ok, 0);
    for (left, on_path) in [(2, 1), (1, 0)] {
        let (overall, statuses) = client.ask(&both).await;
        assert_eq!(
            (overall, &statuses[..]),
            (Code::Ok, &[(Code::Ok, left), (Code::Ok, on_path), nothing][..])
        );
    }
    let (overall, statuses) = client.ask(&both).await;
    assert_eq!(
        (overall, statuses),
        (Code::OverLimit, vec![(Code::Ok, 0), (Code::OverLimit, 0), nothing])
    );
    assert_eq!(
        client.ask(&[user("2")]).await.1,
        [(Code::Ok, 2)],
        "each user has a limit of its own"
    );
    let unknown = descriptor(&[("plan", "paid"), ("user", "1")]);
    assert_eq!(
        client.ask(&[unknown]).await,
        (Code::Ok, vec![nothing]),
        "what is not in the tree passes"
    );
}

#[tokio::test]
async fn shadows_replacements_overrides_and_addends_are_those_of_envoy() {
    let mut client = serve(Memory::default()).await;
    let watched = descriptor(&[("watched", "x")]);
    for _ in 0..3 {
        assert_eq!(
            client.ask(std::slice::from_ref(&watched)).await.0,
            Code::Ok,
            "a shadow is never enforced"
        );
    }
    for left in [8, 7, 6] {
        let answer = client.ask(&[path("/replaced"), descriptor(&[("special", "x")])]).await;
        assert_eq!(answer, (Code::Ok, vec![(Code::Ok, 0), (Code::Ok, left)]));
    }
    assert_eq!(client.ask(&[path("/replaced")]).await.1, [(Code::Ok, 1)], "nothing was charged");
    let own = |value| Descriptor { hits_addend: Some(UInt64Value { value }), ..user("addend") };
    assert_eq!(client.ask(&[own(2)]).await.1, [(Code::Ok, 1)]);
    assert_eq!(client.ask(&[own(0)]).await.1, [(Code::Ok, 1)], "zero looks");
    let back = Descriptor { is_negative_hits: true, ..own(1) };
    assert_eq!(client.ask(&[back]).await.1, [(Code::Ok, 2)]);
    assert_eq!(client.ask(&[own(3)]).await.0, Code::OverLimit);
    let limit = Some(Override { requests_per_unit: 100, unit: Unit::Day.into() });
    let overridden = Descriptor { limit, ..user("addend") };
    assert_eq!(client.ask(&[overridden]).await.1, [(Code::Ok, 99)]);
    let all = RateLimitRequest { hits_addend: 3, ..request(&[user("three")]) };
    let response = client.send(all).await.unwrap();
    assert_eq!(response.statuses[0].limit_remaining, 0);
    let fields: Vec<_> =
        response.response_headers_to_add.iter().map(|field| field.key.as_str()).collect();
    assert_eq!(fields, ["ratelimit-policy", "ratelimit"]);
    let limit = response.statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit(), &*limit.name), (3, Unit::Year, "per-user"));
}

#[tokio::test]
async fn what_is_wrong_is_a_status_that_names_the_field() {
    let mut client = serve(Memory::default()).await;
    let nameless = RateLimitRequest { domain: String::new(), ..request(&[user("1")]) };
    for (request, field) in [
        (nameless, "domain "),
        (request(&[]), "descriptors "),
        (request(&[Descriptor::default()]), "descriptors/0/entries "),
        (request(&[descriptor(&[("", "x")])]), "descriptors/0/entries/key "),
    ] {
        let status = client.send(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(field), "{status}");
    }
    let long = user(&"x".repeat(2_000));
    assert_eq!(client.ask(&[long.clone(), long]).await.1, [(Code::Ok, 2), (Code::Ok, 1)]);
}

#[tokio::test]
async fn a_store_that_is_down_is_unavailable_so_that_envoy_decides() {
    let redis = infra::redis().await.unwrap();
    let store = RedisStore::connect(redis.url(), Duration::from_millis(300)).unwrap();
    let mut client = serve(store).await;
    assert_eq!(client.ask(&[user("1")]).await.1, [(Code::Ok, 2)]);
    redis.kill9().await.unwrap();
    let status = client.send(request(&[user("1")])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
}
