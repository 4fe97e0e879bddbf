//! A histogram of durations with a relative error of one eighth, a few nanoseconds per entry.

use std::time::Duration;

/// Sub-buckets per power of two, as a power of two.
const FINE: u32 = 3;
/// Durations up to 2^40 ns, 18 minutes, keep their own bucket; longer ones share the last.
const BUCKETS: usize = (41 - FINE as usize) << FINE;

/// How long things took.
#[derive(Debug, Clone)]
pub struct Latency {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    longest: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { counts: Box::new([0; BUCKETS]), total: 0, longest: Duration::ZERO }
    }
}

impl Latency {
    /// Adds one duration.
    pub fn add(&mut self, duration: Duration) {
        let nanos = duration.as_nanos().min(u128::from(u64::MAX)) as u64;
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest one.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The duration that `share` (0.0 to 1.0) of all did not exceed, rounded up to its bucket's end;
    /// zero if there are none.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(bucket_end(index)).min(self.longest);
            }
        }
        Duration::ZERO
    }
}

/// Values below `2^FINE` have a bucket each; above, the top `FINE + 1` bits name it.
fn bucket(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.leading_zeros();
    let shift = bits.saturating_sub(FINE + 1);
    let index = ((shift as usize) << FINE) + (nanos >> shift) as usize;
    index.min(BUCKETS - 1)
}

fn bucket_end(index: usize) -> u64 {
    let shift = (index >> FINE).saturating_sub(1);
    let mantissa = (index - (shift << FINE)) as u64;
    ((mantissa + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_the_values_up_to_its_end() {
        for nanos in (0..5_000).chain([1 << 20, (1 << 30) + 12_345, 1 << 39]) {
            let index = bucket(nanos);
            assert!(nanos <= bucket_end(index), "{nanos} in {index}");
            assert!(index == 0 || nanos > bucket_end(index - 1), "{nanos} in {index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_err_by_an_eighth_at_most() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(0.5), Duration::ZERO);
        for micros in 1..=1_000 {
            latency.add(Duration::from_micros(micros));
        }
        let median = latency.percentile(0.5).as_micros();
        assert!((500..=563).contains(&median), "{median}");
        assert_eq!(latency.percentile(1.0), Duration::from_millis(1));
        assert_eq!(latency.count(), 1_000);
    }
}
