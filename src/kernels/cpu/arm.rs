//! Vectors of AArch64: four lanes with NEON.

use crate::kernels::simd::{F16, Simd};
use core::arch::aarch64::*;

#[derive(Clone, Copy)]
pub struct Neon(float32x4_t);

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

impl Simd for Neon {
    const LANES: usize = 4;
    type Mask = uint32x4_t;
    const BY_LANE: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        Neon(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self {
        // SAFETY: the caller vouches for the instruction set and four values.
        Neon(unsafe { vld1q_f32(ptr) })
    }

    #[inline(always)]
    unsafe fn store(self, ptr: *mut f32) {
        // SAFETY: the caller vouches for four values.
        unsafe { vst1q_f32(ptr, self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(ptr: *const F16) -> Self {
        // SAFETY: the caller vouches for the instruction set and four values.
        Neon(unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(ptr))) })
    }

    #[inline(always)]
    unsafe fn store_half(self, ptr: *mut F16) {
        // SAFETY: the caller vouches for four values.
        unsafe { vst1_u16(ptr, vreinterpret_u16_f16(vcvt_f16_f32(self.0))) }
    }

    #[inline(always)]
    unsafe fn load_first(ptr: *const f32, count: usize) -> Self {
        // SAFETY: the caller vouches for the instruction set and `count` values, fewer than four.
        Neon(unsafe {
            let zero = vdupq_n_f32(0.0);
            match count {
                1 => vld1q_lane_f32::<0>(ptr, zero),
                2 => vcombine_f32(vld1_f32(ptr), vget_low_f32(zero)),
                3 => vld1q_lane_f32::<2>(ptr.add(2), vcombine_f32(vld1_f32(ptr), vget_low_f32(zero))),
                _ => zero,
            }
        })
    }

    #[inline(always)]
    unsafe fn store_first(self, ptr: *mut f32, count: usize) {
        // SAFETY: the caller vouches for `count` values, fewer than four.
        unsafe {
            match count {
                1 => vst1q_lane_f32::<0>(ptr, self.0),
                2 | 3 => {
                    vst1_f32(ptr, vget_low_f32(self.0));
                    if count == 3 {
                        vst1q_lane_f32::<2>(ptr.add(2), self.0);
                    }
                }
                _ => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn store_half_first(self, ptr: *mut F16, count: usize) {
        // SAFETY: the caller vouches for `count` values, fewer than four.
        unsafe {
            let halves = vreinterpret_u16_f16(vcvt_f16_f32(self.0));
            match count {
                1 => vst1_lane_u16::<0>(ptr, halves),
                2 | 3 => {
                    vst1_lane_u16::<0>(ptr, halves);
                    vst1_lane_u16::<1>(ptr.add(1), halves);
                    if count == 3 {
                        vst1_lane_u16::<2>(ptr.add(2), halves);
                    }
                }
                _ => {}
            }
        }
    }

    #[inline(always)]
    fn prefetch(ptr: *const u8) {
        // SAFETY: a prefetch reads nothing; there is no stable intrinsic for it.
        unsafe {
            core::arch::asm!(
                "prfm pldl2keep, [{0}]", "prfm pldl2keep, [{0}, #64]",
                in(reg) ptr, options(nostack, readonly, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(self, b: Self, c: Self) -> Self {
        // SAFETY: as for `operations`.
        Neon(unsafe { vfmaq_laneq_f32::<LANE>(c.0, b.0, self.0) })
    }

    operations! {
        add(self: Self, b: Self) -> Self = Neon(vaddq_f32(self.0, b.0));
        sub(self: Self, b: Self) -> Self = Neon(vsubq_f32(self.0, b.0));
        mul(self: Self, b: Self) -> Self = Neon(vmulq_f32(self.0, b.0));
        div(self: Self, b: Self) -> Self = Neon(vdivq_f32(self.0, b.0));
        mul_add(self: Self, b: Self, c: Self) -> Self = Neon(vfmaq_f32(c.0, self.0, b.0));
        min(self: Self, b: Self) -> Self = Neon(vminq_f32(self.0, b.0));
        max(self: Self, b: Self) -> Self = Neon(vmaxq_f32(self.0, b.0));
        sqrt(self: Self) -> Self = Neon(vsqrtq_f32(self.0));
        round(self: Self) -> Self = Neon(vrndnq_f32(self.0));
        floor(self: Self) -> Self = Neon(vrndmq_f32(self.0));
        abs(self: Self) -> Self = Neon(vabsq_f32(self.0));
        neg(self: Self) -> Self = Neon(vnegq_f32(self.0));
        copysign(self: Self, sign: Self) -> Self = Neon(vbslq_f32(vdupq_n_u32(1 << 31), sign.0, self.0));
        pow2(self: Self) -> Self =
            Neon(vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(self.0))));
        total(self: Self) -> f32 = vaddvq_f32(self.0);
        largest(self: Self) -> f32 = vmaxvq_f32(self.0);
        lt(self: Self, b: Self) -> uint32x4_t = vcltq_f32(self.0, b.0);
        le(self: Self, b: Self) -> uint32x4_t = vcleq_f32(self.0, b.0);
        eq(self: Self, b: Self) -> uint32x4_t = vceqq_f32(self.0, b.0);
        select(mask: uint32x4_t, a: Self, b: Self) -> Self = Neon(vbslq_f32(mask, a.0, b.0));
    }
}
