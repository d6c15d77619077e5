//! What was thrown out lately, roughly: ghosts at eight bytes each, with neither queue nor links.
//!
//! Each ghost is half a hash and the number of the eviction that made it; it is too old when enough
//! others have followed. Ghosts of one hash are in one bucket of eight, a cache line. A new one takes
//! the place of a ghost too old, or else of the bucket's oldest.
//!
//! What it gives up: a crowded bucket forgets a ghost before its time. With two places for each ghost
//! that happens to about one in a hundred. Two keys whose half hashes are equal are taken for each
//! other, one in 40,000 for a hundred thousand ghosts; that misplaces an entry, nothing more.

const BUCKET: usize = 8;
/// Buckets a new table has.
const BUCKETS_MIN: usize = 8;

/// Stamps count from one: zero says that the place is free.
#[derive(Clone, Copy, Default)]
struct Ghost {
    hash: u32,
    stamp: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket([Ghost; BUCKET]);

/// Half hashes of what was thrown out, the latest of them.
#[derive(Default)]
pub(super) struct Forgotten {
    buckets: Vec<Bucket>,
    pushed: u32,
}

impl Forgotten {
    /// Remembers a hash among the latest `wanted`.
    #[inline]
    pub(super) fn push(&mut self, hash: u32, wanted: usize) {
        if self.buckets.len() * BUCKET < 2 * wanted.max(1) {
            self.grow(2 * wanted);
        }
        // Trap: the count wraps round after four billion evictions, and zero means a free place.
        self.pushed = self.pushed.checked_add(1).unwrap_or(1);
        let new = Ghost { hash, stamp: self.pushed };
        self.put(new);
    }

    /// Forgets a hash, and says whether it was remembered among the latest `wanted`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u32, wanted: usize) -> bool {
        let (now, at) = (self.pushed, self.bucket_of(hash));
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let same = |ghost: &&mut Ghost| ghost.hash == hash && ghost.stamp != 0;
        let Some(ghost) = bucket.0.iter_mut().find(same) else { return false };
        let age = now.wrapping_sub(ghost.stamp);
        *ghost = Ghost::default();
        (age as usize) < wanted
    }

    fn put(&mut self, new: Ghost) {
        let (now, at) = (self.pushed, self.bucket_of(new.hash));
        let bucket = &mut self.buckets[at].0;
        // Again in the bucket: it is as old as its latest stamp.
        let place =
            bucket.iter().position(|ghost| ghost.hash == new.hash).unwrap_or_else(|| {
                let age = |ghost: &Ghost| match ghost.stamp {
                    0 => u32::MAX,
                    stamp => now.wrapping_sub(stamp),
                };
                (1..BUCKET).fold(0, |oldest, at| {
                    if age(&bucket[at]) > age(&bucket[oldest]) { at } else { oldest }
                })
            });
        bucket[place] = new;
    }

    /// Mixed first, for the reason given where shards are picked: hashes of keys in sequence may have
    /// equal high bits.
    #[inline]
    fn bucket_of(&self, hash: u32) -> usize {
        let mixed = (hash ^ (hash >> 16)).wrapping_mul(0x9e37_79b1);
        ((u64::from(mixed) * self.buckets.len() as u64) >> 32) as usize
    }

    #[cold]
    fn grow(&mut self, places: usize) {
        let buckets = (places / BUCKET).next_power_of_two().max(BUCKETS_MIN);
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]);
        let ghosts = old.iter().flat_map(|bucket| bucket.0).filter(|ghost| ghost.stamp != 0);
        ghosts.for_each(|ghost| self.put(ghost));
    }

    /// Every ghost is in the bucket of its hash, once.
    pub(super) fn check(&self) -> Result<(), String> {
        for (at, bucket) in self.buckets.iter().enumerate() {
            let mut hashes: Vec<u32> =
                bucket.0.iter().filter(|ghost| ghost.stamp != 0).map(|ghost| ghost.hash).collect();
            let ghosts = hashes.len();
            hashes.sort_unstable();
            hashes.dedup();
            if hashes.len() != ghosts || hashes.iter().any(|&hash| self.bucket_of(hash) != at) {
                return Err(format!("bucket {at} of the ghosts is not in order"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::FixedState;

    use super::Forgotten;

    fn hash(key: u64) -> u32 {
        FixedState::default().hash_one(key) as u32
    }

    #[test]
    fn nearly_all_of_the_latest_are_remembered_and_none_older() {
        const WANTED: usize = 10_000;
        let mut forgotten = Forgotten::default();
        (0..50_000).for_each(|key| forgotten.push(hash(key), WANTED));
        forgotten.check().unwrap();
        let older = (0..40_000).filter(|&key| forgotten.remove(hash(key), WANTED)).count();
        assert!(older <= 1, "{older} ghosts outlived their time: more than chance");
        let latest = (40_000..50_000).filter(|&key| forgotten.remove(hash(key), WANTED)).count();
        assert!(latest >= 9_900, "{latest} of the latest {WANTED} are remembered");
        let again = (40_000..50_000).filter(|&key| forgotten.remove(hash(key), WANTED)).count();
        assert_eq!(again, 0, "each comes back once");
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut forgotten = Forgotten::default();
        (0..30).for_each(|key| forgotten.push(hash(key), 30));
        forgotten.push(hash(30), 10_000);
        forgotten.check().unwrap();
        assert!((0..=30).all(|key| forgotten.remove(hash(key), 10_000)));
    }
}
