//! Vector functions over [`Simd`]. Error bounds stand beside their tests in `tests.rs`.

use super::args::Activation;
use super::simd::Simd;

/// Horner's rule, highest coefficient first.
macro_rules! horner {
    ($x:expr, $first:expr $(, $c:expr)* $(,)?) => {{
        let x = $x;
        let sum = x.like($first);
        $(let sum = sum.mul_add(x, x.like($c));)*
        sum
    }};
}

/// e to the power of x: infinity above the range, 0 below, gradual in between, NaN of NaN.
///
/// Cody and Waite: x = n ln 2 + r, a polynomial (Cephes `expf`) of r, and 2^n in two factors, so that neither leaves
/// the range on the way.
#[inline(always)]
pub fn exp<V: Simd>(x: V) -> V {
    // Beyond these the result is infinity and 0 anyhow. NaN passes because it is the second operand.
    let x = x.like(89.0).min(x);
    let x = x.like(-104.0).max(x);
    let n = x.mul(x.like(core::f32::consts::LOG2_E)).round();
    let r = n.mul_add(n.like(-0.693_359_4), x);
    let r = n.mul_add(n.like(2.121_944_4e-4), r);
    let p = horner!(r, 1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5);
    let p = p.mul_add(r.mul(r), r).add(r.like(1.0));
    let half = n.mul(n.like(0.5)).floor();
    p.mul(half.pow2()).mul(n.sub(half).pow2())
}

#[inline(always)]
pub fn sigmoid<V: Simd>(x: V) -> V {
    let one = x.like(1.0);
    one.div(one.add(exp(x.neg())))
}

#[inline(always)]
pub fn silu<V: Simd>(x: V) -> V {
    x.div(x.like(1.0).add(exp(x.neg())))
}

/// A polynomial near zero (Cephes `tanhf`), by [`exp`] elsewhere.
#[inline(always)]
pub fn tanh<V: Simd>(x: V) -> V {
    let t = x.abs();
    let s = x.mul(x);
    let p = horner!(s, -5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1);
    let small = p.mul_add(s.mul(x), x);
    let one = x.like(1.0);
    let large = one.sub(x.like(2.0).div(exp(t.add(t)).add(one)));
    V::select(t.lt(x.like(0.625)), small, large.copysign(x))
}

/// The error function: a polynomial near zero, 1 - exp(polynomial) elsewhere (minimax coefficients by N. Juffa).
#[inline(always)]
pub fn erf<V: Simd>(x: V) -> V {
    let t = x.like(4.0).min(x.abs());
    let s = t.mul(t);
    let high = t.like(-1.728_534_7e-5).mul_add(t, t.like(3.831_971_3e-4));
    let low = t.like(-3.883_964_4e-3).mul_add(t, t.like(2.425_462_2e-2));
    let r = high.mul_add(s, low);
    let r = r.mul_add(t, t.like(-1.067_778_8e-1));
    let r = r.mul_add(t, t.like(-6.348_467e-1));
    let r = r.mul_add(t, t.like(-1.287_175_1e-1));
    let large = x.like(1.0).sub(exp(r.mul_add(t, t.neg())));
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

/// The tanh form of [`gelu`].
#[inline(always)]
pub fn gelu_tanh<V: Simd>(x: V) -> V {
    let half = x.mul(x.like(0.5));
    let cubic = x.mul(x).mul_add(x.like(0.044_715), x.like(1.0)).mul(x);
    half.mul_add(tanh(cubic.mul(x.like(0.797_884_6))), half)
}

/// x tanh(softplus(x)) = x q / (q + 2) with e = exp(x), q = e (e + 2).
#[inline(always)]
pub fn mish<V: Simd>(x: V) -> V {
    let e = exp(x.like(20.0).min(x));
    let q = e.mul(e.add(e.like(2.0)));
    x.mul(q.div(q.add(q.like(2.0))))
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

/// The activation A (as u8) of one vector.
#[inline(always)]
pub fn activated<V: Simd, const A: u8>(x: V) -> V {
    macro_rules! choose {
        ($($variant:ident => $f:ident),*) => {
            $(if A == Activation::$variant as u8 { return $f(x); })*
        };
    }
    choose!(Relu => relu, Sigmoid => sigmoid, Tanh => tanh, Silu => silu, Gelu => gelu, GeluTanh => gelu_tanh,
        Mish => mish);
    x
}

/// Calls `$f::<$v, A>($args)` for the activation at hand.
macro_rules! by_activation {
    ($activation:expr, $f:ident::<$v:ty>($($arg:expr),*)) => {{
        use $crate::kernels::Activation as A;
        match $activation {
            A::None => $f::<$v, { A::None as u8 }>($($arg),*),
            A::Relu => $f::<$v, { A::Relu as u8 }>($($arg),*),
            A::Sigmoid => $f::<$v, { A::Sigmoid as u8 }>($($arg),*),
            A::Tanh => $f::<$v, { A::Tanh as u8 }>($($arg),*),
            A::Silu => $f::<$v, { A::Silu as u8 }>($($arg),*),
            A::Gelu => $f::<$v, { A::Gelu as u8 }>($($arg),*),
            A::GeluTanh => $f::<$v, { A::GeluTanh as u8 }>($($arg),*),
            A::Mish => $f::<$v, { A::Mish as u8 }>($($arg),*),
        }
    }};
}
pub(super) use by_activation;

/// Applies an activation to a block of rows in place.
///
/// # Safety
/// The CPU has V's instruction set; `rows` rows of `n` values, `stride` apart, are readable and writable at `ptr`.
#[inline(always)]
pub unsafe fn activate<V: Simd>(activation: Activation, ptr: *mut f32, rows: usize, n: usize, stride: isize) {
    macro_rules! each {
        ($f:expr) => {
            for row in 0..rows {
                let mut i = 0;
                while i < n {
                    // SAFETY: element i of the row and the n - i after it are the caller's.
                    unsafe {
                        let p = ptr.offset(row as isize * stride).add(i);
                        $f(V::load_upto(p, n - i)).store_upto(p, n - i);
                    }
                    i += V::LANES;
                }
            }
        };
    }
    match activation {
        Activation::None => {}
        Activation::Relu => each!(relu),
        Activation::Sigmoid => each!(sigmoid),
        Activation::Tanh => each!(tanh),
        Activation::Silu => each!(silu),
        Activation::Gelu => each!(gelu),
        Activation::GeluTanh => each!(gelu_tanh),
        Activation::Mish => each!(mish),
    }
}

#[inline(always)]
pub fn relu<V: Simd>(x: V) -> V {
    x.like(0.0).max(x)
}
