//! How times are spread, and between which times their percentiles are, given how few of them there are.
#![forbid(unsafe_code)]

use serde::Serialize;

/// Milliseconds; percentiles by nearest rank.
#[derive(Clone, Copy, Serialize)]
pub struct Distribution {
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    pub intervals: Intervals,
}

/// Where percentiles are with a probability of 95 %, whatever the distribution; `null` if there are too few times to say.
#[derive(Clone, Copy, Serialize)]
pub struct Intervals {
    pub p50: Option<[f64; 2]>,
    pub p90: Option<[f64; 2]>,
    pub p99: Option<[f64; 2]>,
}

impl Distribution {
    /// Of one time at least.
    pub fn of(times: &[f64]) -> Distribution {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| round(sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]);
        let interval = |part| interval(&sorted, part);
        let intervals = Intervals { p50: interval(0.5), p90: interval(0.9), p99: interval(0.99) };
        Distribution { min: rank(0), p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100), intervals }
    }

    pub fn text(self) -> String {
        let Distribution { min, p50, p90, p99, max, .. } = self;
        format!("{p50:.3} ms  (min {min:.3}, p90 {p90:.3}, p99 {p99:.3}, max {max:.3})")
    }

    /// How much longer the slowest hundredth is than what is usual.
    pub fn jitter(self) -> f64 {
        self.p99 / self.p50
    }
}

/// The order statistics between which a quantile is: how many of n times are below it is binomially distributed, here by
/// its normal approximation, rounded outwards (Conover, Practical Nonparametric Statistics, section 3.2).
fn interval(sorted: &[f64], part: f64) -> Option<[f64; 2]> {
    const Z: f64 = 1.96;
    let n = sorted.len() as f64;
    let (middle, reach) = (n * part, Z * (n * part * (1.0 - part)).sqrt());
    let [low, high] = [(middle - reach).floor(), (middle + reach).ceil() + 1.0];
    let at = |rank: f64| sorted.get(rank as usize - 1).copied().map(round);
    if low < 1.0 { None } else { Some([at(low)?, at(high)?]) }
}

/// Milliseconds to the nanosecond.
pub fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let Distribution { min, p50, p90, p99, max, .. } = Distribution::of(&times);
        assert_eq!([min, p50, p90, p99, max], [1.0, 100.0, 180.0, 198.0, 200.0]);
        let Distribution { min, p50, p99, intervals, .. } = Distribution::of(&[2.5]);
        assert_eq!([min, p50, p99], [2.5; 3]);
        assert!(intervals.p50.is_none() && intervals.p99.is_none());
    }

    /// The exact probability that the quantile is between the order statistics `low` and `high` of `n`.
    fn coverage(n: usize, part: f64, [low, high]: [usize; 2]) -> f64 {
        let mut mass = vec![1.0];
        for _ in 0..n {
            let mut next = vec![0.0; mass.len() + 1];
            for (below, probability) in mass.iter().enumerate() {
                next[below] += probability * (1.0 - part);
                next[below + 1] += probability * part;
            }
            mass = next;
        }
        mass[low..high].iter().sum()
    }

    #[test]
    fn intervals_hold_what_they_say() {
        for n in [10, 40, 100, 200, 800] {
            let times: Vec<f64> = (1..=n).map(|time| time as f64).collect();
            for part in [0.5, 0.9, 0.99] {
                let Some(interval) = interval(&times, part) else { continue };
                let covered = coverage(n, part, interval.map(|time| time as usize));
                assert!((0.949..=1.0).contains(&covered), "{n} times, {part}: {covered}");
            }
        }
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(Distribution::of(&times).intervals.p50, Some([40.0, 61.0]));
        assert!(interval(&times, 0.99).is_none());
    }
}
