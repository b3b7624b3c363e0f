//! Vector functions over [`Simd`]. Error bounds stand beside their tests in `tests.rs`.

use super::args::Activation;
use super::simd::{Gate, POW2_BIAS, Simd};
use core::f32::consts::{LN_2, LOG2_E};

/// Horner's rule, highest coefficient first.
macro_rules! horner {
    ($x:expr, $first:expr $(, $c:expr)* $(,)?) => {{
        let x = $x;
        let sum = x.like($first);
        $(let sum = sum.mul_add(x, x.like($c));)*
        sum
    }};
}

/// `$scale`, a power of two, times e^r for |r| of up to ln 2 / 2: a minimax polynomial, without r^2, which may be denormal.
macro_rules! scaled_exp {
    ($r:expr, $scale:expr) => {{
        let r = $r;
        let p = horner!(r, 1.381_874_2e-3, 8.368_721e-3, 4.166_829e-2, 1.666_652_1e-1, 0.499_999_97);
        p.mul(r).mul_add(r, r).mul_add(r.like($scale), r.like($scale))
    }};
}

/// `$scale`, a power of two, times 2^x for |x| of up to 1/2.
macro_rules! scaled_exp2 {
    ($x:expr, $scale:expr) => {{
        let scale = $scale;
        horner!(
            $x,
            scale * 1.532_894_5e-4,
            scale * 1.339_121_3e-3,
            scale * 9.618_501e-3,
            scale * 5.550_359e-2,
            scale * 2.402_264_8e-1,
            scale * LN_2,
            scale,
        )
    }};
}

/// Applies a function of vectors to rows of so many values.
macro_rules! each {
    ($f:ident::<$v:ty>, $ptr:expr, $rows:expr, $n:expr, $stride:expr) => {
        for row in 0..$rows {
            for i in (0..$n).step_by(<$v>::LANES) {
                // SAFETY: element i of the row and those after it are the caller's.
                unsafe {
                    let p = $ptr.offset(row as isize * $stride).add(i);
                    $f(<$v>::load_upto(p, $n - i)).store_upto(p, $n - i);
                }
            }
        }
    };
}

/// x = n ln 2 + r after Cody and Waite: n + `bias`, n and r. The bias is an integer near [`POW2_BIAS`].
#[inline(always)]
fn reduced<V: Simd>(x: V, bias: f32) -> (V, V, V) {
    let bias = x.like(bias);
    let power = x.mul_add(x.like(LOG2_E), bias);
    let n = power.sub(bias);
    let r = n.mul_add(n.like(-0.693_359_4), x);
    (power, n, n.mul_add(n.like(2.121_944_4e-4), r))
}

/// e to the power of x: infinity above the range, 0 below, gradual in between, NaN of NaN.
#[inline(always)]
pub fn exp<V: Simd>(x: V) -> V {
    // Beyond these the result is infinity and 0 anyhow. NaN passes because it is the second operand.
    let x = x.like(89.0).min(x);
    let x = x.like(-104.0).max(x);
    let (_, n, r) = reduced(x, POW2_BIAS);
    // In two factors, so that neither leaves the range on the way.
    let (half, bias) = (n.mul(n.like(0.5)).floor(), n.like(POW2_BIAS));
    scaled_exp!(r, 1.0).mul(half.add(bias).pow2()).mul(n.sub(half).add(bias).pow2())
}

/// The powers of two that [`exp_or_zero`] and [`Decay`] scale by: 2^SHIFT.
const fn scale(shift: i32) -> f32 {
    f32::from_bits(((127 + shift) as u32) << 23)
}

/// 2^SHIFT times e to the power of x, which is at most 60, but 0 where that is below 2^-125 or so: a few CPUs take a
/// hundred times longer for an operation with a denormal result, and no step of this has one. NaN of NaN.
#[inline(always)]
fn exp_or_zero<V: Simd, const SHIFT: i32>(x: V) -> V {
    exp_within::<V, SHIFT>(x.like((SHIFT as f32 + 126.2) * -LN_2).max(x))
}

/// [`exp_or_zero`] of what needs no lower bound.
#[inline(always)]
fn exp_within<V: Simd, const SHIFT: i32>(x: V) -> V {
    // The polynomial's 2 keeps a product with the smallest power, 2^-126, normal.
    let (power, _, r) = reduced(x, POW2_BIAS + SHIFT as f32 - 1.0);
    scaled_exp!(r, 2.0).mul(power.pow2())
}

/// Weights of a softmax: e to the power of `scale`, above 0, times a distance of at most 0; exactly 0 where that is
/// below 2^(DROP - 125.5), without a denormal on the way.
#[derive(Clone, Copy)]
pub struct Decay<V, const DROP: i32> {
    factor: V,
    lowest: V,
}

impl<V: Simd, const DROP: i32> Decay<V, DROP> {
    #[inline(always)]
    pub fn new(like: V, scale: f32) -> Self {
        let factor = scale * LOG2_E;
        let lowest = (DROP as f32 - 126.2) / factor;
        // Finite, so that no difference of infinities comes of it.
        let lowest = if lowest > f32::MIN { lowest } else { f32::MIN };
        Decay { factor: like.like(factor), lowest: like.like(lowest) }
    }

    /// `distance` in every lane.
    #[inline(always)]
    pub fn like(&self, distance: f32) -> V {
        self.factor.like(distance)
    }

    /// NaN of NaN.
    #[inline(always)]
    pub fn of(&self, distance: V) -> V {
        let distance = self.lowest.max(distance);
        let bias = distance.like(POW2_BIAS - (DROP + 1) as f32);
        let power = distance.mul_add(self.factor, bias);
        let part = distance.mul_add(self.factor, bias.sub(power));
        scaled_exp2!(part, const { scale(DROP + 1) }).mul(power.pow2())
    }
}

/// What is below it makes no difference to a polynomial of its square, which would be denormal.
const SQUARABLE: f32 = 1e-9;

/// Beyond it, 1 + e^x rounds to e^x. Its own power comes out as 2^28 exactly, so that the quotient of both is 1.
const SATURATED: f32 = 28.0 * LN_2;

#[inline(always)]
pub fn sigmoid<V: Simd>(x: V) -> V {
    let e = exp_or_zero::<V, 0>(x.like(SATURATED).min(x));
    e.mul(e.add(e.like(1.0)).reciprocal())
}

/// x e / (e + 1), with 2^7 e for e: a product with x, which is about -90, is normal where e is not.
#[inline(always)]
pub fn silu<V: Simd>(x: V) -> V {
    let e = exp_or_zero::<V, 7>(x.like(SATURATED).min(x));
    x.mul(e.add(e.like(scale(7))).reciprocal()).mul(e)
}

/// A polynomial near zero (Cephes `tanhf`), by the exponential function elsewhere.
#[inline(always)]
pub fn tanh<V: Simd>(x: V) -> V {
    let t = x.like(SQUARABLE).max(x.abs());
    let s = t.mul(t);
    let p = horner!(s, -5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1);
    let small = p.mul(s).mul_add(x, x);
    let one = x.like(1.0);
    // The result is 1 from here on.
    let e = exp_within::<V, 0>(x.like(20.0).min(t.add(t)));
    let large = x.like(-2.0).mul_add(e.add(one).reciprocal(), one);
    V::select(t.lt(x.like(0.625)), small, large.copysign(x))
}

/// The error function: a polynomial near zero, 1 - exp(polynomial) elsewhere (minimax coefficients by N. Juffa).
#[inline(always)]
pub fn erf<V: Simd>(x: V) -> V {
    let t = x.like(SQUARABLE).max(x.like(4.0).min(x.abs()));
    let s = t.mul(t);
    let high = t.like(-1.728_534_7e-5).mul_add(t, t.like(3.831_971_3e-4));
    let low = t.like(-3.883_964_4e-3).mul_add(t, t.like(2.425_462_2e-2));
    let r = high.mul_add(s, low);
    let r = r.mul_add(t, t.like(-1.067_778_8e-1));
    let r = r.mul_add(t, t.like(-6.348_467e-1));
    let r = r.mul_add(t, t.like(-1.287_175_1e-1));
    let large = x.like(1.0).sub(exp_within::<V, 0>(r.mul_add(t, t.neg())));
    let p = horner!(
        s,
        -5.967_617e-4,
        4.991_194_2e-3,
        -2.676_813_5e-2,
        1.128_199_3e-1,
        -3.761_253_4e-1,
        1.283_791_7e-1
    );
    let small = p.mul_add(x, x);
    V::select(t.le(x.like(0.927_734_4)), small, large.copysign(x))
}

/// x times the normal distribution function, by [`erf`].
#[inline(always)]
pub fn gelu<V: Simd>(x: V) -> V {
    let half = x.mul(x.like(0.5));
    half.mul_add(erf(x.mul(x.like(core::f32::consts::FRAC_1_SQRT_2))), half)
}

/// The root of 2 / pi, and what x^3 counts beside x, in [`gelu_tanh`].
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// The tanh form of [`gelu`].
#[inline(always)]
pub fn gelu_tanh<V: Simd>(x: V) -> V {
    let half = x.mul(x.like(0.5));
    let t = x.like(SQUARABLE).max(x.abs());
    let cubic = t.mul(t).mul_add(x.like(CUBE), x.like(1.0)).mul(x);
    half.mul_add(tanh(cubic.mul(x.like(ROOT))), half)
}

/// [`silu`], as exact as the gate.
#[inline(always)]
fn gated_silu<V: Gate>(x: V) -> V {
    x.mul(x.mul(x.like(-LOG2_E)).gate())
}

/// [`gelu_tanh`], as exact as the gate: (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)).
#[inline(always)]
fn gated_gelu_tanh<V: Gate>(x: V) -> V {
    let t = x.like(SQUARABLE).max(x.abs());
    let power = -2.0 * ROOT * LOG2_E;
    x.mul(t.mul(t).mul_add(x.like(power * CUBE), x.like(power)).mul(x).gate())
}

/// x tanh(softplus(x)) = x q / (q + 2) with e = exp(x), q = e (e + 2); as in [`silu`] with 2^7 e for e.
#[inline(always)]
pub fn mish<V: Simd>(x: V) -> V {
    let e = exp_or_zero::<V, 7>(x.like(20.0).min(x));
    let more = e.add(e.like(scale(8)));
    let inverse = e.mul_add(more, e.like(scale(15))).reciprocal();
    x.mul(inverse).mul(more).mul(e)
}

/// log(1 + exp(x)) = max(x, 0) + 2 atanh(t / 2) with t = 2 u / (2 + u), u = exp(-|x|).
#[inline(always)]
pub fn softplus<V: Simd>(x: V) -> V {
    let u = exp(x.abs().neg());
    let t = u.add(u).div(u.add(u.like(2.0)));
    let s = t.mul(t).mul(t.like(0.25));
    let p = horner!(s, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0);
    p.mul_add(t, x.like(0.0).max(x))
}

/// [`activate`] of an instruction set.
pub type Activate = unsafe fn(Activation, *mut f32, usize, usize, isize);

/// Applies an activation to a block of rows in place.
///
/// # Safety
/// The CPU has V's instruction set; `rows` rows of `n` values, `stride` apart, are readable and writable at `ptr`.
#[inline(always)]
pub unsafe fn activate<V: Simd>(activation: Activation, ptr: *mut f32, rows: usize, n: usize, stride: isize) {
    match activation {
        Activation::None => {}
        Activation::Relu => each!(relu::<V>, ptr, rows, n, stride),
        Activation::Sigmoid => each!(sigmoid::<V>, ptr, rows, n, stride),
        Activation::Tanh => each!(tanh::<V>, ptr, rows, n, stride),
        Activation::Silu => each!(silu::<V>, ptr, rows, n, stride),
        Activation::Gelu => each!(gelu::<V>, ptr, rows, n, stride),
        Activation::GeluTanh => each!(gelu_tanh::<V>, ptr, rows, n, stride),
        Activation::Mish => each!(mish::<V>, ptr, rows, n, stride),
    }
}

/// [`activate`], by gates of fewer bits where an activation is one.
///
/// # Safety
/// As that.
#[inline(always)]
pub unsafe fn activate_gated<V: Gate>(
    activation: Activation,
    ptr: *mut f32,
    rows: usize,
    n: usize,
    stride: isize,
) {
    match activation {
        Activation::Silu => each!(gated_silu::<V>, ptr, rows, n, stride),
        Activation::GeluTanh => each!(gated_gelu_tanh::<V>, ptr, rows, n, stride),
        // SAFETY: the caller's contract.
        _ => unsafe { activate::<V>(activation, ptr, rows, n, stride) },
    }
}

#[inline(always)]
pub fn relu<V: Simd>(x: V) -> V {
    x.like(0.0).max(x)
}
