//! `--sweep`: the same model on one thread, two, and so on.
#![forbid(unsafe_code)]

use super::super::models;
use super::distribution::Distribution;
use super::measure::{Subject, Times};
use super::{Bench, BenchError};
use serde::Serialize;
use std::time::Duration;

/// Up to here every number of threads is measured, then powers of two and what is in the middle between them.
const EACH: usize = 8;

#[derive(Clone, Copy, Serialize)]
pub struct Point {
    pub threads: usize,
    pub runs: usize,
    pub step_ms: Distribution,
    /// The median on one thread over this one.
    pub speedup: f64,
    /// The speed-up by the number of threads.
    pub efficiency: f64,
}

/// One after the other, on a model that is opened anew each time.
pub fn measured(bench: &Bench, source: &models::Source, most: usize) -> Result<Vec<Point>, BenchError> {
    let mut points: Vec<Point> = Vec::new();
    for threads in counts(most) {
        let (mut subject, _) = Subject::open(bench, source, threads)?;
        let [_, last] = subject.warm_up()?;
        let runs = bench.runs(Duration::from_secs_f64(last / 1e3));
        let mut times = Times::with_capacity(runs, subject.steps());
        (0..runs).try_for_each(|_| subject.run(&mut times))?;
        let step_ms = Distribution::of(&times.steps);
        let speedup = points.first().map_or(1.0, |alone| alone.step_ms.p50 / step_ms.p50);
        points.push(Point { threads, runs, step_ms, speedup, efficiency: speedup / threads as f64 });
    }
    Ok(points)
}

/// One to eight, twelve, sixteen, twenty-four and so on, and the most.
fn counts(most: usize) -> Vec<usize> {
    let larger = (3..).flat_map(|power| [1 << power, 3 << (power - 1)]).skip(1);
    let counts = (1..=EACH).chain(larger).take_while(|&threads| threads < most);
    counts.chain([most]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_ends_with_all_threads() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(4), [1, 2, 3, 4]);
        assert_eq!(counts(20), [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20]);
        assert_eq!(counts(64)[8..], [12, 16, 24, 32, 48, 64]);
    }
}
