//! The innermost kernel of products in half precision, with the arithmetic that Armv8.2 has for it.

use super::arm::Neon;
use crate::kernels::attention_half::{Decay, ScoreTile};
use crate::kernels::gemm::{Ahead, unroll};
use crate::kernels::half::HalfTile;
use crate::kernels::norm::Gated;
use crate::kernels::simd::F16;
use crate::kernels::winograd::{HalfForward, IN, NUMBERS};
use core::arch::aarch64::*;
use core::mem::MaybeUninit;

/// Lanes of a vector, and the steps that one load of a row serves.
const LANES: usize = 8;

/// Products whose sums, added up apart, keep roundings of a long sum small: what many of these add up to is larger than
/// each, and is rounded so many times less often.
const RUN: usize = 32;

/// R rows x NV vectors of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has half-precision arithmetic; the tile's pointers are good for its depth, R rows and NV vectors.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn tile<const R: usize, const NV: usize, const PANEL: usize>(t: &HalfTile) {
    let nr = PANEL * LANES;
    let mut totals = MaybeUninit::<[[float16x8_t; NV]; R]>::uninit();
    let totals = Totals { ptr: totals.as_mut_ptr().cast(), stride: NV * LANES };
    // SAFETY: the caller's contract, and totals of all rows and vectors. Each run is within the depth.
    unsafe {
        let mut ahead = t.ahead;
        for tile in 0..t.tiles {
            let rows = Strip::new(t.a.add(tile * R * t.stride), t.stride);
            let acc = t.acc.add(tile * R * nr);
            let (mut at, mut left, mut first) = (At { k: 0, b: t.b, ahead }, t.k, true);
            loop {
                let mut stretch = left.min(t.stretch);
                left -= stretch;
                let mut begun = false;
                loop {
                    let count = stretch.min(RUN);
                    stretch -= count;
                    let mut sums = run::<R, NV, PANEL, true>(&rows, &mut at, count);
                    if begun {
                        totals.join(&mut sums);
                    }
                    if stretch == 0 {
                        unroll!(ROW, R, {
                            for (v, &sum) in sums[ROW].iter().enumerate() {
                                widen(sum, acc.add(ROW * nr + v * LANES), first);
                            }
                        });
                        break;
                    }
                    totals.keep(&sums);
                    begun = true;
                }
                if left == 0 {
                    break;
                }
                first = false;
            }
            ahead = at.ahead;
        }
    }
}

/// R rows x NV vectors of each of some panels of PANEL vectors, in half precision.
///
/// # Safety
/// As [`tile`], of all panels.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn scores<const R: usize, const NV: usize, const PANEL: usize>(t: &ScoreTile) {
    // SAFETY: the caller's contract.
    unsafe {
        let rows = Strip::new(t.a, t.k);
        let mut at = At { k: 0, b: t.b, ahead: Ahead::of(t.b, 0) };
        for panel in 0..t.panels {
            let totals = Totals { ptr: t.scores.add(panel * PANEL * LANES), stride: t.stride };
            at.k = 0;
            let mut begun = false;
            loop {
                let count = RUN.min(t.k - at.k);
                let mut acc = run::<R, NV, PANEL, false>(&rows, &mut at, count);
                if begun {
                    totals.join(&mut acc);
                }
                totals.keep(&acc);
                if at.k >= t.k {
                    break;
                }
                begun = true;
            }
        }
    }
}

/// Where sums in half precision are: those of row r from `ptr + r * stride` on.
struct Totals {
    ptr: *mut F16,
    stride: usize,
}

impl Totals {
    /// Adds what was kept to sums.
    ///
    /// # Safety
    /// The CPU has half-precision arithmetic; sums have been kept here.
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    unsafe fn join<const R: usize, const NV: usize>(&self, acc: &mut [[float16x8_t; NV]; R]) {
        unroll!(ROW, R, {
            for (v, acc) in acc[ROW].iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                *acc = vaddq_f16(*acc, unsafe { load(self.ptr.add(ROW * self.stride + v * LANES)) });
            }
        });
    }

    /// # Safety
    /// The CPU has half-precision arithmetic; there is room for R rows of NV vectors.
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    unsafe fn keep<const R: usize, const NV: usize>(&self, acc: &[[float16x8_t; NV]; R]) {
        unroll!(ROW, R, {
            for (v, &acc) in acc[ROW].iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { store(acc, self.ptr.add(ROW * self.stride + v * LANES)) };
            }
        });
    }
}

/// Rows of A.
struct Strip<const R: usize>([*const F16; R]);

impl<const R: usize> Strip<R> {
    #[inline]
    #[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through them")]
    fn new(a: *const F16, stride: usize) -> Self {
        Strip(core::array::from_fn(|row| {
            let mut row = a.wrapping_add(row * stride);
            // A compiler that knew how far rows are apart would add that up for each load, which may take an index instead.
            // SAFETY: it is no instruction.
            unsafe {
                core::arch::asm!("/* {0} */", inout(reg) row, options(pure, nomem, nostack, preserves_flags));
            }
            row
        }))
    }
}

/// How far a tile is.
struct At {
    k: usize,
    b: *const F16,
    ahead: Ahead,
}

/// The sums of `count` products, one or more, from here on; with the next panel fetched AHEAD.
///
/// # Safety
/// The CPU has half-precision arithmetic; rows and B have as many values left.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn run<const R: usize, const NV: usize, const PANEL: usize, const AHEAD: bool>(
    rows: &Strip<R>,
    at: &mut At,
    count: usize,
) -> [[float16x8_t; NV]; R] {
    let mut acc = [[vreinterpretq_f16_u16(vdupq_n_u16(0)); NV]; R];
    // SAFETY: the caller's contract. Of a row, a vector is loaded only where the run has as many values left.
    unsafe {
        // Most are whole, and a loop's own instructions would tell.
        if count == RUN {
            lanes::<R, NV, PANEL, AHEAD, true>(&mut acc, rows, at);
            for _ in 1..const { RUN / LANES } {
                lanes::<R, NV, PANEL, AHEAD, false>(&mut acc, rows, at);
            }
        } else if count >= LANES {
            lanes::<R, NV, PANEL, AHEAD, true>(&mut acc, rows, at);
            for _ in 1..count / LANES {
                lanes::<R, NV, PANEL, AHEAD, false>(&mut acc, rows, at);
            }
        }
        for _ in 0..count % LANES {
            if AHEAD {
                at.ahead.fetch::<Neon>(1);
            }
            let mut values = [acc[0][0]; R];
            unroll!(ROW, R, {
                values[ROW] = vreinterpretq_f16_u16(vld1q_dup_u16(rows.0[ROW].add(at.k)));
            });
            step::<0, R, NV>(&mut acc, &values, at.b);
            (at.k, at.b) = (at.k + 1, at.b.add(PANEL * LANES));
        }
    }
    acc
}

/// Adds the products of a vector of each row; the FIRST ones need no sums to be added to.
///
/// # Safety
/// As [`run`], with LANES products.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn lanes<const R: usize, const NV: usize, const PANEL: usize, const AHEAD: bool, const FIRST: bool>(
    acc: &mut [[float16x8_t; NV]; R],
    rows: &Strip<R>,
    at: &mut At,
) {
    let (nr, b) = (PANEL * LANES, at.b);
    // SAFETY: the caller's contract.
    unsafe {
        if AHEAD {
            // Two lines of B are four of its rows.
            at.ahead.fetch::<Neon>(LANES / 2);
            at.ahead.fetch::<Neon>(LANES / 2);
        }
        let mut values = [acc[0][0]; R];
        unroll!(ROW, R, {
            values[ROW] = load(rows.0[ROW].add(at.k));
        });
        if FIRST {
            begin::<R, NV>(acc, &values, b);
        } else {
            step::<0, R, NV>(acc, &values, b);
        }
        step::<1, R, NV>(acc, &values, b.add(nr));
        step::<2, R, NV>(acc, &values, b.add(2 * nr));
        step::<3, R, NV>(acc, &values, b.add(3 * nr));
        step::<4, R, NV>(acc, &values, b.add(4 * nr));
        step::<5, R, NV>(acc, &values, b.add(5 * nr));
        step::<6, R, NV>(acc, &values, b.add(6 * nr));
        step::<7, R, NV>(acc, &values, b.add(7 * nr));
        (at.k, at.b) = (at.k + LANES, b.add(LANES * nr));
    }
}

/// The products of the first lane of each row's values with a row of B.
///
/// # Safety
/// As [`step`].
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn begin<const R: usize, const NV: usize>(
    acc: &mut [[float16x8_t; NV]; R],
    values: &[float16x8_t; R],
    b: *const F16,
) {
    // Rows within vectors: there is nothing to iterate over instead.
    #[allow(clippy::needless_range_loop)]
    for v in 0..NV {
        // SAFETY: the caller's contract.
        let b = unsafe { load(b.add(v * LANES)) };
        unroll!(ROW, R, {
            acc[ROW][v] = vmulq_laneq_f16::<0>(b, values[ROW]);
        });
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

/// # Safety
/// The CPU has NEON; `to` is writable for LANES values.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(vector: float16x8_t, to: *mut F16) {
    // SAFETY: the caller's contract.
    unsafe { vst1q_u16(to, vreinterpretq_u16_f16(vector)) }
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

/// Maxima that are kept apart, so that none waits for the one before it.
const STRANDS: usize = 4;

/// The largest of some whole vectors of scores, at least one; NaN if one is.
///
/// # Safety
/// The CPU has half-precision arithmetic; so many scores are readable.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn largest(scores: *const F16, count: usize) -> f32 {
    let whole = count / (STRANDS * LANES) * (STRANDS * LANES);
    // SAFETY: the caller's scores.
    unsafe {
        let mut tops = [load(scores); STRANDS];
        for i in (0..whole).step_by(STRANDS * LANES) {
            for (strand, top) in tops.iter_mut().enumerate() {
                *top = vmaxq_f16(*top, load(scores.add(i + strand * LANES)));
            }
        }
        for i in (whole..count).step_by(LANES) {
            tops[0] = vmaxq_f16(tops[0], load(scores.add(i)));
        }
        let top = vmaxq_f16(vmaxq_f16(tops[0], tops[1]), vmaxq_f16(tops[2], tops[3]));
        vmaxvq_f32(vmaxq_f32(vcvt_f32_f16(vget_low_f16(top)), vcvt_high_f32_f16(top)))
    }
}

/// Vectors of weights that are added up in half precision.
const SUMMED: usize = 8;

/// Turns some whole vectors of scores into weights, and returns their sum.
///
/// # Safety
/// As [`largest`], and the scores are writable.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn weights(scores: *mut F16, count: usize, decay: &Decay) -> f32 {
    let whole = count / (SUMMED * LANES) * (SUMMED * LANES);
    // SAFETY: the caller's scores.
    unsafe {
        let numbers = Numbers::new(decay);
        let mut sums = [vdupq_n_f32(0.0); 2];
        for i in (0..whole).step_by(SUMMED * LANES) {
            let mut some = [numbers.top; SUMMED];
            for (v, weight) in some.iter_mut().enumerate() {
                let at = scores.add(i + v * LANES);
                *weight = numbers.weight(load(at));
                store(*weight, at);
            }
            let [a, b, c, d, e, f, g, h] = some;
            let low = vaddq_f16(vaddq_f16(a, b), vaddq_f16(c, d));
            let high = vaddq_f16(vaddq_f16(e, f), vaddq_f16(g, h));
            add(&mut sums, vaddq_f16(low, high));
        }
        for i in (whole..count).step_by(LANES) {
            let at = scores.add(i);
            let weight = numbers.weight(load(at));
            store(weight, at);
            add(&mut sums, weight);
        }
        vaddvq_f32(vaddq_f32(sums[0], sums[1]))
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [float32x4_t; 2], more: float16x8_t) {
    sums[0] = vaddq_f32(sums[0], vcvt_f32_f16(vget_low_f16(more)));
    sums[1] = vaddq_f32(sums[1], vcvt_high_f32_f16(more));
}

/// What weights are made with, in registers.
struct Numbers {
    top: float16x8_t,
    lowest: float16x8_t,
    power: Power,
}

impl Numbers {
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn new(decay: &Decay) -> Numbers {
        Numbers {
            top: splat(decay.top),
            lowest: splat(decay.lowest),
            // Its 2 keeps a product with the smallest power, 2^-14, normal.
            power: Power::new(decay.factor, Decay::LARGEST - 1, 2.0),
        }
    }

    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn weight(&self, score: float16x8_t) -> float16x8_t {
        self.power.of(vmaxq_f16(self.lowest, vsubq_f16(score, self.top)))
    }
}

/// `times * 2^(factor * x + shift)`, in registers.
struct Power {
    factor: float16x8_t,
    bias: float16x8_t,
    /// Of a polynomial for `times * 2^x` with x of up to 1/2, the last of which is `times`.
    coefficients: [float16x8_t; 4],
}

impl Power {
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn new(factor: f32, shift: i32, times: f32) -> Power {
        Power {
            factor: splat(factor),
            bias: splat(POW2_BIAS + shift as f32),
            coefficients: [
                splat(times * 0.055_008_96),
                splat(times * 0.242_211_1),
                splat(times * 0.693_283),
                splat(times),
            ],
        }
    }

    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn of(&self, x: float16x8_t) -> float16x8_t {
        let power = vfmaq_f16(self.bias, x, self.factor);
        let part = vfmaq_f16(vsubq_f16(self.bias, power), x, self.factor);
        let [c3, c2, c1, c0] = self.coefficients;
        let p = vfmaq_f16(c0, vfmaq_f16(c1, vfmaq_f16(c2, c3, part), part), part);
        vmulq_f16(p, vreinterpretq_f16_u16(vshlq_n_u16::<10>(vreinterpretq_u16_f16(power))))
    }
}

/// Added to a value of small magnitude, it rounds that to an integer n, and leaves n + 15 in the low bits: what the
/// exponent of 2^n is in memory.
const POW2_BIAS: f32 = 1536.0 + 15.0;

#[inline]
#[target_feature(enable = "neon")]
fn splat(value: f32) -> float16x8_t {
    let half = vcvt_f16_f32(vdupq_n_f32(value));
    let mut lanes = vreinterpretq_u16_f16(vcombine_f16(half, half));
    // A compiler that knew the value would rather make it anew wherever it is used than keep it.
    // SAFETY: it is no instruction.
    unsafe {
        core::arch::asm!("/* {0:v} */", inout(vreg) lanes, options(pure, nomem, nostack, preserves_flags));
    }
    vreinterpretq_f16_u16(lanes)
}

/// The transform of a patch of Winograd's, as that in f32.
///
/// # Safety
/// The CPU has half-precision arithmetic; pixels, scales and places have so many channels.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn forward(t: &HalfForward) {
    // A compiler that knew the numbers would make each a vector of its own, for which there is no room.
    let numbers = core::hint::black_box(&NUMBERS);
    let mut half = MaybeUninit::<[[float16x8_t; IN]; IN]>::uninit();
    // In memory in any case, since it is more than registers hold.
    let half = core::hint::black_box(half.as_mut_ptr()).cast::<[float16x8_t; IN]>();
    // SAFETY: the caller's contract; columns fill all of `half`.
    unsafe {
        let factors = narrow([vld1q_f32(numbers[0].as_ptr()), vld1q_f32(numbers[1].as_ptr())]);
        for c in (0..t.count).step_by(LANES) {
            let mut scales = [vdupq_n_f32(1.0); 2];
            if !t.scale.is_null() {
                scales = pair(t.scale.add(c));
            }
            for j in 0..IN {
                let mut column = [factors; IN];
                for (i, value) in column.iter_mut().enumerate() {
                    let [a, b] = pair(t.from[i * IN + j].add(c));
                    *value = narrow([vmulq_f32(a, scales[0]), vmulq_f32(b, scales[1])]);
                }
                for (i, value) in into_places(factors, column).into_iter().enumerate() {
                    (*half.add(i))[j] = value;
                }
            }
            let mut to = t.to.add(c);
            for i in 0..IN {
                for value in into_places(factors, *half.add(i)) {
                    store(value, to);
                    to = to.wrapping_add(t.step);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon,fp16")]
fn into_places(factors: float16x8_t, d: [float16x8_t; IN]) -> [float16x8_t; IN] {
    let even_a = vfmaq_laneq_f16::<2>(d[4], d[2], factors);
    let odd_a = vfmaq_laneq_f16::<2>(d[3], d[1], factors);
    let even_b = vfmaq_laneq_f16::<3>(d[4], d[2], factors);
    let odd_b = vfmaq_laneq_f16::<3>(d[3], d[1], factors);
    [
        vfmaq_laneq_f16::<0>(vfmaq_laneq_f16::<1>(d[4], d[2], factors), d[0], factors),
        vfmaq_laneq_f16::<4>(even_a, odd_a, factors),
        vfmaq_laneq_f16::<5>(even_a, odd_a, factors),
        vfmaq_laneq_f16::<6>(even_b, odd_b, factors),
        vfmaq_laneq_f16::<7>(even_b, odd_b, factors),
        vfmaq_laneq_f16::<0>(vfmaq_laneq_f16::<1>(d[5], d[3], factors), d[1], factors),
    ]
}

/// Rounds eight values.
#[inline]
#[target_feature(enable = "neon")]
fn narrow([low, high]: [float32x4_t; 2]) -> float16x8_t {
    vcvt_high_f16_f32(vcvt_f16_f32(low), high)
}

/// Rows of a normalisation, eight channels, times their gates.
///
/// # Safety
/// The CPU has half-precision arithmetic; rows of x and y, means, scales and shifts have so many channels.
#[target_feature(enable = "neon,fp16")]
pub(super) unsafe fn gated(t: &Gated) {
    // SAFETY: the caller's contract.
    unsafe {
        let (mean, scale, shift, gate) = (pair(t.mean), pair(t.scale), pair(t.shift), Gate::new());
        let (mut x, mut y) = (t.x, t.y);
        for _ in 0..t.rows {
            let [a, b] = pair(x);
            let a = vfmaq_f32(shift[0], vsubq_f32(a, mean[0]), scale[0]);
            let b = vfmaq_f32(shift[1], vsubq_f32(b, mean[1]), scale[1]);
            let gates = gate.of(narrow([a, b]));
            vst1q_f32(y, vmulq_f32(a, vcvt_f32_f16(vget_low_f16(gates))));
            vst1q_f32(y.add(LANES / 2), vmulq_f32(b, vcvt_high_f32_f16(gates)));
            x = x.wrapping_offset(t.x_row);
            y = y.wrapping_offset(t.y_row);
        }
    }
}

/// # Safety
/// The CPU has NEON; `from` is readable for LANES values.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pair(from: *const f32) -> [float32x4_t; 2] {
    // SAFETY: the caller's contract.
    unsafe { [vld1q_f32(from), vld1q_f32(from.add(LANES / 2))] }
}

/// What gates are made with, in registers.
struct Gate {
    bounds: [float16x8_t; 2],
    power: Power,
}

impl Gate {
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn new() -> Gate {
        Gate {
            // Beyond them it is 0 and 1: the power is infinite, and next to nothing.
            bounds: [splat(-11.0), splat(9.5)],
            power: Power::new(-core::f32::consts::LOG2_E, 0, 1.0),
        }
    }

    /// 1 / (1 + exp(-x)), NaN of NaN.
    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn of(&self, x: float16x8_t) -> float16x8_t {
        let [.., one] = self.power.coefficients;
        let e = self.power.of(vminq_f16(vmaxq_f16(x, self.bounds[0]), self.bounds[1]));
        vdivq_f16(one, vaddq_f16(one, e))
    }
}
