//! The innermost kernel of products in half precision, with the arithmetic that Armv8.2 has for it.

use super::arm::Neon;
use crate::kernels::gemm::unroll;
use crate::kernels::half::HalfTile;
use crate::kernels::simd::F16;
use core::arch::aarch64::*;

/// Lanes of a vector, and the steps that one load of a row serves.
const LANES: usize = 8;

/// R rows x NV vectors of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has half-precision arithmetic; the tile's pointers are good for its depth, R rows and NV vectors.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn tile<const R: usize, const NV: usize, const PANEL: usize>(t: &HalfTile) {
    let nr = PANEL * LANES;
    // SAFETY: the caller's contract. Of a row, a vector is loaded only where the stretch has as many values left.
    unsafe {
        let rows: [*const F16; R] = core::array::from_fn(|row| t.a.wrapping_add(row * t.stride));
        let (mut k, mut b, mut ahead, mut left) = (0, t.b, t.ahead, t.k);
        let mut first = true;
        while left > 0 || first {
            let stretch = left.min(t.stretch);
            let mut acc = [[vreinterpretq_f16_u16(vdupq_n_u16(0)); NV]; R];
            for _ in 0..stretch / LANES {
                // Two lines of B are four of its rows.
                ahead.fetch::<Neon>(LANES / 2);
                ahead.fetch::<Neon>(LANES / 2);
                let mut values = [vreinterpretq_f16_u16(vdupq_n_u16(0)); R];
                unroll!(ROW, R, {
                    values[ROW] = load(rows[ROW].add(k));
                });
                step::<0, R, NV>(&mut acc, &values, b);
                step::<1, R, NV>(&mut acc, &values, b.add(nr));
                step::<2, R, NV>(&mut acc, &values, b.add(2 * nr));
                step::<3, R, NV>(&mut acc, &values, b.add(3 * nr));
                step::<4, R, NV>(&mut acc, &values, b.add(4 * nr));
                step::<5, R, NV>(&mut acc, &values, b.add(5 * nr));
                step::<6, R, NV>(&mut acc, &values, b.add(6 * nr));
                step::<7, R, NV>(&mut acc, &values, b.add(7 * nr));
                (k, b) = (k + LANES, b.add(LANES * nr));
            }
            for _ in 0..stretch % LANES {
                ahead.fetch::<Neon>(1);
                let mut values = [vreinterpretq_f16_u16(vdupq_n_u16(0)); R];
                unroll!(ROW, R, {
                    values[ROW] = vreinterpretq_f16_u16(vld1q_dup_u16(rows[ROW].add(k)));
                });
                step::<0, R, NV>(&mut acc, &values, b);
                (k, b) = (k + 1, b.add(nr));
            }
            unroll!(ROW, R, {
                for (v, &acc) in acc[ROW].iter().enumerate() {
                    widen(acc, t.acc.add(ROW * nr + v * LANES), first);
                }
            });
            left -= stretch;
            first = false;
        }
    }
}

/// Adds the products of one lane of each row's values with a row of B.
///
/// # Safety
/// The CPU has half-precision arithmetic; `b` is readable for NV vectors.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn step<const LANE: i32, const R: usize, const NV: usize>(
    acc: &mut [[float16x8_t; NV]; R],
    values: &[float16x8_t; R],
    b: *const F16,
) {
    let mut bs = [values[0]; NV];
    for (v, bs) in bs.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        *bs = unsafe { load(b.add(v * LANES)) };
    }
    for (v, b) in bs.into_iter().enumerate() {
        unroll!(ROW, R, {
            acc[ROW][v] = vfmaq_laneq_f16::<LANE>(acc[ROW][v], b, values[ROW]);
        });
    }
}

/// # Safety
/// The CPU has NEON; `from` is readable for LANES values.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(from: *const F16) -> float16x8_t {
    // SAFETY: the caller's contract.
    vreinterpretq_f16_u16(unsafe { vld1q_u16(from) })
}

/// Stores the lanes as f32, or adds them to what is there.
///
/// # Safety
/// The CPU has NEON; `to` is writable for LANES values, and readable unless this is the first.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen(acc: float16x8_t, to: *mut f32, first: bool) {
    let halves = [vcvt_f32_f16(vget_low_f16(acc)), vcvt_high_f32_f16(acc)];
    for (i, mut sum) in halves.into_iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe {
            let to = to.add(i * LANES / 2);
            if !first {
                sum = vaddq_f32(sum, vld1q_f32(to));
            }
            vst1q_f32(to, sum);
        }
    }
}
