//! The innermost kernel of products in half precision, with AVX512-FP16.

use super::x86::{broadcast, row_starts};
use crate::kernels::gemm::{MAX_MR, unroll};
use crate::kernels::half::HalfTile;
use core::arch::asm;
use core::arch::x86_64::*;

/// Lanes of a vector.
const LANES: usize = 32;

/// R rows x NV vectors of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has AVX512-FP16; the tile's pointers are good for its depth, R rows and NV vectors.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512fp16")]
pub(super) unsafe fn tile<const R: usize, const NV: usize, const PANEL: usize>(t: &HalfTile) {
    let nr = PANEL * LANES;
    debug_assert_eq!(t.tiles, 1);
    // SAFETY: the caller's contract.
    unsafe {
        let stride = t.stride * size_of::<u16>();
        // Of every third row; an address reaches the two below it.
        let mut rows: [*const u8; MAX_MR.div_ceil(3)] = row_starts(t.a.cast(), 3 * stride);
        let (mut b, mut ahead, mut left) = (t.b, t.ahead, t.k);
        let mut first = true;
        while left > 0 || first {
            let stretch = left.min(t.stretch);
            let mut acc = [[_mm512_setzero_si512(); NV]; R];
            for _ in 0..stretch {
                ahead.fetch::<super::x86::Avx512>(1);
                let mut bs = [_mm512_setzero_si512(); NV];
                for (v, bs) in bs.iter_mut().enumerate() {
                    *bs = _mm512_loadu_si512(b.add(v * LANES).cast());
                }
                b = b.add(nr);
                unroll!(ROW, R, {
                    for (acc, b) in acc[ROW].iter_mut().zip(bs) {
                        broadcast!(
                            "vfmadd231ph",
                            "word",
                            "{{1to32}}",
                            *acc,
                            b,
                            rows[ROW / 3],
                            stride,
                            ROW % 3
                        );
                    }
                });
                for row in &mut rows[..R.div_ceil(3)] {
                    *row = row.wrapping_add(size_of::<u16>());
                }
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

/// Stores the lanes as f32, or adds them to what is there.
///
/// # Safety
/// The CPU has AVX-512; `to` is writable for LANES values, and readable unless this is the first.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widen(acc: __m512i, to: *mut f32, first: bool) {
    let halves = [_mm512_castsi512_si256(acc), _mm512_extracti64x4_epi64::<1>(acc)];
    for (i, half) in halves.into_iter().enumerate() {
        let mut sum = _mm512_cvtph_ps(half);
        // SAFETY: the caller's contract.
        unsafe {
            let to = to.add(i * LANES / 2);
            if !first {
                sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
            }
            _mm512_storeu_ps(to, sum);
        }
    }
}
