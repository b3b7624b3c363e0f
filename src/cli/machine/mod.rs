//! The machine that a measurement is from: what it is, what its cores reach, and what this process takes of its memory.
#![forbid(unsafe_code)]

#[cfg(test)]
mod boards;
mod clusters;
mod cores;
mod energy;
mod facts;
mod sensors;
mod tree;

pub use clusters::{Cluster, clock_mhz};
pub use energy::{Energy, Meter};
pub use facts::Facts;
pub use sensors::hottest_celsius;
pub use tree::Tree;

use fewstep::engine::Serial;
use fewstep::kernels::{Isa, cpu};
use fewstep::peaks::{self, Reading};
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};

/// How long each peak is looked for. The clock takes a while to rise.
const PATIENCE: Duration = Duration::from_millis(150);

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    os: &'static str,
    arch: &'static str,
    /// Threads that the CPU runs at once.
    pub cores: usize,
    /// CPU features of the best instruction set that this program has for it.
    features: &'static [&'static str],
    /// Most f32 multiply-adds of one core, in 10^9 floating point operations a second, a multiply-add counted as two.
    pub peak_gflops: f64,
    /// The same in half precision or fixed point of 16 bits, if that instruction set computes in either.
    pub half_peak_gflops: Option<f64>,
    /// Most that one core reads from beyond its caches, in 10^9 bytes a second.
    pub read_gb_per_s: f64,
    #[serde(flatten)]
    pub facts: Facts,
}

impl Machine {
    pub fn measured() -> Machine {
        let (tree, isa) = (Tree::system(), cpu::best().isa);
        Machine {
            cpu: cpu_name(&tree),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cores: cores(),
            features: isa.features(),
            peak_gflops: peak_gflops(isa),
            half_peak_gflops: half_peak_gflops(isa),
            read_gb_per_s: read_gb_per_s(),
            // After the rest: clocks and temperatures are those of a core that works.
            facts: Facts::read(&tree),
        }
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What Linux calls the CPU or, on ARM, the board; the architecture elsewhere.
fn cpu_name(tree: &Tree) -> String {
    let name = tree.field("proc/cpuinfo", "model name").or_else(|| facts::board(tree));
    name.unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// The most of many measurements.
fn best(mut measure: impl FnMut() -> f64) -> f64 {
    let begin = Instant::now();
    let mut best = measure();
    while begin.elapsed() < PATIENCE {
        best = best.max(measure());
    }
    best
}

/// f32 multiply-adds in registers, on this core, with an instruction set.
pub fn peak_gflops(isa: Isa) -> f64 {
    best(|| peaks::gflops(isa, &Serial, 1).unwrap_or_default())
}

/// The same in half precision or fixed point of 16 bits, if that instruction set computes in either.
pub fn half_peak_gflops(isa: Isa) -> Option<f64> {
    peaks::half_gflops(isa, &Serial, 1)?;
    Some(best(|| peaks::half_gflops(isa, &Serial, 1).unwrap_or_default()))
}

fn read_gb_per_s() -> f64 {
    let mut memory = Reading::beyond_caches();
    best(|| memory.gb_per_s(&Serial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep::memory::Memory;
    use std::hint::black_box;

    #[test]
    fn a_machine_computes_and_reads() {
        let machine = Machine::measured();
        assert!(!machine.cpu.is_empty() && machine.cores > 0);
        // No core does so much.
        for found in [machine.peak_gflops, machine.read_gb_per_s] {
            assert!(found > 0.0 && found < 1e4, "{found}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_written_is_in_memory() {
        let written = black_box(vec![1u8; 64 << 20]);
        let memory = Memory::now().expect("Linux tells");
        assert!(memory.rss > 60 << 20 && memory.private_dirty > 60 << 20);
        drop(written);
    }
}
