//! Times of a case and of the machine's peaks, in turns.

use crate::families::Case;
use fewstep::engine::Threads;
use fewstep::kernels::Isa;
use fewstep::peaks::{self, Reading};
use std::time::Instant;

/// Seconds of calls that are timed together.
const SAMPLE: f64 = 2e-3;

/// A rate in 10^9 a second, and the most that the machine reached in the same rounds.
#[derive(Clone, Copy)]
pub struct Part {
    pub rate: f64,
    pub peak: f64,
}

impl Part {
    pub fn share(self) -> f64 {
        self.rate / self.peak
    }
}

/// Medians over the rounds.
pub struct Measured {
    pub micros: f64,
    pub flops: Option<Part>,
    pub bytes: Option<Part>,
}

pub struct Bench {
    rounds: usize,
    reading: Reading,
}

impl Bench {
    pub fn new(rounds: usize) -> Bench {
        Bench { rounds, reading: Reading::beyond_caches() }
    }

    /// `count` is the number of threads.
    pub fn measure(&mut self, case: &mut Case, isa: Isa, threads: &dyn Threads, count: usize) -> Measured {
        let calls = calls(case, threads);
        let (mut seconds, mut flops, mut bytes) = (vec![], vec![], vec![]);
        for _ in 0..self.rounds {
            if case.flops.is_some() {
                let peak = if case.half { peaks::half_gflops } else { peaks::gflops };
                flops.push(peak(isa, threads, count).expect("an instruction set of this CPU"));
            }
            if case.bytes.is_some() {
                bytes.push(self.reading.gb_per_s(threads));
            }
            // What the peaks left in the caches and in the clock is not the case's.
            (case.call)(threads);
            seconds.push(time(case, threads, calls) / calls as f64);
        }
        let seconds = median(seconds);
        let part = |amount: Option<f64>, peaks: Vec<f64>| {
            amount.map(|amount| Part { rate: amount / seconds / 1e9, peak: median(peaks) })
        };
        Measured { micros: seconds * 1e6, flops: part(case.flops, flops), bytes: part(case.bytes, bytes) }
    }
}

/// How many calls make a sample.
fn calls(case: &mut Case, threads: &dyn Threads) -> usize {
    (case.call)(threads);
    let mut calls = 1;
    loop {
        let seconds = time(case, threads, calls);
        if seconds >= SAMPLE {
            return calls;
        }
        calls = (calls as f64 * (1.2 * SAMPLE / seconds.max(1e-7)).clamp(1.5, 100.0)) as usize + 1;
    }
}

/// Seconds of so many calls.
fn time(case: &mut Case, threads: &dyn Threads, calls: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        (case.call)(threads);
    }
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
