//! Depthwise convolution, pooling and resampling: vectors along the channels, a few taps each.

use super::args::{Activation, DepthwiseArgs, PoolArgs, PoolKind, ResampleArgs};
use super::gemm::Pixel;
use super::math::Activate;
use super::simd::Simd;

/// Operations of a task, about.
const TASK: usize = 1 << 16;

/// Output pixels of a task.
fn pixel_step(channels: usize, taps: usize) -> usize {
    (TASK / (channels * taps.max(1)).max(1)).max(1)
}

fn pixel_tasks(m: usize, channels: usize, taps: usize) -> usize {
    if channels == 0 { 0 } else { m.div_ceil(pixel_step(channels, taps)) }
}

pub(super) fn depthwise_tasks(args: &DepthwiseArgs) -> usize {
    pixel_tasks(args.m, args.channels, args.a.kernel[0] * args.a.kernel[1])
}

/// # Safety
/// The CPU has V's instruction set and that of `activate`; the contract of [`DepthwiseArgs`].
#[inline(always)]
pub(super) unsafe fn depthwise<V: Simd>(args: &DepthwiseArgs, task: usize, activate: Activate) {
    let step = pixel_step(args.channels, args.a.kernel[0] * args.a.kernel[1]);
    for m in task * step..((task + 1) * step).min(args.m) {
        let pixel = Pixel::new(&args.a, m);
        // SAFETY: row m of C.
        unsafe {
            let out = args.c.offset(m as isize * args.c_stride);
            let mut c = 0;
            while c + 4 * V::LANES <= args.channels {
                depthwise_block::<V, 4>(args, &pixel, c, out);
                c += 4 * V::LANES;
            }
            while c < args.channels {
                depthwise_block::<V, 1>(args, &pixel, c, out);
                c += V::LANES;
            }
            if args.activation != Activation::None {
                activate(args.activation, out, 1, args.channels, 0);
            }
        }
    }
}

/// NV vectors of channels of one pixel; the last one may be partial.
#[inline(always)]
unsafe fn depthwise_block<V: Simd, const NV: usize>(
    args: &DepthwiseArgs,
    pixel: &Pixel,
    c: usize,
    out: *mut f32,
) {
    // SAFETY: channels from c on of the taps inside of the image, of the filter, of the bias and of the output.
    unsafe {
        let mut acc = [V::splat(0.0); NV];
        let left = args.channels - c;
        for i in 0..args.a.kernel[0] {
            for j in 0..args.a.kernel[1] {
                let Some(x) = pixel.tap(&args.a, i, j) else { continue };
                let b = args.b.add((i * args.a.kernel[1] + j) * args.channels);
                for (v, acc) in acc.iter_mut().enumerate() {
                    let at = c + v * V::LANES;
                    let b = V::load_block::<NV>(b.add(at), left);
                    *acc = V::load_block::<NV>(x.add(at), left).mul_add(b, *acc);
                }
            }
        }
        for (v, acc) in acc.iter().enumerate() {
            let at = c + v * V::LANES;
            let left = args.channels - at;
            let bias =
                if args.bias.is_null() { V::splat(0.0) } else { V::load_upto(args.bias.add(at), left) };
            acc.add(bias).store_upto(out.add(at), left);
        }
    }
}

pub(super) fn pool_tasks(args: &PoolArgs) -> usize {
    pixel_tasks(args.m, args.channels, args.a.kernel[0] * args.a.kernel[1])
}

/// # Safety
/// The CPU has V's instruction set; the contract of [`PoolArgs`].
#[inline(always)]
pub(super) unsafe fn pool<V: Simd>(args: &PoolArgs, task: usize) {
    let step = pixel_step(args.channels, args.a.kernel[0] * args.a.kernel[1]);
    for m in task * step..((task + 1) * step).min(args.m) {
        let pixel = Pixel::new(&args.a, m);
        let divisor = divisor(args, m, &pixel);
        for c in (0..args.channels).step_by(V::LANES) {
            let left = args.channels - c;
            // SAFETY: channels from c on of the taps inside of the image and of row m of C.
            unsafe {
                let max = args.kind == PoolKind::Max;
                let mut acc = V::splat(if max { f32::NEG_INFINITY } else { 0.0 });
                for i in 0..args.a.kernel[0] {
                    for j in 0..args.a.kernel[1] {
                        if let Some(x) = pixel.tap(&args.a, i, j) {
                            let x = V::load_upto(x.add(c), left);
                            acc = if max { acc.max_nan(x) } else { acc.add(x) };
                        }
                    }
                }
                let result = if max { acc } else { acc.div(V::splat(divisor)) };
                result.store_upto(args.c.offset(m as isize * args.c_stride).add(c), left);
            }
        }
    }
}

/// What a pixel's sum is divided by.
fn divisor(args: &PoolArgs, m: usize, pixel: &Pixel) -> f32 {
    let mut count = 0;
    for i in 0..args.a.kernel[0] {
        for j in 0..args.a.kernel[1] {
            count += usize::from(match args.kind {
                PoolKind::AveragePadded => padded(args, m, i, j),
                _ => pixel.tap(&args.a, i, j).is_some(),
            });
        }
    }
    count as f32
}

/// Whether tap (i, j) of output pixel m is inside of the padded image.
fn padded(args: &PoolArgs, m: usize, i: usize, j: usize) -> bool {
    let a = &args.a;
    let (x, y) = (m % a.output[1], m / a.output[1] % a.output[0]);
    y * a.stride[0] + i * a.dilation[0] < a.pad[0] + a.input[0] + args.pad_end[0]
        && x * a.stride[1] + j * a.dilation[1] < a.pad[1] + a.input[1] + args.pad_end[1]
}

/// Output rows (outer, n_out) of a task.
fn resample_step(args: &ResampleArgs) -> usize {
    (TASK / (args.inner * args.taps.max(1)).max(1)).max(1)
}

pub(super) fn resample_tasks(args: &ResampleArgs) -> usize {
    if args.inner == 0 { 0 } else { (args.outer * args.n_out).div_ceil(resample_step(args)) }
}

/// # Safety
/// The CPU has V's instruction set; the contract of [`ResampleArgs`].
#[inline(always)]
pub(super) unsafe fn resample<V: Simd>(args: &ResampleArgs, task: usize) {
    let step = resample_step(args);
    for row in task * step..((task + 1) * step).min(args.outer * args.n_out) {
        let (o, i) = (row / args.n_out, row % args.n_out);
        // SAFETY: taps of output row i, and rows of x and y.
        unsafe {
            let indices = args.indices.add(i * args.taps);
            let weights = args.weights.add(i * args.taps);
            let x = args.x.add(o * args.n_in * args.inner);
            let y = args.y.add(row * args.inner);
            if args.taps == 1 && *weights == 1.0 {
                // They overlap in damaged plans.
                core::ptr::copy(x.add(*indices as usize * args.inner), y, args.inner);
                continue;
            }
            if args.inner == 1 {
                let mut sum = 0.0;
                for t in 0..args.taps {
                    sum += *weights.add(t) * *x.add(*indices.add(t) as usize);
                }
                *y = sum;
                continue;
            }
            for c in (0..args.inner).step_by(V::LANES) {
                let mut acc = V::splat(0.0);
                for t in 0..args.taps {
                    let from = x.add(*indices.add(t) as usize * args.inner + c);
                    acc = V::load_upto(from, args.inner - c).mul_add(V::splat(*weights.add(t)), acc);
                }
                acc.store_upto(y.add(c), args.inner - c);
            }
        }
    }
}
