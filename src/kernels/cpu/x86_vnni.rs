//! The innermost kernels of products in fixed point, with AVX512-VNNI.

use super::x86::broadcast;
use crate::kernels::fixed::{LIMIT, Rounding};
use crate::kernels::gemm::{MAX_MR, unroll};
use crate::kernels::half::HalfTile;
use core::arch::asm;
use core::arch::x86_64::*;

/// Lanes of a vector of sums; of a vector of weights, pairs.
const LANES: usize = 16;

/// R rows x NV vectors of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has AVX512-VNNI; the tile's pointers are good for its depth, which is even, R rows with their units, and NV
/// vectors.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn tile<const R: usize, const NV: usize, const PANEL: usize>(t: &HalfTile) {
    let nr = PANEL * LANES;
    debug_assert!(t.tiles == 1 && t.k.is_multiple_of(2) && t.stretch.is_multiple_of(2));
    // SAFETY: the caller's contract.
    unsafe {
        let stride = t.stride * size_of::<u16>();
        // Of every third row; an address reaches the two below it.
        let mut rows: [*const u8; MAX_MR.div_ceil(3)] =
            core::array::from_fn(|i| t.a.cast::<u8>().wrapping_add(3 * i * stride));
        let mut unit = t.a.add(t.k).cast::<u8>();
        let (mut b, mut ahead, mut left) = (t.b, t.ahead, t.k);
        let mut first = true;
        while left > 0 || first {
            let stretch = left.min(t.stretch);
            let mut acc = [[_mm512_setzero_si512(); NV]; R];
            for _ in 0..stretch / 2 {
                ahead.fetch::<super::x86::Avx512>(2);
                let mut bs = [_mm512_setzero_si512(); NV];
                for (v, bs) in bs.iter_mut().enumerate() {
                    *bs = _mm512_loadu_si512(b.add(2 * v * LANES).cast());
                }
                b = b.add(2 * nr);
                unroll!(ROW, R, {
                    for (acc, b) in acc[ROW].iter_mut().zip(bs) {
                        broadcast!("vpdpwssd", "dword", "{{1to16}}", *acc, b, rows[ROW / 3], stride, ROW % 3);
                    }
                });
                for row in &mut rows[..R.div_ceil(3)] {
                    *row = row.wrapping_add(2 * size_of::<u16>());
                }
            }
            unroll!(ROW, R, {
                let unit = _mm512_set1_ps(unit.add(ROW * stride).cast::<f32>().read_unaligned());
                for (v, &acc) in acc[ROW].iter().enumerate() {
                    let to = t.acc.add(ROW * nr + v * LANES);
                    let sum = _mm512_cvtepi32_ps(acc);
                    let sum = if first {
                        _mm512_mul_ps(sum, unit)
                    } else {
                        _mm512_fmadd_ps(sum, unit, _mm512_loadu_ps(to))
                    };
                    _mm512_storeu_ps(to, sum);
                }
            });
            unit = unit.wrapping_add(size_of::<f32>());
            left -= stretch;
            first = false;
        }
    }
}

/// Rounds blocks to whole numbers of at most [`LIMIT`], each of its own unit. One with a value that is not finite has a unit
/// that is not.
///
/// # Safety
/// The CPU has AVX-512; the pointers are good for what [`Rounding`] says.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn round(args: &Rounding) {
    // Vectors of a block, where these are whole: those of the most channels that there are.
    let round = match (args.count / LANES, args.count % LANES) {
        (1, 0) => rounded::<1>,
        (2, 0) => rounded::<2>,
        (4, 0) => rounded::<4>,
        (6, 0) => rounded::<6>,
        (8, 0) => rounded::<8>,
        _ => rounded::<0>,
    };
    // SAFETY: the caller's contract.
    unsafe { round(args) }
}

/// Blocks of so many whole vectors, or of any count if it is 0.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn rounded<const VECTORS: usize>(args: &Rounding) {
    let whole = if VECTORS > 0 { VECTORS } else { args.count / LANES };
    let rest: __mmask16 = if VECTORS > 0 { 0 } else { (1 << (args.count % LANES)) - 1 };
    // Bits of magnitudes are in the order of these, and those of what is not a number above all.
    let magnitudes = |x: __m512| _mm512_castps_si512(_mm512_abs_ps(x));
    let mut most = [_mm512_setzero_si512(); MAX_MR];
    let (mut scales, mut units) = ([0.0; MAX_MR], [0.0; MAX_MR]);
    // SAFETY: the caller's contract; masked lanes are not touched.
    unsafe {
        for (most, &from) in most.iter_mut().zip(args.from) {
            let mut own = _mm512_setzero_si512();
            for v in 0..whole {
                own = _mm512_max_epu32(own, magnitudes(_mm512_loadu_ps(from.add(v * LANES))));
            }
            if rest != 0 {
                let x = _mm512_maskz_loadu_ps(rest, from.add(whole * LANES));
                own = _mm512_max_epu32(own, magnitudes(x));
            }
            *most = own;
        }
        let (most, limit) = (_mm512_castsi512_ps(largest(most)), _mm512_set1_ps(LIMIT));
        _mm512_storeu_ps(scales.as_mut_ptr(), _mm512_div_ps(limit, most));
        _mm512_storeu_ps(units.as_mut_ptr(), _mm512_mul_ps(most, _mm512_set1_ps(1.0 / LIMIT)));
        for (row, &from) in args.from.iter().enumerate() {
            let (to, scale) = (args.to.add(row * args.step).cast::<i16>(), _mm512_set1_ps(scales[row]));
            for i in (0..whole * LANES).step_by(LANES) {
                let x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from.add(i)), scale));
                _mm256_storeu_si256(to.add(i).cast(), _mm512_cvtsepi32_epi16(x));
            }
            if rest != 0 {
                let x = _mm512_maskz_loadu_ps(rest, from.add(whole * LANES));
                let x = _mm512_cvtps_epi32(_mm512_mul_ps(x, scale));
                _mm512_mask_cvtsepi32_storeu_epi16(to.add(whole * LANES).cast(), rest, x);
            }
            args.unit.add(row * args.step).cast::<f32>().write_unaligned(units[row]);
        }
    }
}

/// The largest lane of each vector, unsigned.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(x: [__m512i; MAX_MR]) -> __m512i {
    /// Lanes of two vectors, taken in two ways side by side.
    macro_rules! halved {
        ($x:expr, $low:expr, $high:expr) => {
            core::array::from_fn(|i| {
                let (a, b) = ($x[2 * i], $x[2 * i + 1]);
                _mm512_max_epu32($low(a, b), $high(a, b))
            })
        };
    }
    let pairs: [__m512i; 8] = halved!(x, _mm512_unpacklo_epi32, _mm512_unpackhi_epi32);
    let fours: [__m512i; 4] = halved!(pairs, _mm512_unpacklo_epi64, _mm512_unpackhi_epi64);
    let eights: [__m512i; 2] = halved!(fours, _mm512_shuffle_i32x4::<0x88>, _mm512_shuffle_i32x4::<0xdd>);
    let [all]: [__m512i; 1] = halved!(eights, _mm512_shuffle_i32x4::<0x88>, _mm512_shuffle_i32x4::<0xdd>);
    all
}
