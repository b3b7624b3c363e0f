//! Vectors of x86-64: eight lanes with AVX2 and FMA, sixteen with AVX-512.

use crate::kernels::simd::{F16, Simd};
use core::arch::x86_64::*;

/// An instruction that multiplies `b` with the value at `base + times * stride`, times up to 2, in all lanes, and adds to
/// `acc`. As an operand in memory it takes a port that loads; what the compiler makes of an intrinsic would take one of the
/// two that multiply, for the broadcast, or a register.
macro_rules! broadcast {
    ($name:literal, $size:literal, $lanes:literal, $acc:expr, $b:expr, $base:expr, $stride:expr, $times:expr) => {
        match $times {
            0 => broadcast!(@from [$name, " {acc}, {b}, ", $size, " ptr [{base}]", $lanes], $acc, $b, $base),
            1 => broadcast!(
                @from [$name, " {acc}, {b}, ", $size, " ptr [{base} + {stride}]", $lanes],
                $acc, $b, $base, stride = in(reg) $stride
            ),
            _ => broadcast!(
                @from [$name, " {acc}, {b}, ", $size, " ptr [{base} + 2 * {stride}]", $lanes],
                $acc, $b, $base, stride = in(reg) $stride
            ),
        }
    };
    (@from [$($text:literal),*], $acc:expr, $b:expr, $base:expr $(, $($stride:tt)*)?) => {
        asm!(
            concat!($($text),*),
            acc = inout(zmm_reg) $acc,
            b = in(zmm_reg) $b,
            base = in(reg) $base,
            $($($stride)*,)?
            options(pure, readonly, nostack, preserves_flags)
        )
    };
}
pub(super) use broadcast;

/// Where rows begin that are so many bytes apart. Here, and not where it is used, so that it is compiled once for a count.
#[inline(always)]
pub(super) fn row_starts<const ROWS: usize>(first: *const u8, stride: usize) -> [*const u8; ROWS] {
    core::array::from_fn(|row| first.wrapping_add(row * stride))
}

#[derive(Clone, Copy)]
pub struct Avx2(pub(super) __m256);

#[derive(Clone, Copy)]
pub struct Avx512(pub(super) __m512);

/// Operations on values, each one expression of intrinsics.
macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name($($arg: $type),*) -> $out {
            // SAFETY: the operands are values of this type, which prove the instruction set.
            unsafe { $e }
        }
    )*};
}

/// A mask of the first lanes, up to all eight.
///
/// # Safety
/// The CPU has AVX2; `count` is at most 8.
#[inline(always)]
pub(super) unsafe fn first(count: usize) -> __m256i {
    static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight elements from 8 - count on.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - count).cast()) }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    type Mask = __m256;
    const FEW_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        Avx2(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self {
        // SAFETY: the caller vouches for the instruction set and eight values.
        Avx2(unsafe { _mm256_loadu_ps(ptr) })
    }

    #[inline(always)]
    unsafe fn store(self, ptr: *mut f32) {
        // SAFETY: the caller vouches for eight values.
        unsafe { _mm256_storeu_ps(ptr, self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(ptr: *const F16) -> Self {
        // SAFETY: the caller vouches for the instruction set and eight values.
        Avx2(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(ptr.cast())) })
    }

    #[inline(always)]
    unsafe fn store_half(self, ptr: *mut F16) {
        // SAFETY: the caller vouches for eight values.
        unsafe { _mm_storeu_si128(ptr.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    fn prefetch(ptr: *const u8) {
        // SAFETY: a prefetch reads nothing, and every x86-64 CPU has it.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(ptr.cast());
            _mm_prefetch::<_MM_HINT_T1>(ptr.wrapping_add(64).cast());
        }
    }

    #[inline(always)]
    unsafe fn load_first(ptr: *const f32, count: usize) -> Self {
        // SAFETY: the caller vouches for the instruction set and `count` values, fewer than eight; masked lanes are
        // not touched.
        Avx2(unsafe { _mm256_maskload_ps(ptr, first(count)) })
    }

    operations! {
        add(self: Self, b: Self) -> Self = Avx2(_mm256_add_ps(self.0, b.0));
        sub(self: Self, b: Self) -> Self = Avx2(_mm256_sub_ps(self.0, b.0));
        mul(self: Self, b: Self) -> Self = Avx2(_mm256_mul_ps(self.0, b.0));
        div(self: Self, b: Self) -> Self = Avx2(_mm256_div_ps(self.0, b.0));
        mul_add(self: Self, b: Self, c: Self) -> Self = Avx2(_mm256_fmadd_ps(self.0, b.0, c.0));
        min(self: Self, b: Self) -> Self = Avx2(_mm256_min_ps(self.0, b.0));
        max(self: Self, b: Self) -> Self = Avx2(_mm256_max_ps(self.0, b.0));
        sqrt(self: Self) -> Self = Avx2(_mm256_sqrt_ps(self.0));
        round(self: Self) -> Self =
            Avx2(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0));
        floor(self: Self) -> Self = Avx2(_mm256_floor_ps(self.0));
        abs(self: Self) -> Self = Avx2(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0));
        neg(self: Self) -> Self = Avx2(_mm256_xor_ps(_mm256_set1_ps(-0.0), self.0));
        copysign(self: Self, sign: Self) -> Self = {
            let bit = _mm256_set1_ps(-0.0);
            Avx2(_mm256_or_ps(_mm256_andnot_ps(bit, self.0), _mm256_and_ps(bit, sign.0)))
        };
        pow2(self: Self) -> Self =
            Avx2(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0))));
        total(self: Self) -> f32 = {
            let x = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        };
        largest(self: Self) -> f32 = {
            let x = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        };
        lt(self: Self, b: Self) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0);
        le(self: Self, b: Self) -> __m256 = _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, b.0);
        eq(self: Self, b: Self) -> __m256 = _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, b.0);
        select(mask: __m256, a: Self, b: Self) -> Self = Avx2(_mm256_blendv_ps(b.0, a.0, mask));
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        Avx512(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self {
        // SAFETY: the caller vouches for the instruction set and sixteen values.
        Avx512(unsafe { _mm512_loadu_ps(ptr) })
    }

    #[inline(always)]
    unsafe fn store(self, ptr: *mut f32) {
        // SAFETY: the caller vouches for sixteen values.
        unsafe { _mm512_storeu_ps(ptr, self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(ptr: *const F16) -> Self {
        // SAFETY: the caller vouches for the instruction set and sixteen values.
        Avx512(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(ptr.cast())) })
    }

    #[inline(always)]
    unsafe fn store_half(self, ptr: *mut F16) {
        // SAFETY: the caller vouches for sixteen values.
        unsafe { _mm256_storeu_si256(ptr.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    unsafe fn store_whole(self, ptr: *mut i16) {
        // SAFETY: the caller vouches for sixteen values.
        unsafe { _mm256_storeu_si256(ptr.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self.0))) }
    }

    #[inline(always)]
    fn prefetch(ptr: *const u8) {
        // SAFETY: a prefetch reads nothing, and every x86-64 CPU has it.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(ptr.cast());
            _mm_prefetch::<_MM_HINT_T1>(ptr.wrapping_add(64).cast());
        }
    }

    #[inline(always)]
    unsafe fn load_first(ptr: *const f32, count: usize) -> Self {
        // SAFETY: the caller vouches for the instruction set and `count` values; masked lanes are not touched.
        Avx512(unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, ptr) })
    }

    #[inline(always)]
    unsafe fn store_first(self, ptr: *mut f32, count: usize) {
        // SAFETY: the caller vouches for `count` values; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(ptr, (1 << count) - 1, self.0) }
    }

    operations! {
        add(self: Self, b: Self) -> Self = Avx512(_mm512_add_ps(self.0, b.0));
        sub(self: Self, b: Self) -> Self = Avx512(_mm512_sub_ps(self.0, b.0));
        mul(self: Self, b: Self) -> Self = Avx512(_mm512_mul_ps(self.0, b.0));
        div(self: Self, b: Self) -> Self = Avx512(_mm512_div_ps(self.0, b.0));
        mul_add(self: Self, b: Self, c: Self) -> Self = Avx512(_mm512_fmadd_ps(self.0, b.0, c.0));
        min(self: Self, b: Self) -> Self = Avx512(_mm512_min_ps(self.0, b.0));
        max(self: Self, b: Self) -> Self = Avx512(_mm512_max_ps(self.0, b.0));
        sqrt(self: Self) -> Self = Avx512(_mm512_sqrt_ps(self.0));
        round(self: Self) -> Self =
            Avx512(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0));
        floor(self: Self) -> Self =
            Avx512(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self.0));
        abs(self: Self) -> Self = Avx512(_mm512_andnot_ps(_mm512_set1_ps(-0.0), self.0));
        neg(self: Self) -> Self = Avx512(_mm512_xor_ps(_mm512_set1_ps(-0.0), self.0));
        copysign(self: Self, sign: Self) -> Self = {
            let bit = _mm512_set1_ps(-0.0);
            Avx512(_mm512_or_ps(_mm512_andnot_ps(bit, self.0), _mm512_and_ps(bit, sign.0)))
        };
        pow2(self: Self) -> Self =
            Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))));
        // Fourteen bits, and Newton's step to all of them; a division keeps the divider busy three times as long.
        reciprocal(self: Self) -> Self = {
            let near = _mm512_rcp14_ps(self.0);
            let off = _mm512_fnmadd_ps(self.0, near, _mm512_set1_ps(1.0));
            Avx512(_mm512_fmadd_ps(near, off, near))
        };
        total(self: Self) -> f32 = _mm512_reduce_add_ps(self.0);
        // Sums of halves of two vectors, then of quarters of four, side by side.
        totals(vectors: [Self; 8]) -> [f32; 8] = {
            let [a, b, c, d, e, f, g, h] = vectors;
            macro_rules! halves {
                ($a:expr, $b:expr) => {
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>($a, $b), _mm512_shuffle_f32x4::<0xee>($a, $b))
                };
            }
            macro_rules! quarters {
                ($a:expr, $b:expr) => {
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>($a, $b), _mm512_shuffle_f32x4::<0xdd>($a, $b))
                };
            }
            let abcd = quarters!(halves!(a.0, b.0), halves!(c.0, d.0));
            let efgh = quarters!(halves!(e.0, f.0), halves!(g.0, h.0));
            let pairs = _mm512_add_ps(_mm512_unpacklo_ps(abcd, efgh), _mm512_unpackhi_ps(abcd, efgh));
            let sums = _mm512_add_ps(pairs, _mm512_shuffle_ps::<0xee>(pairs, pairs));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
            let mut totals = [0.0; 8];
            _mm256_storeu_ps(
                totals.as_mut_ptr(),
                _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums)),
            );
            totals
        };
        largest(self: Self) -> f32 = _mm512_reduce_max_ps(self.0);
        lt(self: Self, b: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0);
        le(self: Self, b: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, b.0);
        eq(self: Self, b: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0);
        select(mask: __mmask16, a: Self, b: Self) -> Self = Avx512(_mm512_mask_blend_ps(mask, b.0, a.0));
    }
}
