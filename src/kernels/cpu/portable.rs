//! Four lanes in plain Rust, which the compiler maps to what the target has by default.

use crate::kernels::simd::{F16, HALF_EXPONENT, Simd};
use core::array::from_fn;

#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn bits(self) -> [u32; 4] {
        from_fn(|i| self.0[i].to_bits())
    }

    #[inline(always)]
    fn from_bits(bits: [u32; 4]) -> Self {
        Portable(from_fn(|i| f32::from_bits(bits[i])))
    }
}

/// Half to single precision: the bits moved to their places, and a product that adjusts the exponent, normalising what
/// was denormal.
#[inline(always)]
fn widened(half: F16) -> f32 {
    let bits = u32::from(half);
    let magnitude = (bits & 0x7fff) << 13;
    let value = f32::from_bits(magnitude) * HALF_EXPONENT;
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(value.to_bits() | special | (bits & 0x8000) << 16)
}

/// Single to half precision, ties to even.
#[inline(always)]
fn narrowed(single: f32) -> F16 {
    let (bits, magnitude) = (single.to_bits(), single.abs());
    let sign = (bits >> 16 & 0x8000) as F16;
    if single.is_nan() {
        return sign | 0x7e00;
    }
    // From half way between the largest number and the next power of two on.
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    // Below the smallest normal number, adding 1/2 rounds at the last place that a denormal has.
    if magnitude < f32::from_bits((127 - 14) << 23) {
        return sign | ((magnitude + 0.5).to_bits() - 0.5f32.to_bits()) as F16;
    }
    let rounded = magnitude.to_bits() - (112 << 23) + 0xfff + (magnitude.to_bits() >> 13 & 1);
    sign | (rounded >> 13) as F16
}

/// All bits or none.
#[inline(always)]
fn mask(set: bool) -> u32 {
    (set as u32).wrapping_neg()
}

impl Simd for Portable {
    const LANES: usize = 4;
    type Mask = [u32; 4];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 4])
    }

    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self {
        // SAFETY: the caller vouches for four values.
        Portable(unsafe { ptr.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, ptr: *mut f32) {
        // SAFETY: the caller vouches for four values.
        unsafe { ptr.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(ptr: *const F16) -> Self {
        // SAFETY: the caller vouches for four values.
        Portable(unsafe { ptr.cast::<[F16; 4]>().read_unaligned() }.map(widened))
    }

    #[inline(always)]
    unsafe fn store_half(self, ptr: *mut F16) {
        // SAFETY: the caller vouches for four values.
        unsafe { ptr.cast::<[F16; 4]>().write_unaligned(self.0.map(narrowed)) }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Portable(from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Portable(from_fn(|i| self.0[i] - b.0[i]))
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Portable(from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Portable(from_fn(|i| self.0[i] / b.0[i]))
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        Portable(from_fn(|i| if self.0[i] < b.0[i] { self.0[i] } else { b.0[i] }))
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Portable(from_fn(|i| if self.0[i] > b.0[i] { self.0[i] } else { b.0[i] }))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Portable(from_fn(|i| libm::sqrtf(self.0[i])))
    }

    #[inline(always)]
    fn round(self) -> Self {
        // 2^23: from there on every value is integral, below it adding it leaves no fraction.
        let magic = self.like(8_388_608.0);
        let rounded = self.abs().add(magic).sub(magic).copysign(self);
        Self::select(self.abs().lt(magic), rounded, self)
    }

    #[inline(always)]
    fn floor(self) -> Self {
        let r = self.round();
        Self::select(self.lt(r), r.sub(r.like(1.0)), r)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self::from_bits(self.bits().map(|x| x & 0x7fff_ffff))
    }

    #[inline(always)]
    fn neg(self) -> Self {
        Self::from_bits(self.bits().map(|x| x ^ 0x8000_0000))
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        let (a, b) = (self.bits(), sign.bits());
        Self::from_bits(from_fn(|i| (a[i] & 0x7fff_ffff) | (b[i] & 0x8000_0000)))
    }

    #[inline(always)]
    fn pow2(self) -> Self {
        Self::from_bits(self.bits().map(|x| x << 23))
    }

    #[inline(always)]
    fn lt(self, b: Self) -> Self::Mask {
        from_fn(|i| mask(self.0[i] < b.0[i]))
    }

    #[inline(always)]
    fn le(self, b: Self) -> Self::Mask {
        from_fn(|i| mask(self.0[i] <= b.0[i]))
    }

    #[inline(always)]
    fn eq(self, b: Self) -> Self::Mask {
        from_fn(|i| mask(self.0[i] == b.0[i]))
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        let (a, b) = (a.bits(), b.bits());
        Self::from_bits(from_fn(|i| (mask[i] & a[i]) | (!mask[i] & b[i])))
    }
}
