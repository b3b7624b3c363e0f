//! The innermost kernels of products in fixed point, with AVX2: an instruction multiplies pairs and adds both products, another
//! adds these to sums. Where both find units that are free, that takes as long as what does one multiply-add in f32.

use super::x86::{Avx2, first, row_starts};
use crate::kernels::attention_fixed::{STEPS, ScoreTile, Scores, WEIGHT};
use crate::kernels::fixed::{Forward, LIMIT, ROUNDED, Rounding, STRETCH};
use crate::kernels::gemm::{MAX_MR, unroll};
use crate::kernels::half::HalfTile;
use crate::kernels::norm::{self, Gated};
use crate::kernels::simd::{F16, Gate, Simd};
use crate::kernels::winograd::{self, PLACES};
use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// Lanes of a vector of sums; of a vector of weights, pairs.
const LANES: usize = 8;

/// Adds the products of a pair of each row, at `$at` in bytes, with NV vectors of B to the sums.
macro_rules! pair {
    ($acc:ident, $r:ident, $nv:ident, $rows:ident, $at:literal, $b:expr) => {{
        let mut bs = [_mm256_setzero_si256(); $nv];
        for (v, bs) in bs.iter_mut().enumerate() {
            *bs = _mm256_loadu_si256($b.add(2 * v * LANES).cast());
        }
        unroll!(ROW, $r, {
            let a = _mm256_set1_epi32($rows[ROW].wrapping_add($at).cast::<i32>().read_unaligned());
            for (acc, b) in $acc[ROW].iter_mut().zip(bs) {
                multiply_add!(acc, a, b);
            }
        });
    }};
}

/// Adds the products of pairs to sums. Of what the compiler makes of two intrinsics one ends up in memory: it takes sums into
/// another register than they were in. What it may not move loads across keeps it from loading more than there are registers
/// for.
macro_rules! multiply_add {
    ($acc:ident, $a:ident, $b:ident) => {
        asm!(
            "vpmaddwd {product}, {a}, {b}",
            "vpaddd {acc}, {acc}, {product}",
            acc = inout(ymm_reg) *$acc,
            a = in(ymm_reg) $a,
            b = in(ymm_reg) $b,
            product = out(ymm_reg) _,
            options(nostack, preserves_flags)
        )
    };
}

/// R rows x NV vectors of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has AVX2; the tile's pointers are good for its depth, which is even, R rows with their units, and NV vectors.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile<const R: usize, const NV: usize, const PANEL: usize>(t: &HalfTile) {
    let nr = PANEL * LANES;
    debug_assert!(t.tiles == 1 && t.k.is_multiple_of(2) && t.stretch.is_multiple_of(2));
    // SAFETY: the caller's contract.
    unsafe {
        let stride = t.stride * size_of::<F16>();
        let mut rows: [*const u8; R] = row_starts(t.a.cast(), stride);
        let mut unit = t.a.add(t.k).cast::<u8>();
        let (mut b, mut ahead, mut left) = (t.b, t.ahead, t.k);
        let mut first = true;
        while left > 0 || first {
            let stretch = left.min(t.stretch);
            let mut acc = [[_mm256_setzero_si256(); NV]; R];
            // Two pairs take two lines of a panel, which are asked for at once.
            for _ in 0..stretch / 4 {
                ahead.fetch::<Avx2>(4);
                pair!(acc, R, NV, rows, 0, b);
                pair!(acc, R, NV, rows, 4, b.add(2 * nr));
                b = b.add(4 * nr);
                for row in &mut rows {
                    *row = row.wrapping_add(8);
                }
            }
            if stretch % 4 > 0 {
                pair!(acc, R, NV, rows, 0, b);
                b = b.add(2 * nr);
                for row in &mut rows {
                    *row = row.wrapping_add(4);
                }
            }
            unroll!(ROW, R, {
                let unit = _mm256_set1_ps(unit.add(ROW * stride).cast::<f32>().read_unaligned());
                for (v, &acc) in acc[ROW].iter().enumerate() {
                    let to = t.acc.add(ROW * nr + v * LANES);
                    let sum = _mm256_cvtepi32_ps(acc);
                    let sum = if first {
                        _mm256_mul_ps(sum, unit)
                    } else {
                        _mm256_fmadd_ps(sum, unit, _mm256_loadu_ps(to))
                    };
                    _mm256_storeu_ps(to, sum);
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
/// The CPU has AVX2; the pointers are good for what [`Rounding`] says.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn round(args: &Rounding) {
    // Vectors of a block, where these are whole: those of the most channels that there are.
    let [plain, scaled] = match (args.count / LANES, args.count % LANES) {
        (2, 0) => [rounded::<2, false>, rounded::<2, true>],
        (4, 0) => [rounded::<4, false>, rounded::<4, true>],
        (8, 0) => [rounded::<8, false>, rounded::<8, true>],
        (12, 0) => [rounded::<12, false>, rounded::<12, true>],
        (16, 0) => [rounded::<16, false>, rounded::<16, true>],
        _ => [rounded::<0, false>, rounded::<0, true>],
    };
    // SAFETY: the caller's contract.
    unsafe { if args.scale.is_null() { plain(args) } else { scaled(args) } }
}

/// Blocks of so many whole vectors, or of any count if it is 0.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn rounded<const VECTORS: usize, const SCALED: bool>(args: &Rounding) {
    let (mut factors, mut units) = ([0.0f32; ROUNDED], [0.0f32; ROUNDED]);
    // SAFETY: the caller's contract; there are so many blocks at the most, in whole vectors.
    unsafe {
        // All are measured first: what finds the largest of a few takes long, but not long for each if many are on the way.
        for (i, rows) in args.from.chunks(LANES).enumerate() {
            let (factor, unit) = measured::<VECTORS, SCALED>(rows, args.count, args.scale);
            _mm256_storeu_ps(factors[i * LANES..].as_mut_ptr(), factor);
            _mm256_storeu_ps(units[i * LANES..].as_mut_ptr(), unit);
        }
        for ((row, &from), (&factor, &unit)) in args.from.iter().enumerate().zip(factors.iter().zip(&units)) {
            let at = row * args.step;
            convert::<VECTORS, SCALED>(from, args.count, args.scale, factor, args.to.add(at));
            args.unit.add(at).cast::<f32>().write_unaligned(unit);
        }
    }
}

/// The whole vectors of so many values, and the rest.
#[inline(always)]
fn vectors<const VECTORS: usize>(count: usize) -> (usize, usize) {
    if VECTORS > 0 { (VECTORS, 0) } else { (count / LANES, count % LANES) }
}

/// What brings up to eight blocks to whole numbers, and the units of these.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn measured<const VECTORS: usize, const SCALED: bool>(
    blocks: &[*const f32],
    count: usize,
    scale: *const f32,
) -> (__m256, __m256) {
    // Bits of magnitudes are in the order of these, and those of what is not a number above all.
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut most = [_mm256_setzero_si256(); LANES];
    let (whole, rest) = vectors::<VECTORS>(count);
    for (most, &from) in most.iter_mut().zip(blocks) {
        // SAFETY: the caller's contract.
        unsafe {
            for v in 0..whole {
                let x = _mm256_castps_si256(vector::<SCALED>(from, scale, v));
                *most = _mm256_max_epu32(*most, _mm256_and_si256(x, magnitude));
            }
            if rest > 0 {
                let x = _mm256_castps_si256(partial::<SCALED>(from, scale, whole, rest));
                *most = _mm256_max_epu32(*most, _mm256_and_si256(x, magnitude));
            }
        }
    }
    let most = _mm256_castsi256_ps(largest(most));
    (_mm256_div_ps(_mm256_set1_ps(LIMIT), most), _mm256_mul_ps(most, _mm256_set1_ps(1.0 / LIMIT)))
}

/// Rounds a block.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn convert<const VECTORS: usize, const SCALED: bool>(
    from: *const f32,
    count: usize,
    scale: *const f32,
    factor: f32,
    to: *mut F16,
) {
    let factor = _mm256_set1_ps(factor);
    let (whole, rest) = vectors::<VECTORS>(count);
    // SAFETY: the caller's contract.
    unsafe {
        for v in (0..whole & !1).step_by(2) {
            let a = _mm256_mul_ps(vector::<SCALED>(from, scale, v), factor);
            let b = _mm256_mul_ps(vector::<SCALED>(from, scale, v + 1), factor);
            _mm256_storeu_si256(to.add(v * LANES).cast(), wholes(a, b));
        }
        if whole % 2 == 1 {
            let x = _mm256_mul_ps(vector::<SCALED>(from, scale, whole - 1), factor);
            let x = _mm256_castsi256_si128(wholes(x, x));
            _mm_storeu_si128(to.add((whole - 1) * LANES).cast(), x);
        }
        if rest > 0 {
            let x = _mm256_mul_ps(partial::<SCALED>(from, scale, whole, rest), factor);
            let mut last = [0; 2 * LANES];
            _mm256_storeu_si256(last.as_mut_ptr().cast(), wholes(x, x));
            core::ptr::copy_nonoverlapping(last.as_ptr(), to.add(whole * LANES), rest);
        }
    }
}

/// Two vectors as whole numbers, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn wholes(a: __m256, b: __m256) -> __m256i {
    // Halves come out side by side.
    let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
}

/// A block's vector, times its scales.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn vector<const SCALED: bool>(from: *const f32, scale: *const f32, v: usize) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe {
        let x = _mm256_loadu_ps(from.add(v * LANES));
        if SCALED { _mm256_mul_ps(x, _mm256_loadu_ps(scale.add(v * LANES))) } else { x }
    }
}

/// The first lanes of one, and zeros.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn partial<const SCALED: bool>(from: *const f32, scale: *const f32, v: usize, lanes: usize) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe {
        let x = Avx2::load_first(from.add(v * LANES), lanes).0;
        if SCALED { _mm256_mul_ps(x, Avx2::load_first(scale.add(v * LANES), lanes).0) } else { x }
    }
}

/// The largest lane of each vector, unsigned.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(x: [__m256i; LANES]) -> __m256i {
    let mut pairs = [_mm256_setzero_si256(); LANES / 2];
    for (i, pair) in pairs.iter_mut().enumerate() {
        let (a, b) = (x[2 * i], x[2 * i + 1]);
        *pair = _mm256_max_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    }
    let [a, b, c, d] = pairs;
    let low = _mm256_max_epu32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let high = _mm256_max_epu32(_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    _mm256_max_epu32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

/// Transforms a block of channels of a patch as [`winograd`] does, and rounds it as [`round`] does: each place has a unit of
/// its own.
///
/// # Safety
/// As [`round`], for what [`Forward`] says.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn forward(args: &Forward) {
    /// Floats of a place's block; places a power of two apart would compete for few sets of the cache.
    const WIDE: usize = STRETCH + LANES;
    let mut wide = MaybeUninit::<[[f32; WIDE]; PLACES]>::uninit();
    let wide = wide.as_mut_ptr().cast::<f32>();
    let &Forward { from, first, count, scale, to, unit, step } = args;
    let places: [*const f32; PLACES] = core::array::from_fn(|i| wide.cast_const().wrapping_add(i * WIDE));
    // SAFETY: the caller's contract; `wide` has room for a block of all places, which are filled before they are read.
    unsafe {
        winograd::transform::<Avx2>(from, [first, count], scale, wide, WIDE);
        round(&Rounding { from: &places, count, scale: core::ptr::null(), to, unit, step });
    }
}

/// Keys of a panel, and lanes of a vector of weights.
const PANEL: usize = 2 * LANES;

/// See [`Tiles::scores`](crate::kernels::attention_fixed::Tiles::scores).
///
/// # Safety
/// The CPU has AVX2; the pointers are good for what [`ScoreTile`] says, whose depth is even, and whole panels of keys and scores.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn scores<const R: usize>(t: &ScoreTile, tops: &mut [f32; MAX_MR]) -> bool {
    const NV: usize = 2;
    let stride = t.stride * size_of::<F16>();
    let lowest = _mm256_set1_ps(f32::NEG_INFINITY);
    let mut most = [lowest; R];
    let mut none = _mm256_setzero_ps();
    let mut b = t.b;
    for panel in 0..t.keys.div_ceil(PANEL) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut rows: [*const u8; R] = row_starts(t.a.cast(), stride);
            let mut acc = [[_mm256_setzero_si256(); NV]; R];
            for _ in 0..t.k / 2 {
                pair!(acc, R, NV, rows, 0, b);
                b = b.add(2 * PANEL);
                for row in &mut rows {
                    *row = row.wrapping_add(4);
                }
            }
            let keys = PANEL.min(t.keys - panel * PANEL);
            let there = [first(keys.min(LANES)), first(keys.saturating_sub(LANES))];
            let units = t.units.add(panel * PANEL);
            let units = [
                _mm256_maskload_ps(units, there[0]),
                _mm256_maskload_ps(units.wrapping_add(LANES), there[1]),
            ];
            let scores = t.scores.add(panel * t.apart);
            unroll!(ROW, R, {
                let own = t.a.add(ROW * t.stride + t.k).cast::<f32>().read_unaligned();
                for v in 0..NV {
                    let x = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[ROW][v]), _mm256_set1_ps(own));
                    let x = _mm256_mul_ps(x, units[v]);
                    _mm256_storeu_ps(scores.add(ROW * PANEL + v * LANES), x);
                    none = _mm256_or_ps(none, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                    let x = _mm256_blendv_ps(lowest, x, _mm256_castsi256_ps(there[v]));
                    most[ROW] = _mm256_max_ps(most[ROW], x);
                }
            });
        }
    }
    for (top, most) in tops.iter_mut().zip(most) {
        *top = Avx2(most).largest();
    }
    _mm256_movemask_ps(none) == 0
}

/// See [`Tiles::largest`](crate::kernels::attention_fixed::Tiles::largest).
///
/// # Safety
/// The CPU has AVX2; the pointers are good for what [`Scores`] says, and as many units if there are any.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn largest_score(row: &Scores, units: *const f32) -> f32 {
    let lowest = _mm256_set1_ps(f32::NEG_INFINITY);
    let (mut most, mut none) = (lowest, _mm256_setzero_ps());
    for key in (0..row.keys).step_by(LANES) {
        // SAFETY: the caller's contract; masked lanes are not touched.
        unsafe {
            let there = first(LANES.min(row.keys - key));
            let at = row.first.add(key / PANEL * row.apart + key % PANEL);
            let mut x = _mm256_maskload_ps(at, there);
            if !units.is_null() {
                x = _mm256_mul_ps(x, _mm256_maskload_ps(units.add(key), there));
                _mm256_maskstore_ps(at, there, x);
            }
            none = _mm256_or_ps(none, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            most = _mm256_max_ps(most, _mm256_blendv_ps(lowest, x, _mm256_castsi256_ps(there)));
        }
    }
    if _mm256_movemask_ps(none) != 0 { f32::NAN } else { Avx2(most).largest() }
}

/// See [`Tiles::weights`](crate::kernels::attention_fixed::Tiles::weights).
///
/// # Safety
/// The CPU has AVX2; the pointers are good for what [`Scores`] says, and there is room for so many whole panels of weights.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn weights(row: &Scores, top: f32, to: *mut i16) -> f32 {
    let (top, one) = (_mm256_set1_ps(top), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    let (whole, rest) = (row.keys / PANEL, row.keys % PANEL);
    // SAFETY: the caller's contract.
    unsafe {
        for panel in 0..whole {
            let steps = row.first.add(panel * row.apart);
            let weights = powers(below(top, _mm256_loadu_ps(steps), _mm256_loadu_ps(steps.add(LANES))));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, one));
            _mm256_storeu_si256(to.add(panel * PANEL).cast(), weights);
        }
        if rest > 0 {
            let there = [first(rest.min(LANES)), first(rest.saturating_sub(LANES))];
            let steps = row.first.add(whole * row.apart);
            let a = _mm256_maskload_ps(steps, there[0]);
            let b = _mm256_maskload_ps(steps.wrapping_add(LANES), there[1]);
            let there = wholes_of_masks(there);
            let weights = _mm256_and_si256(there, powers(below(top, a, b)));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, one));
            _mm256_storeu_si256(to.add(whole * PANEL).cast(), weights);
        }
    }
    let halves = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
    _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs))) as f32
}

/// Masks of two vectors as one of lanes of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn wholes_of_masks([a, b]: [__m256i; 2]) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b))
}

/// Whole steps by which scores are below the top; what is too low for 16 bits comes out as the lowest that they hold.
#[inline]
#[target_feature(enable = "avx2")]
fn below(top: __m256, a: __m256, b: __m256) -> __m256i {
    wholes(_mm256_sub_ps(a, top), _mm256_sub_ps(b, top))
}

/// 2 to the power of [`WEIGHT`], and as many [`STEPS`] below it, as whole numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn powers(steps: __m256i) -> __m256i {
    // Fifteen bits of the part of a power, of which a polynomial is within 1.1e-4, about a third of a step.
    let part = _mm256_srli_epi16::<1>(_mm256_slli_epi16::<{ 16 - STEPS as i32 }>(steps));
    let p = _mm256_mulhrs_epi16(_mm256_set1_epi16(1282), part);
    let p = _mm256_mulhrs_epi16(_mm256_add_epi16(p, _mm256_set1_epi16(3708)), part);
    let p = _mm256_mulhrs_epi16(_mm256_add_epi16(p, _mm256_set1_epi16(11394)), part);
    let p = _mm256_add_epi16(p, _mm256_set1_epi16(1 << (WEIGHT + 1)));
    _mm256_mulhrs_epi16(p, whole_powers(_mm256_srai_epi16::<{ STEPS as i32 }>(steps)))
}

/// 2 to the power of [`WEIGHT`] + 1, and of so many below it: 0 to -16. A product with one of these is halved fifteen times, and
/// one is in fourteen bits.
#[inline]
#[target_feature(enable = "avx2")]
fn whole_powers(exponents: __m256i) -> __m256i {
    // A power is one bit of either byte. Its place, counted from the top, is looked up for both: of the low byte less than
    // nothing, or of the high byte so much that its highest bit is set, is none.
    let bits = _mm256_setr_epi8(
        -128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, -128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0,
        0, 0,
    );
    const TOP: i16 = 14 - WEIGHT as i16;
    let places = _mm256_set1_epi16(((0x70 + TOP) << 8) | ((TOP - 8) & 0xff));
    let both = _mm256_mullo_epi16(exponents, _mm256_set1_epi16(-0x0101));
    _mm256_shuffle_epi8(bits, _mm256_add_epi8(both, places))
}

/// Rows of a normalisation, two vectors of channels, times their gates.
///
/// # Safety
/// The CPU has AVX2 and FMA; rows of x and y, means, scales and shifts have so many channels.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gated(t: &Gated) {
    // SAFETY: the caller's contract.
    unsafe { norm::gate::<Avx2>(t) }
}

impl Gate for Avx2 {
    #[inline(always)]
    fn gate(self) -> Self {
        /// Powers beyond have no reciprocal that is a normal number.
        const MOST: f32 = 125.0;
        // Of two operands the second one is the result where one is NaN.
        let x = self.like(MOST).min(self.like(-MOST).max(self));
        let floor = x.floor();
        // What is above the next lower integer, of whose power a polynomial is within 4e-6.
        let part = x.sub(floor);
        let p = part.mul_add(part.like(1.355_574_7e-2), part.like(5.203_237e-2));
        let p = p.mul_add(part, part.like(2.413_797_6e-1));
        let p = p.mul_add(part, part.like(6.930_321e-1));
        let p = p.mul_add(part, part.like(1.0));
        // SAFETY: a value proves the instruction set.
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(floor.0));
            let power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.0), exponent));
            let sum = _mm256_add_ps(power, _mm256_set1_ps(1.0));
            // Eleven bits, and Newton's step to twice as many.
            let near = _mm256_rcp_ps(sum);
            Avx2(_mm256_mul_ps(near, _mm256_fnmadd_ps(sum, near, _mm256_set1_ps(2.0))))
        }
    }
}
