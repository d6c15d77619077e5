//! Who is asking, when proxies stand between.
//!
//! Anybody can send `X-Forwarded-For`. Only what a proxy of ours has appended is true, so the list
//! is read from its right end, and only as far as the addresses are proxies we trust.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The field in which proxies tell for whom they ask.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address blocks of our own proxies; by default there are none and the header is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Block>);

/// A CIDR block. IPv4 is kept as IPv4-mapped IPv6, so that one comparison does for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    network: u128,
    mask: u128,
}

impl TrustedProxies {
    /// The client's address, given who is at the other end of the connection.
    ///
    /// An entry that is no address ends the walk: what stands left of it was not written by a
    /// proxy we know.
    pub fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.client_ip_in(peer, headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes))
    }

    /// The same, given the values of all [`X_FORWARDED_FOR`] fields.
    pub fn client_ip_in<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let mut client = peer;
        let lines = forwarded.rev().map(|line| std::str::from_utf8(line).unwrap_or("not text"));
        let mut hops = lines.flat_map(|line| line.rsplit(','));
        while self.trusts(client) {
            let Some(Ok(hop)) = hops.next().map(|hop| hop.trim().parse()) else { break };
            client = hop;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| bits(address) & block.mask == block.network)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("`{text}` is no address or CIDR block"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(width), str::parse::<u32>);
        let free_bits = match length {
            Ok(length) if length <= width => width - length,
            _ => return Err(format!("`{text}`: the prefix is 0 to {width} bits long")),
        };
        let mask = u128::MAX.checked_shl(free_bits).unwrap_or(0);
        Ok(Self { network: bits(address) & mask, mask })
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let blocks = text.split(',').map(str::trim).filter(|block| !block.is_empty());
        blocks.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}
