//! What links take in memory, by an allocator that counts: in the index of all of them, and in the
//! bounded cache. A program of its own, because every allocation of the process is counted.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use url_shortener::Code;
use url_shortener::index::Index;
use url_shortener::link::{Entry, LinkId, Redirect, State, Version};
use url_shortener::lookup::Lookup;
use url_shortener::recent::Recent;

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: u64 = 1024 * 1024;

/// One test: another beside it would be counted, too.
#[test]
fn links_take_what_was_promised() {
    a_million_links_take_less_than_110_megabytes();
    a_bounded_cache_keeps_to_its_bytes();
}

fn with_entry<T>(number: u64, then: impl FnOnce(Entry<'_>) -> T) -> T {
    let (code, target) = (Code::base62(number, 7), format!("https://example.com/{number:040}"));
    then(Entry {
        id: LinkId(number as u32),
        version: Version::FIRST,
        state: State::Enabled,
        redirect: Redirect::Found,
        limited: false,
        expires_at_ms: None,
        code: code.as_str(),
        target: &target,
    })
}

fn held_now(region: &Region<'_, System>) -> u64 {
    let change = region.change();
    (change.bytes_allocated - change.bytes_deallocated) as u64
}

fn a_million_links_take_less_than_110_megabytes() {
    let region = Region::new(COUNTING);
    let index = Index::default();
    (0..1_000_000).for_each(|number| with_entry(number, |entry| index.apply(entry)));
    let bytes = held_now(&region);
    assert!(index.len() == 1_000_000 && bytes <= 110_000_000, "{bytes} bytes");
    println!("a million links in the index: {:.1} MB", bytes as f64 / 1e6);
}

fn a_bounded_cache_keeps_to_its_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for mib in [4, 16] {
        let region = Region::new(COUNTING);
        let recent = Recent::new(mib * MIB);
        let mut most = 0;
        // Three times over, so that the ghosts are there too; every tenth code does not exist.
        for number in 0..300_000_u64 {
            let code = Code::base62(number, 7);
            let found = (number % 10 != 0).then(|| with_entry(number, |entry| entry.into()));
            let asked = recent.find(&code, || async { Ok(found) }, |_| ());
            runtime.block_on(asked).expect("nothing fails");
            if number % 1_000 == 0 {
                most = most.max(held_now(&region));
            }
        }
        let links = recent.len() as u64;
        println!(
            "{mib} MiB of recent links: {links} links, {:.1} MiB at most, {} bytes a link",
            most as f64 / MIB as f64,
            held_now(&region) / links
        );
        // An estimate, and allocations come in powers of two now and then.
        assert!(most < mib * MIB * 11 / 10, "{most} bytes where {mib} MiB were asked for");
        assert!(most > mib * MIB / 2, "{most} bytes: the estimate wastes what was asked for");
    }
}
