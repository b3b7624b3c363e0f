//! Vectors of WebAssembly: four lanes with its 128-bit SIMD.
//!
//! Its multiply-add rounds twice, as the portable one does, and everything else is rounded in one way only: so values are
//! those of the portable kernels, bit by bit, in every browser. The fused one of the relaxed instructions would not be.

use crate::kernels::simd::{F16, HALF_EXPONENT, Simd};
use core::arch::wasm32::*;

#[derive(Clone, Copy)]
pub struct Wasm128(v128);

/// Operations on values, each one expression of intrinsics. These are safe: a module with instructions that the
/// engine lacks is not run at all.
macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name($($arg: $type),*) -> $out {
            $e
        }
    )*};
}

/// Half to single precision, as the portable kernels do it.
#[inline(always)]
fn widened(half: v128) -> v128 {
    let magnitude = u32x4_shl(v128_and(half, u32x4_splat(0x7fff)), 13);
    let value = f32x4_mul(magnitude, f32x4_splat(HALF_EXPONENT));
    let exponent = u32x4_splat(0x7c00);
    let special = v128_and(i32x4_eq(v128_and(half, exponent), exponent), u32x4_splat(0xff << 23));
    let sign = u32x4_shl(v128_and(half, u32x4_splat(0x8000)), 16);
    v128_or(v128_or(value, special), sign)
}

/// Single to half precision, ties to even, as the portable kernels do it.
#[inline(always)]
fn narrowed(single: v128) -> v128 {
    let (magnitude, half) = (f32x4_abs(single), f32x4_splat(0.5));
    let odd = v128_and(u32x4_shr(magnitude, 13), u32x4_splat(1));
    let normal = u32x4_shr(i32x4_add(magnitude, i32x4_add(odd, i32x4_splat(0xfff - (112 << 23)))), 13);
    let denormal = i32x4_sub(f32x4_add(magnitude, half), half);
    let small = f32x4_lt(magnitude, f32x4_splat(f32::from_bits((127 - 14) << 23)));
    let large = f32x4_ge(magnitude, f32x4_splat(65520.0));
    let finite = v128_bitselect(denormal, normal, small);
    let number = v128_bitselect(u32x4_splat(0x7c00), finite, large);
    let value = v128_bitselect(number, u32x4_splat(0x7e00), f32x4_eq(single, single));
    v128_or(value, v128_and(u32x4_shr(single, 16), u32x4_splat(0x8000)))
}

impl Simd for Wasm128 {
    const LANES: usize = 4;
    type Mask = v128;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Wasm128(f32x4_splat(value))
    }

    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self {
        // SAFETY: the caller vouches for four values.
        Wasm128(unsafe { v128_load(ptr.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, ptr: *mut f32) {
        // SAFETY: the caller vouches for four values.
        unsafe { v128_store(ptr.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(ptr: *const F16) -> Self {
        // SAFETY: the caller vouches for four values.
        Wasm128(widened(unsafe { u32x4_load_extend_u16x4(ptr) }))
    }

    #[inline(always)]
    unsafe fn store_half(self, ptr: *mut F16) {
        let half = narrowed(self.0);
        // SAFETY: the caller vouches for four values.
        unsafe { v128_store64_lane::<0>(u16x8_narrow_i32x4(half, half), ptr.cast()) }
    }

    operations! {
        add(self: Self, b: Self) -> Self = Wasm128(f32x4_add(self.0, b.0));
        sub(self: Self, b: Self) -> Self = Wasm128(f32x4_sub(self.0, b.0));
        mul(self: Self, b: Self) -> Self = Wasm128(f32x4_mul(self.0, b.0));
        div(self: Self, b: Self) -> Self = Wasm128(f32x4_div(self.0, b.0));
        mul_add(self: Self, b: Self, c: Self) -> Self = self.mul(b).add(c);
        // `a < b ? a : b`, which is one instruction of the CPU.
        min(self: Self, b: Self) -> Self = Wasm128(f32x4_pmin(b.0, self.0));
        max(self: Self, b: Self) -> Self = Wasm128(f32x4_pmax(b.0, self.0));
        sqrt(self: Self) -> Self = Wasm128(f32x4_sqrt(self.0));
        round(self: Self) -> Self = Wasm128(f32x4_nearest(self.0));
        floor(self: Self) -> Self = Wasm128(f32x4_floor(self.0));
        abs(self: Self) -> Self = Wasm128(f32x4_abs(self.0));
        neg(self: Self) -> Self = Wasm128(f32x4_neg(self.0));
        copysign(self: Self, sign: Self) -> Self =
            Wasm128(v128_bitselect(sign.0, self.0, u32x4_splat(1 << 31)));
        pow2(self: Self) -> Self = Wasm128(u32x4_shl(self.0, 23));
        // In the order of the portable one.
        total(self: Self) -> f32 = {
            let pairs = f32x4_add(self.0, i64x2_shuffle::<1, 1>(self.0, self.0));
            f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
        };
        largest(self: Self) -> f32 = {
            let pairs = f32x4_pmax(self.0, i64x2_shuffle::<1, 1>(self.0, self.0));
            let all = f32x4_pmax(pairs, i32x4_shuffle::<1, 1, 1, 1>(pairs, pairs));
            f32x4_extract_lane::<0>(all)
        };
        lt(self: Self, b: Self) -> v128 = f32x4_lt(self.0, b.0);
        le(self: Self, b: Self) -> v128 = f32x4_le(self.0, b.0);
        eq(self: Self, b: Self) -> v128 = f32x4_eq(self.0, b.0);
        select(mask: v128, a: Self, b: Self) -> Self = Wasm128(v128_bitselect(a.0, b.0, mask));
    }
}
