//! How often which time was measured, in little memory: percentiles within 1 %, the maximum exactly.

use std::time::Duration;

/// Each power of two of nanoseconds is divided into this many buckets.
const PARTS: u64 = 1 << PART_BITS;
const PART_BITS: u32 = 7;

#[derive(Default)]
pub(crate) struct Histogram {
    /// As many buckets as the longest time needs.
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanoseconds);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The time that `permille` of 1000 measured times do not exceed.
    pub(crate) fn quantile(&self, permille: u64) -> Duration {
        let rank = (u128::from(self.count) * u128::from(permille)).div_ceil(1000).max(1);
        let mut passed = 0;
        for (bucket, count) in (0..).zip(&self.buckets) {
            passed += u128::from(*count);
            if passed >= rank {
                return Duration::from_nanos(last_of(bucket).min(self.max));
            }
        }
        self.max()
    }
}

/// Up to `PARTS` each nanosecond has its own bucket; from there on each power of two has `PARTS` of them.
fn bucket(nanoseconds: u64) -> usize {
    let exponent = nanoseconds.max(1).ilog2().saturating_sub(PART_BITS);
    let bucket = u64::from(exponent) * PARTS + (nanoseconds >> exponent);
    // There are fewer than 64 * 128 buckets.
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The longest time that falls into `bucket`.
fn last_of(bucket: u64) -> u64 {
    let exponent = (bucket / PARTS).saturating_sub(1);
    let part = bucket - exponent * PARTS;
    (part << exponent) + ((1 << exponent) - 1)
}
