//! The innermost kernels of products in fixed point, with AVX512-VNNI.

use super::x86::{Avx512, broadcast, row_starts};
use crate::kernels::attention::NARROW;
use crate::kernels::attention_fixed::{STEPS, ScoreTile, Scores, WEIGHT};
use crate::kernels::fixed::{Forward, LIMIT, ROUNDED, Rounding, STRETCH};
use crate::kernels::gemm::{MAX_MR, unroll};
use crate::kernels::half::HalfTile;
use crate::kernels::norm::{self, Gated};
use crate::kernels::simd::{F16, Gate, Simd};
use crate::kernels::winograd::{IN, NUMBERS, PLACES};
use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

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
        let mut rows: [*const u8; MAX_MR.div_ceil(3)] = row_starts(t.a.cast(), 3 * stride);
        let mut unit = t.a.add(t.k).cast::<u8>();
        let (mut b, mut ahead, mut left) = (t.b, t.ahead, t.k);
        let mut first = true;
        while left > 0 || first {
            let stretch = left.min(t.stretch);
            let mut acc = [[_mm512_setzero_si512(); NV]; R];
            for _ in 0..stretch / 2 {
                ahead.fetch::<Avx512>(2);
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
    let [plain, scaled] = match (args.count / LANES, args.count % LANES) {
        (1, 0) => [rounded::<1, false>, rounded::<1, true>],
        (2, 0) => [rounded::<2, false>, rounded::<2, true>],
        (4, 0) => [rounded::<4, false>, rounded::<4, true>],
        (6, 0) => [rounded::<6, false>, rounded::<6, true>],
        (8, 0) => [rounded::<8, false>, rounded::<8, true>],
        _ => [rounded::<0, false>, rounded::<0, true>],
    };
    // SAFETY: the caller's contract.
    unsafe { if args.scale.is_null() { plain(args) } else { scaled(args) } }
}

/// Blocks of so many whole vectors, or of any count if it is 0.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn rounded<const VECTORS: usize, const SCALED: bool>(args: &Rounding) {
    let (mut factors, mut units) = ([0.0f32; ROUNDED], [0.0f32; ROUNDED]);
    // SAFETY: the caller's contract.
    unsafe {
        // All are measured first: what finds the largest of a few takes long, but not long for each if many are on the way.
        for (i, rows) in args.from.chunks(MAX_MR).enumerate() {
            let (factor, unit) = measured::<VECTORS, SCALED>(rows, args.count, args.scale);
            _mm512_storeu_ps(factors[i * MAX_MR..].as_mut_ptr(), factor);
            _mm512_storeu_ps(units[i * MAX_MR..].as_mut_ptr(), unit);
        }
        for ((row, &from), (&factor, &unit)) in args.from.iter().enumerate().zip(factors.iter().zip(&units)) {
            let at = row * args.step;
            convert::<VECTORS, SCALED>(from, args.count, args.scale, factor, args.to.add(at));
            args.unit.add(at).cast::<f32>().write_unaligned(unit);
        }
    }
}

/// What brings up to [`MAX_MR`] blocks to whole numbers, and the units of these.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn measured<const VECTORS: usize, const SCALED: bool>(
    blocks: &[*const f32],
    count: usize,
    scale: *const f32,
) -> (__m512, __m512) {
    let whole = if VECTORS > 0 { VECTORS } else { count / LANES };
    let rest = if VECTORS > 0 { 0 } else { count % LANES };
    // Bits of magnitudes are in the order of these, and those of what is not a number above all.
    let magnitudes = |x: __m512| _mm512_castps_si512(_mm512_abs_ps(x));
    let mut most = [_mm512_setzero_si512(); MAX_MR];
    // SAFETY: the caller's contract.
    unsafe {
        unroll!(ROW, MAX_MR, {
            if let Some(&from) = blocks.get(ROW) {
                for v in 0..whole {
                    let own = magnitudes(vector::<SCALED>(from, scale, v));
                    most[ROW] = if v == 0 { own } else { _mm512_max_epu32(most[ROW], own) };
                }
                if rest > 0 {
                    let own = magnitudes(partial::<SCALED>(from, scale, whole, rest));
                    most[ROW] = _mm512_max_epu32(most[ROW], own);
                }
            }
        });
    }
    let most = _mm512_castsi512_ps(largest(most));
    (_mm512_div_ps(_mm512_set1_ps(LIMIT), most), _mm512_mul_ps(most, _mm512_set1_ps(1.0 / LIMIT)))
}

/// Rounds a block.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn convert<const VECTORS: usize, const SCALED: bool>(
    from: *const f32,
    count: usize,
    scale: *const f32,
    factor: f32,
    to: *mut F16,
) {
    let whole = if VECTORS > 0 { VECTORS } else { count / LANES };
    let rest = if VECTORS > 0 { 0 } else { count % LANES };
    let factor = _mm512_set1_ps(factor);
    let whole_numbers = |x: __m512| _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
    // SAFETY: the caller's contract; masked lanes are not touched.
    unsafe {
        for v in (0..whole & !1).step_by(2) {
            let a = whole_numbers(vector::<SCALED>(from, scale, v));
            let b = whole_numbers(vector::<SCALED>(from, scale, v + 1));
            _mm512_storeu_si512(to.add(v * LANES).cast(), in_order(_mm512_packs_epi32(a, b)));
        }
        if whole % 2 == 1 {
            let x = _mm512_cvtsepi32_epi16(whole_numbers(vector::<SCALED>(from, scale, whole - 1)));
            _mm256_storeu_si256(to.add((whole - 1) * LANES).cast(), x);
        }
        if rest > 0 {
            let x = whole_numbers(partial::<SCALED>(from, scale, whole, rest));
            _mm512_mask_cvtsepi32_storeu_epi16(to.add(whole * LANES).cast(), (1 << rest) - 1, x);
        }
    }
}

/// A block's vector, times its scales.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn vector<const SCALED: bool>(from: *const f32, scale: *const f32, v: usize) -> __m512 {
    // SAFETY: the caller's contract.
    unsafe {
        let x = _mm512_loadu_ps(from.add(v * LANES));
        if SCALED { _mm512_mul_ps(x, _mm512_loadu_ps(scale.add(v * LANES))) } else { x }
    }
}

/// The first lanes of one, and zeros.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn partial<const SCALED: bool>(from: *const f32, scale: *const f32, v: usize, lanes: usize) -> __m512 {
    let there: __mmask16 = (1 << lanes) - 1;
    // SAFETY: the caller's contract; masked lanes are not touched.
    unsafe {
        let x = _mm512_maskz_loadu_ps(there, from.add(v * LANES));
        if SCALED { _mm512_mul_ps(x, _mm512_maskz_loadu_ps(there, scale.add(v * LANES))) } else { x }
    }
}

/// Transforms a block of channels of a patch as [`winograd`] does, and rounds it as [`round`] does: each place has a unit of
/// its own.
///
/// # Safety
/// As [`round`], for what [`Forward`] says.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn forward(args: &Forward) {
    let mut wide = MaybeUninit::<[Wide; PLACES]>::uninit();
    let wide = wide.as_mut_ptr().cast::<Wide>();
    let &Forward { count, to, unit, step, .. } = args;
    let places: [*const f32; PLACES] = core::array::from_fn(|i| wide.cast_const().wrapping_add(i).cast());
    // SAFETY: the caller's contract; `wide` has room for a block of all places, which are filled before they are read.
    unsafe {
        for v in 0..count / LANES {
            transform::<false>(args, v, LANES, wide);
        }
        if !count.is_multiple_of(LANES) {
            transform::<true>(args, count / LANES, count % LANES, wide);
        }
        round(&Rounding { from: &places, count, scale: core::ptr::null(), to, unit, step });
    }
}

/// A place's block of channels. So many bytes that are no power of two keep places from competing for few sets of the cache.
type Wide = [__m512; STRETCH / LANES + 1];

/// One vector of channels, or `left` of them if it is PARTIAL.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn transform<const PARTIAL: bool>(args: &Forward, v: usize, left: usize, wide: *mut Wide) {
    // SAFETY: the caller's contract.
    unsafe {
        three_rows::<PARTIAL, 0>(args, v, left, wide);
        three_rows::<PARTIAL, 1>(args, v, left, wide);
    }
}

/// The first three rows of places, or the other HALF: as many as there are registers for.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn three_rows<const PARTIAL: bool, const HALF: usize>(
    args: &Forward,
    v: usize,
    left: usize,
    wide: *mut Wide,
) {
    let channel = args.first + v * LANES;
    let mask: __mmask16 = if PARTIAL { (1 << left) - 1 } else { !0 };
    // SAFETY: the caller's contract; masked lanes are not touched.
    let load = |from: *const f32| unsafe {
        let from = from.wrapping_add(channel);
        if PARTIAL { _mm512_maskz_loadu_ps(mask, from) } else { _mm512_loadu_ps(from) }
    };
    let scale = if args.scale.is_null() { _mm512_set1_ps(1.0) } else { load(args.scale) };
    let mut rows = [[_mm512_setzero_ps(); IN]; 3];
    for j in 0..IN {
        let d = [0, 1, 2, 3, 4].map(|i| load(args.from[(HALF + i) * IN + j]));
        let column = if HALF == 0 { low(d) } else { high(d) };
        for (row, value) in rows.iter_mut().zip(column) {
            row[j] = _mm512_mul_ps(value, scale);
        }
    }
    for (i, [a, b, c, d, e, f]) in rows.into_iter().enumerate() {
        let (first, last) = (low([a, b, c, d, e]), high([b, c, d, e, f]));
        for j in 0..3 {
            let place = (3 * HALF + i) * IN + j;
            // SAFETY: there are so many vectors and places.
            unsafe {
                (*wide.add(place))[v] = first[j];
                (*wide.add(place + 3))[v] = last[j];
            }
        }
    }
}

/// Five of six values, as seen from the first three points: 0, A and -A.
#[inline]
#[target_feature(enable = "avx512f")]
fn low([d0, d1, d2, d3, d4]: [__m512; 5]) -> [__m512; 3] {
    let [square, sum, bb] = [0, 1, 2].map(|i| _mm512_set1_ps(NUMBERS[0][i]));
    let a = _mm512_set1_ps(NUMBERS[1][0]);
    let zero = _mm512_fmadd_ps(square, d0, _mm512_fmadd_ps(sum, d2, d4));
    let (even, odd) = (_mm512_fmadd_ps(bb, d2, d4), _mm512_mul_ps(a, _mm512_fmadd_ps(bb, d1, d3)));
    [zero, _mm512_add_ps(even, odd), _mm512_sub_ps(even, odd)]
}

/// The last five, from the other three: B, -B and infinity.
#[inline]
#[target_feature(enable = "avx512f")]
fn high([d1, d2, d3, d4, d5]: [__m512; 5]) -> [__m512; 3] {
    let [square, sum, aa] = [0, 1, 3].map(|i| _mm512_set1_ps(NUMBERS[0][i]));
    let b = _mm512_set1_ps(NUMBERS[1][2]);
    let infinity = _mm512_fmadd_ps(square, d1, _mm512_fmadd_ps(sum, d3, d5));
    let (even, odd) = (_mm512_fmadd_ps(aa, d2, d4), _mm512_mul_ps(b, _mm512_fmadd_ps(aa, d1, d3)));
    [_mm512_add_ps(even, odd), _mm512_sub_ps(even, odd), infinity]
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

/// Keys of a panel, and lanes of a vector of weights.
const PANEL: usize = 2 * LANES;

/// See [`Tiles::scores`](crate::kernels::attention_fixed::Tiles::scores).
///
/// # Safety
/// The CPU has AVX512-VNNI; the pointers are good for what [`ScoreTile`] says, whose depth is even, and whole panels of keys and
/// scores.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn scores<const R: usize>(t: &ScoreTile, tops: &mut [f32; MAX_MR]) -> bool {
    let stride = t.stride * size_of::<u16>();
    let mut most = [_mm512_set1_ps(f32::NEG_INFINITY); R];
    let mut none = 0;
    let mut b = t.b;
    for panel in 0..t.keys.div_ceil(PANEL) {
        // SAFETY: the caller's contract; masked lanes are not touched.
        unsafe {
            // Of every third row; an address reaches the two below it.
            let mut rows: [*const u8; MAX_MR.div_ceil(3)] = row_starts(t.a.cast(), 3 * stride);
            let mut acc = [[_mm512_setzero_si512(); 2]; R];
            for _ in 0..t.k / 2 {
                let bs = [_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(PANEL).cast())];
                b = b.add(2 * PANEL);
                unroll!(ROW, R, {
                    for (acc, b) in acc[ROW].iter_mut().zip(bs) {
                        broadcast!("vpdpwssd", "dword", "{{1to16}}", *acc, b, rows[ROW / 3], stride, ROW % 3);
                    }
                });
                for row in &mut rows[..R.div_ceil(3)] {
                    *row = row.wrapping_add(2 * size_of::<u16>());
                }
            }
            let [low, high] = halves(PANEL.min(t.keys - panel * PANEL));
            let units = t.units.add(panel * PANEL);
            let units = [_mm512_maskz_loadu_ps(low, units), _mm512_maskz_loadu_ps(high, units.add(LANES))];
            let scores = t.scores.add(panel * t.apart);
            unroll!(ROW, R, {
                let own = t.a.add(ROW * t.stride + t.k).cast::<f32>().read_unaligned();
                let [x, y] = [score(acc[ROW][0], own, units[0]), score(acc[ROW][1], own, units[1])];
                _mm512_storeu_ps(scores.add(ROW * PANEL), x);
                _mm512_storeu_ps(scores.add(ROW * PANEL + LANES), y);
                let top = _mm512_mask_max_ps(most[ROW], low, most[ROW], x);
                most[ROW] = _mm512_mask_max_ps(top, high, top, y);
                none |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, y);
            });
        }
    }
    for (top, most) in tops.iter_mut().zip(most) {
        *top = _mm512_reduce_max_ps(most);
    }
    none == 0
}

/// Scores of a sum, by the row's unit and the keys'.
#[inline]
#[target_feature(enable = "avx512f")]
fn score(sum: __m512i, own: f32, units: __m512) -> __m512 {
    _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(own)), units)
}

/// See [`Tiles::largest`](crate::kernels::attention_fixed::Tiles::largest).
///
/// # Safety
/// The CPU has AVX-512; the pointers are good for what [`Scores`] says, and as many units if there are any.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn largest_score(row: &Scores, units: *const f32) -> f32 {
    let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut none = 0;
    for key in (0..row.keys).step_by(LANES) {
        let there: __mmask16 = if row.keys - key < LANES { (1 << (row.keys - key)) - 1 } else { !0 };
        // SAFETY: the caller's contract; masked lanes are not touched.
        unsafe {
            let at = row.first.add(key / PANEL * row.apart + key % PANEL);
            let mut x = _mm512_maskz_loadu_ps(there, at);
            if !units.is_null() {
                x = _mm512_mul_ps(x, _mm512_maskz_loadu_ps(there, units.add(key)));
                _mm512_mask_storeu_ps(at, there, x);
            }
            most = _mm512_mask_max_ps(most, there, most, x);
            none |= _mm512_mask_cmp_ps_mask::<_CMP_UNORD_Q>(there, x, x);
        }
    }
    if none != 0 { f32::NAN } else { _mm512_reduce_max_ps(most) }
}

/// See [`Tiles::weights`](crate::kernels::attention_fixed::Tiles::weights).
///
/// # Safety
/// The CPU has AVX512-VNNI; the pointers are good for what [`Scores`] says, and there is room for so many whole panels of weights.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn weights(row: &Scores, top: f32, to: *mut i16) -> f32 {
    let (top, one) = (_mm512_set1_ps(top), _mm512_set1_epi16(1));
    let mut sum = _mm512_setzero_si512();
    let (whole, rest) = (row.keys / PANEL, row.keys % PANEL);
    // SAFETY: the caller's contract.
    unsafe {
        for panel in 0..whole {
            let steps = row.first.add(panel * row.apart);
            let weights = powers(below(top, _mm512_loadu_ps(steps), _mm512_loadu_ps(steps.add(LANES))));
            sum = _mm512_dpwssd_epi32(sum, weights, one);
            _mm512_storeu_si512(to.add(panel * PANEL).cast(), weights);
        }
        if rest > 0 {
            let [low, high] = halves(rest);
            let steps = row.first.add(whole * row.apart);
            let a = _mm512_maskz_loadu_ps(low, steps);
            let b = _mm512_maskz_loadu_ps(high, steps.add(LANES));
            let weights = _mm512_maskz_mov_epi16((1 << rest) - 1, powers(below(top, a, b)));
            sum = _mm512_dpwssd_epi32(sum, weights, one);
            _mm512_storeu_si512(to.add(whole * PANEL).cast(), weights);
        }
    }
    _mm512_reduce_add_epi32(sum) as f32
}

/// See [`Tiles::narrow`](crate::kernels::attention_fixed::Tiles::narrow).
///
/// # Safety
/// The CPU has AVX512-VNNI; there are so many panels of weights and values.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn narrow(weights: *const i16, values: *const i16, panels: usize) -> [f32; NARROW] {
    let mut sums = [_mm512_setzero_si512(); NARROW];
    // SAFETY: the caller's contract.
    unsafe {
        for panel in 0..panels {
            let weights = _mm512_loadu_si512(weights.add(panel * PANEL).cast());
            let values = values.add(panel * PANEL * NARROW);
            for (i, sum) in sums.iter_mut().enumerate() {
                let values = _mm512_loadu_si512(values.add(i * PANEL).cast());
                *sum = _mm512_dpwssd_epi32(*sum, weights, values);
            }
        }
    }
    Avx512::totals(sums.map(|sum| Avx512(_mm512_cvtepi32_ps(sum))))
}

/// The lanes of a panel's two vectors that so many of its keys take.
fn halves(keys: usize) -> [__mmask16; 2] {
    let all = u32::MAX.checked_shr((PANEL - keys) as u32).unwrap_or(0);
    [all as u16, (all >> LANES) as u16]
}

/// Whole steps by which scores are below the top; what is too low for 16 bits comes out as the lowest that they hold.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn below(top: __m512, a: __m512, b: __m512) -> __m512i {
    let a = _mm512_cvtps_epi32(_mm512_sub_ps(a, top));
    let b = _mm512_cvtps_epi32(_mm512_sub_ps(b, top));
    in_order(_mm512_packs_epi32(a, b))
}

/// 2 to the power of [`WEIGHT`], and as many [`STEPS`] below it, as whole numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn powers(steps: __m512i) -> __m512i {
    // Fifteen bits of the part of a power, of which a polynomial is within 1.1e-4, about a third of a step.
    let part = _mm512_srli_epi16::<1>(_mm512_slli_epi16::<{ 16 - STEPS }>(steps));
    let p = _mm512_mulhrs_epi16(_mm512_set1_epi16(1282), part);
    let p = _mm512_mulhrs_epi16(_mm512_add_epi16(p, _mm512_set1_epi16(3708)), part);
    let p = _mm512_mulhrs_epi16(_mm512_add_epi16(p, _mm512_set1_epi16(11394)), part);
    let p = _mm512_add_epi16(p, _mm512_set1_epi16(1 << (WEIGHT + 1)));
    // SAFETY: there are as many as a vector has.
    let wholes = unsafe { _mm512_loadu_si512(WHOLES.as_ptr().cast()) };
    _mm512_mulhrs_epi16(p, _mm512_permutexvar_epi16(_mm512_srli_epi16::<STEPS>(steps), wholes))
}

/// Whole powers of two by the lowest five bits of the exponent, which is 0, or -16 to -1. A product with one of these is
/// halved fifteen times, and one is in fourteen bits.
static WHOLES: [i16; PANEL] = {
    let mut wholes = [0; PANEL];
    wholes[0] = 1 << (WEIGHT + 1);
    let mut i = 1;
    while i <= WEIGHT + 1 {
        wholes[PANEL - i as usize] = 1 << (WEIGHT + 1 - i);
        i += 1;
    }
    wholes
};

/// Quarters of two vectors that were packed side by side, one vector after the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_order(packed: __m512i) -> __m512i {
    _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), packed)
}

/// Rows of a normalisation, two vectors of channels, times their gates.
///
/// # Safety
/// The CPU has AVX-512; rows of x and y, means, scales and shifts have so many channels.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn gated(t: &Gated) {
    // SAFETY: the caller's contract.
    unsafe { norm::gate::<Avx512>(t) }
}

impl Gate for Avx512 {
    #[inline(always)]
    fn gate(self) -> Self {
        // SAFETY: a value proves the instruction set, of which every row for it has these parts.
        unsafe {
            let x = self.0;
            // What is above the next lower integer, of whose power a polynomial is within 4e-6.
            let part = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF }>(x);
            let p = _mm512_fmadd_ps(self.like(1.355_574_7e-2).0, part, self.like(5.203_237e-2).0);
            let p = _mm512_fmadd_ps(p, part, self.like(2.413_797_6e-1).0);
            let p = _mm512_fmadd_ps(p, part, self.like(6.930_321e-1).0);
            let p = _mm512_fmadd_ps(p, part, self.like(1.0).0);
            Avx512(_mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(p, x), self.like(1.0).0)))
        }
    }
}
