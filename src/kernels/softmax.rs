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

/// Vectors that are worked on at once, so that none waits for the one before it.
const STRANDS: usize = 4;

#[inline(always)]
unsafe fn softmax_row<V: Simd>(x: *const f32, y: *mut f32, n: usize, scale: f32) {
    // SAFETY: the caller vouches for n values at x and y.
    unsafe {
        let (scale, zero) = (V::splat(scale), V::splat(0.0));
        let block = STRANDS * V::LANES;
        let whole = n / block * block;

        let lowest = V::splat(f32::NEG_INFINITY);
        let mut tops = [lowest; STRANDS];
        for i in (0..whole).step_by(block) {
            for (v, top) in tops.iter_mut().enumerate() {
                *top = top.max(V::load(x.add(i + v * V::LANES)).mul(scale));
            }
        }
        for i in (whole..n).step_by(V::LANES) {
            tops[0] = tops[0].max(V::load_upto(x.add(i), n - i).mul(scale).keep(n - i, lowest));
        }
        let [a, b, c, d] = tops;
        let largest = V::splat(a.max(b).max(c.max(d)).largest());

        let decay = math::Decay::<V, 0>::new(zero, 1.0);
        let mut sums = [zero; STRANDS];
        for i in (0..whole).step_by(block) {
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = i + v * V::LANES;
                let e = decay.of(V::load(x.add(at)).mul(scale).sub(largest));
                *sum = sum.add(e);
                e.store(y.add(at));
            }
        }
        for i in (whole..n).step_by(V::LANES) {
            let e = decay.of(V::load_upto(x.add(i), n - i).mul(scale).sub(largest));
            sums[0] = sums[0].add(e.keep(n - i, zero));
            e.store_upto(y.add(i), n - i);
        }
        let [a, b, c, d] = sums;
        let sum = a.add(b).add(c.add(d)).total();

        // Denormal results are 0, and none is computed.
        let (inverse, smallest) = (V::splat(1.0 / sum), V::splat(2.0 * f32::MIN_POSITIVE * sum));
        for i in (0..n).step_by(V::LANES) {
            let e = V::load_upto(y.add(i), n - i);
            let e = V::select(e.lt(smallest), zero, e);
            e.mul(inverse).store_upto(y.add(i), n - i);
        }
    }
}
