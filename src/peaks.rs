//! The most that this machine does: multiply-adds in registers, and reading from beyond the caches. What is measured of
//! kernels is told as a part of these.
//!
//! Each function measures once, for a few milliseconds. Machines are shared and clocks change, so whoever compares with a
//! peak measures it in turns with the rest.

extern crate std;

use crate::engine::{Serial, Threads};
use crate::kernels::{Isa, Kernels};
use core::array::from_fn;
use core::hint::black_box;
use std::time::Instant;
use std::{vec, vec::Vec};

/// Rounds of one task, and tasks of one thread: small enough for idle threads to take over what others have left.
const ROUNDS: usize = 2_000;
const TASKS: usize = 64;
/// Beyond the caches of any one core.
const READ_BYTES: usize = 256 << 20;
/// What is read at once, and by one task.
const READ_PART: usize = 32 << 20;
const READ_TASK: usize = 1 << 20;

/// 10^9 of whatever `amount` counts, a second.
fn rate(amount: f64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    amount / start.elapsed().as_secs_f64() / 1e9
}

/// f32 multiply-adds in registers by `count` threads with an instruction set, in 10^9 operations a second, a multiply-add
/// counted as two. `None` if the CPU lacks the instruction set.
pub fn gflops(isa: Isa, threads: &dyn Threads, count: usize) -> Option<f64> {
    if !isa.supported() {
        return None;
    }
    let multiply_adds: fn(usize) -> f64 = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has the instruction set.
        Isa::X86Avx512 | Isa::X86Avx512Fp16 | Isa::X86Avx512Vnni => |rounds| unsafe { avx512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::X86Avx2 => |rounds| unsafe { avx2(rounds) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::ArmNeon | Isa::ArmFp16 => |rounds| unsafe { neon(rounds) },
        _ => portable,
    };
    Some(on_threads(multiply_adds, threads, count))
}

/// The same in half precision, or in fixed point of 16 bits. `None` if the instruction set computes in neither, or the CPU
/// lacks it.
pub fn half_gflops(isa: Isa, threads: &dyn Threads, count: usize) -> Option<f64> {
    if !isa.supported() {
        return None;
    }
    let multiply_adds: Option<fn(usize) -> f64> = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has the instruction set.
        Isa::X86Avx512Fp16 => Some(|rounds| unsafe { avx512fp16(rounds) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::X86Avx512Vnni => Some(|rounds| unsafe { avx512vnni(rounds) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::X86Avx2 => Some(|rounds| unsafe { avx2_pairs(rounds) }),
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::ArmFp16 => Some(|rounds| unsafe { fp16(rounds) }),
        _ => None,
    };
    multiply_adds.map(|multiply_adds| on_threads(multiply_adds, threads, count))
}

/// Whether kernels compute in 16 bits, and faster than in f32 by more than it takes to round: by definition, but for AVX2, where
/// it depends on how many units of a CPU multiply pairs. Before Skylake and Zen 3 that is one, and two are for f32.
pub fn halves_pay(kernels: &Kernels) -> bool {
    const TRIES: usize = 5;
    const GAIN: f64 = 1.25;
    let peak = |measure: fn(Isa, &dyn Threads, usize) -> Option<f64>| {
        (0..TRIES).filter_map(|_| measure(kernels.isa, &Serial, 1)).fold(0.0, f64::max)
    };
    kernels.half.native() && (kernels.isa != Isa::X86Avx2 || peak(half_gflops) >= GAIN * peak(gflops))
}

fn on_threads(multiply_adds: fn(usize) -> f64, threads: &dyn Threads, count: usize) -> f64 {
    let tasks = TASKS * count;
    let operations = multiply_adds(1) * (ROUNDS * tasks) as f64;
    rate(operations, || {
        threads.run(tasks, &|_| {
            multiply_adds(black_box(ROUNDS));
        })
    })
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
multiply_adds!(#[target_feature(enable = "avx512fp16")] avx512fp16, 20 chains of 32, halves, arch::_mm512_fmadd_ph);
#[cfg(target_arch = "x86_64")]
multiply_adds!(
    #[target_feature(enable = "avx512f,avx512vnni")] avx512vnni, 20 chains of 32, pairs, arch::_mm512_dpwssd_epi32
);
#[cfg(target_arch = "x86_64")]
multiply_adds!(#[target_feature(enable = "avx,fma")] avx2, 12 chains of 8, arch::_mm256_set1_ps, arch::_mm256_fmadd_ps);
#[cfg(target_arch = "x86_64")]
multiply_adds!(
    #[target_feature(enable = "avx2")] avx2_pairs, 12 chains of 16, short_pairs, |sum, scale, shift| {
        arch::_mm256_add_epi32(shift, arch::_mm256_madd_epi16(sum, scale))
    }
);
#[cfg(target_arch = "aarch64")]
multiply_adds!(#[target_feature(enable = "neon")] neon, 20 chains of 4, arch::vdupq_n_f32, |sum, scale, shift| {
    arch::vfmaq_f32(shift, sum, scale)
});
#[cfg(target_arch = "aarch64")]
multiply_adds!(#[target_feature(enable = "neon,fp16")] fp16, 20 chains of 8, halves, |sum, scale, shift| {
    arch::vfmaq_f16(shift, sum, scale)
});
multiply_adds!(portable, 12 chains of 4, four, |sum: [f32; 4], scale: [f32; 4], shift: [f32; 4]| {
    from_fn(|i| sum[i] * scale[i] + shift[i])
});

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512fp16")]
fn halves(value: f32) -> arch::__m512h {
    arch::_mm512_castsi512_ph(arch::_mm512_set1_epi16(half(value) as i16))
}

/// Two whole numbers in each lane.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn pairs(value: f32) -> arch::__m512i {
    arch::_mm512_set1_epi16((4.0 * value) as i16)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn short_pairs(value: f32) -> arch::__m256i {
    arch::_mm256_set1_epi16((4.0 * value) as i16)
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,fp16")]
fn halves(value: f32) -> arch::float16x8_t {
    arch::vreinterpretq_f16_u16(arch::vdupq_n_u16(half(value)))
}

/// 0.5 or 0.25 or 0 as bits of half precision.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
fn half(value: f32) -> u16 {
    if value == 0.0 { 0 } else { ((value.to_bits() >> 13) - (112 << 10)) as u16 }
}

fn four(value: f32) -> [f32; 4] {
    [value; 4]
}

/// Memory that no cache holds.
pub struct Reading {
    memory: Vec<u64>,
    next: usize,
}

impl Reading {
    pub fn beyond_caches() -> Reading {
        Reading { memory: vec![1; READ_BYTES / 8], next: 0 }
    }

    /// Reading the next part on these threads, in 10^9 bytes a second.
    pub fn gb_per_s(&mut self, threads: &dyn Threads) -> f64 {
        let part = &self.memory[self.next..self.next + READ_PART / 8];
        self.next = (self.next + READ_PART / 8) % self.memory.len();
        let words = READ_TASK / 8;
        rate(READ_PART as f64, || {
            threads.run(READ_PART / READ_TASK, &|task| {
                let words = black_box(&part[task * words..(task + 1) * words]);
                black_box(sum(words));
            })
        })
    }
}

/// Four places at a time: one stream alone does not keep the memory busy.
fn sum(words: &[u64]) -> u64 {
    let (left, right) = words.split_at(words.len() / 2);
    let ((a, b), (c, d)) = (left.split_at(left.len() / 2), right.split_at(right.len() / 2));
    a.iter().zip(b).zip(c.iter().zip(d)).fold(0, |sum, ((a, b), (c, d))| sum ^ a ^ b ^ c ^ d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_computes_and_memory_is_read() {
        for isa in Isa::ALL {
            let found = gflops(isa, &Serial, 1);
            assert_eq!(found.is_some(), isa.supported(), "{isa}");
            // A microcontroller does more, and no core does so much.
            assert!(found.is_none_or(|found| (0.01..1e4).contains(&found)), "{isa}: {found:?}");
            let kernels = crate::kernels::cpu::find(isa);
            let native = kernels.is_some_and(|kernels| kernels.half.native());
            assert_eq!(half_gflops(isa, &Serial, 1).is_some(), native, "{isa}");
            assert!(kernels.is_some_and(halves_pay) == native || isa == Isa::X86Avx2, "{isa}");
        }
        let found = Reading::beyond_caches().gb_per_s(&Serial);
        assert!((0.01..1e4).contains(&found), "{found}");
    }
}
