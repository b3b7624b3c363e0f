//! The machine that a measurement is from: what it is, what its cores reach, and what this process takes of its memory.
#![allow(unsafe_code)]

use fewstep::kernels::{Isa, cpu};
use serde::Serialize;
use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// How long each peak is looked for. The clock takes a while to rise.
const PATIENCE: Duration = Duration::from_millis(150);
/// Beyond the caches of any one core.
const READ_BYTES: usize = 256 << 20;

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
    /// Most that one core reads from beyond its caches, in 10^9 bytes a second.
    pub read_gb_per_s: f64,
}

impl Machine {
    pub fn measured() -> Machine {
        Machine {
            cpu: cpu_name(),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cores: cores(),
            features: cpu::best().isa.features(),
            peak_gflops: peak_gflops(),
            read_gb_per_s: read_gb_per_s(),
        }
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What Linux calls the CPU or, on ARM, the board; the architecture elsewhere.
fn cpu_name() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let board = || fs::read_to_string("/proc/device-tree/model").ok();
    let name = model.map(|(_, name)| name.to_string()).or_else(board).unwrap_or_default();
    match name.trim().trim_end_matches('\0') {
        "" => std::env::consts::ARCH.into(),
        name => name.into(),
    }
}

/// The largest of `work`'s amounts per second, in 10^9.
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while best == 0.0 || begin.elapsed() < PATIENCE {
        let start = Instant::now();
        let amount = work();
        best = best.max(amount / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// f32 multiply-adds in registers, on this core, with the instruction set that the kernels would use.
pub fn peak_gflops() -> f64 {
    let multiply_adds: fn(usize) -> f64 = match cpu::best().isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `best` has found the instruction set on this CPU.
        Isa::X86Avx512 => |rounds| unsafe { avx512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::X86Avx2 => |rounds| unsafe { avx2(rounds) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::ArmNeon => |rounds| unsafe { neon(rounds) },
        _ => portable,
    };
    best(|| multiply_adds(10_000))
}

/// A function that takes so many rounds of dependent multiply-adds on vectors, and returns the operations done. There are
/// enough chains to hide the latency of one, and few enough to stay in registers.
macro_rules! multiply_adds {
    ($(#[$enable:meta])? $name:ident, $chains:literal chains of $lanes:literal, $splat:path, $multiply_add:expr) => {
        $(#[$enable])?
        fn $name(rounds: usize) -> f64 {
            let (mut sums, [scale, shift]) = ([$splat(0.0); $chains], black_box([$splat(0.5), $splat(0.25)]));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $multiply_add(*sum, scale, shift);
                }
            }
            black_box(sums);
            (2 * rounds * $lanes * $chains) as f64
        }
    };
}

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as arch;

#[cfg(target_arch = "x86_64")]
multiply_adds!(#[target_feature(enable = "avx512f")] avx512, 20 chains of 16, arch::_mm512_set1_ps, arch::_mm512_fmadd_ps);
#[cfg(target_arch = "x86_64")]
multiply_adds!(#[target_feature(enable = "avx,fma")] avx2, 12 chains of 8, arch::_mm256_set1_ps, arch::_mm256_fmadd_ps);
#[cfg(target_arch = "aarch64")]
multiply_adds!(#[target_feature(enable = "neon")] neon, 20 chains of 4, arch::vdupq_n_f32, |sum, scale, shift| {
    arch::vfmaq_f32(shift, sum, scale)
});
multiply_adds!(portable, 12 chains of 1, f32::from, |sum, scale, shift| sum * scale + shift);

fn read_gb_per_s() -> f64 {
    let memory = vec![1u64; READ_BYTES / 8];
    best(|| {
        black_box(black_box(&memory).iter().fold(0, |sum: u64, &word| sum.wrapping_add(word)));
        READ_BYTES as f64
    })
}

/// What this process has of the system's memory, in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    pub rss: u64,
    pub private_dirty: u64,
}

impl Memory {
    /// `None` where the system does not tell: only Linux does.
    pub fn now() -> Option<Memory> {
        let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Memory { rss: field("Rss:")?, private_dirty: field("Private_Dirty:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_computes_and_reads() {
        let machine = Machine::measured();
        assert!(!machine.cpu.is_empty() && machine.cores > 0);
        // A microcontroller does more, and no core does so much.
        for (found, most) in [(machine.peak_gflops, 1e4), (machine.read_gb_per_s, 1e4)] {
            assert!((0.1..most).contains(&found), "{found}");
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
