//! Softmax of rows.

use super::args::SoftmaxArgs;
use super::math;
use super::simd::Simd;

/// Elements of a task, about.
const TASK: usize = 8192;

/// Rows of a task.
fn step(args: &SoftmaxArgs) -> usize {
    (TASK / args.n.max(1)).max(1)
}

pub(super) fn tasks(args: &SoftmaxArgs) -> usize {
    if args.n == 0 { 0 } else { args.rows.div_ceil(step(args)) }
}

/// # Safety
/// The CPU has V's instruction set; the contract of [`SoftmaxArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(args: &SoftmaxArgs, task: usize) {
    let step = step(args);
    for row in task * step..((task + 1) * step).min(args.rows) {
        // SAFETY: a row of x and y.
        unsafe {
            let x = args.x.offset(row as isize * args.x_stride);
            let y = args.y.offset(row as isize * args.y_stride);
            softmax_row::<V>(x, y, args.n, args.scale);
        }
    }
}

#[inline(always)]
unsafe fn softmax_row<V: Simd>(x: *const f32, y: *mut f32, n: usize, scale: f32) {
    // SAFETY: the caller vouches for n values at x and y.
    unsafe {
        let (s, lowest) = (V::splat(scale), V::splat(f32::NEG_INFINITY));
        let mut top = lowest;
        for i in (0..n).step_by(V::LANES) {
            let v = V::load_upto(x.add(i), n - i).mul(s);
            top = top.max(v.keep(n - i, lowest));
        }
        let mut largest = f32::NEG_INFINITY;
        for &v in &top.to_array()[..V::LANES] {
            largest = if v > largest { v } else { largest };
        }
        let (largest, zero) = (V::splat(largest), V::splat(0.0));
        let mut sum = zero;
        for i in (0..n).step_by(V::LANES) {
            let e = math::exp(V::load_upto(x.add(i), n - i).mul(s).sub(largest));
            sum = sum.add(e.keep(n - i, zero));
            e.store_upto(y.add(i), n - i);
        }
        let inverse = V::splat((1.0 / sum.sum()) as f32);
        for i in (0..n).step_by(V::LANES) {
            V::load_upto(y.add(i), n - i).mul(inverse).store_upto(y.add(i), n - i);
        }
    }
}
