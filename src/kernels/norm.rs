//! Group, instance, layer and RMS normalisation.
//!
//! Two passes: means first, then squares about them, so that a mean far from zero costs no digits. Sums are taken of
//! the distance from a pivot (the first row) for the same reason, in f32 over a short chunk of rows and in f64 beyond.
//! Small problems of one group go row by row in one phase; others in five, see [`tasks`].

use super::args::NormArgs;
use super::math;
use super::simd::Simd;

/// Phases of a normalisation: sums, means, squares, scales, result.
pub(super) const PHASES: usize = 5;
/// Elements of a task, about.
const TASK: usize = 16384;
/// Rows of a partial sum.
const CHUNK: usize = 128;
/// The most elements of an image (n) that is normalised in one go.
const DIRECT: usize = 16384;

fn direct(s: usize, c: usize, groups: usize) -> bool {
    groups == 1 && s * c <= DIRECT
}

/// Floats of scratch that a normalisation of `[n, s, c]` needs.
pub fn norm_scratch(n: usize, s: usize, c: usize, groups: usize) -> usize {
    if direct(s, c, groups) { 0 } else { n * c * (s.div_ceil(CHUNK) + 3) }
}

/// Chunks of rows, all images together, of a task.
fn chunk_step(args: &NormArgs) -> usize {
    (TASK / (CHUNK.min(args.s) * args.c).max(1)).max(1)
}

/// Groups, all images together, of a task that combines partial sums.
fn group_step(args: &NormArgs) -> usize {
    let work = (args.c / args.groups.max(1)) * args.s.div_ceil(CHUNK);
    (TASK / 4 / work.max(1)).max(1)
}

/// Images of a task.
fn image_step(args: &NormArgs) -> usize {
    (TASK / (args.s * args.c).max(1)).max(1)
}

pub(super) fn tasks(args: &NormArgs, phase: usize) -> usize {
    if args.n * args.s * args.c == 0 {
        return 0;
    }
    if direct(args.s, args.c, args.groups) {
        return if phase == 0 { args.n.div_ceil(image_step(args)) } else { 0 };
    }
    match phase {
        0 if !args.center => 0,
        0 | 2 | 4 => (args.n * args.s.div_ceil(CHUNK)).div_ceil(chunk_step(args)),
        1 | 3 => (args.n * args.groups).div_ceil(group_step(args)),
        _ => 0,
    }
}

/// # Safety
/// The CPU has V's instruction set, earlier phases have ended; the contract of [`NormArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(args: &NormArgs, phase: usize, task: usize) {
    // SAFETY: the caller's contract; images, chunks and groups are within their counts.
    unsafe {
        if direct(args.s, args.c, args.groups) {
            let step = image_step(args);
            for image in task * step..((task + 1) * step).min(args.n) {
                math::by_activation!(args.activation, direct_image::<V>(args, image));
            }
            return;
        }
        let scratch = Scratch::new(args);
        if phase == 1 || phase == 3 {
            let step = group_step(args);
            for group in task * step..((task + 1) * step).min(args.n * args.groups) {
                match phase {
                    1 => means(args, &scratch, group),
                    _ => scales(args, &scratch, group),
                }
            }
            return;
        }
        let step = chunk_step(args);
        for chunk in task * step..((task + 1) * step).min(args.n * scratch.chunks) {
            match phase {
                0 => partial::<V, false>(args, &scratch, chunk),
                2 => partial::<V, true>(args, &scratch, chunk),
                _ => math::by_activation!(args.activation, apply_chunk::<V>(args, &scratch, chunk)),
            }
        }
    }
}

/// Where intermediate results lie.
struct Scratch {
    chunks: usize,
    /// [n][chunks][c].
    partial: *mut f32,
    /// [n][c] each: y = (x - mean) * scale + shift.
    mean: *mut f32,
    scale: *mut f32,
    shift: *mut f32,
}

impl Scratch {
    #[inline(always)]
    unsafe fn new(args: &NormArgs) -> Scratch {
        let (chunks, nc) = (args.s.div_ceil(CHUNK), args.n * args.c);
        // SAFETY: the caller gives `norm_scratch` floats.
        unsafe {
            let mean = args.scratch.add(chunks * nc);
            Scratch { chunks, partial: args.scratch, mean, scale: mean.add(nc), shift: mean.add(2 * nc) }
        }
    }
}

/// Sums of a chunk of rows per channel: of the distance from the first row, or of squares about the mean.
#[inline(always)]
unsafe fn partial<V: Simd, const SQUARES: bool>(args: &NormArgs, scratch: &Scratch, chunk: usize) {
    let image = chunk / scratch.chunks;
    // SAFETY: rows of x, and channel vectors of scratch.
    unsafe {
        let x = args.x.offset(image as isize * args.x_image);
        let center = if SQUARES { scratch.mean.add(image * args.c).cast_const() } else { x };
        let mut c = 0;
        while c + 4 * V::LANES <= args.c {
            partial_block::<V, SQUARES, 4>(args, scratch, chunk, c, center);
            c += 4 * V::LANES;
        }
        while c < args.c {
            partial_block::<V, SQUARES, 1>(args, scratch, chunk, c, center);
            c += V::LANES;
        }
    }
}

/// NV vectors of channels; the last one may be partial.
#[inline(always)]
unsafe fn partial_block<V: Simd, const SQUARES: bool, const NV: usize>(
    args: &NormArgs,
    scratch: &Scratch,
    chunk: usize,
    c: usize,
    center: *const f32,
) {
    let (image, first) = (chunk / scratch.chunks, chunk % scratch.chunks * CHUNK);
    let left = args.c - c;
    // SAFETY: channels from c on of the center, the chunk's rows and its sums.
    unsafe {
        let mut sums = [Sum::<V, SQUARES>::new(V::splat(0.0)); NV];
        let mut centers = [V::splat(0.0); NV];
        for (v, center_v) in centers.iter_mut().enumerate() {
            *center_v = V::load_block::<NV>(center.add(c + v * V::LANES), left);
        }
        for row in first..(first + CHUNK).min(args.s) {
            let x = args.x.offset(image as isize * args.x_image + row as isize * args.x_row).add(c);
            for (v, sum) in sums.iter_mut().enumerate() {
                let x = V::load_block::<NV>(x.add(v * V::LANES), left);
                sum.add(x, centers[v]);
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            let at = c + v * V::LANES;
            sum.sum.store_upto(scratch.partial.add(chunk * args.c + at), args.c - at);
        }
    }
}

/// A sum of distances from a center, with what rounding has cut off so far (Kahan), or of their squares.
#[derive(Clone, Copy)]
struct Sum<V, const SQUARES: bool> {
    sum: V,
    excess: V,
}

impl<V: Simd, const SQUARES: bool> Sum<V, SQUARES> {
    #[inline(always)]
    fn new(zero: V) -> Self {
        Sum { sum: zero, excess: zero }
    }

    #[inline(always)]
    fn add(&mut self, x: V, center: V) {
        let d = x.sub(center);
        if SQUARES {
            self.sum = d.mul_add(d, self.sum);
            return;
        }
        let d = d.sub(self.excess);
        let sum = self.sum.add(d);
        self.excess = sum.sub(self.sum).sub(d);
        self.sum = sum;
    }
}

/// The channels of a group, all images together: image and range of channels.
fn group_channels(args: &NormArgs, group: usize) -> (usize, core::ops::Range<usize>) {
    let channels = args.c / args.groups;
    let first = group % args.groups * channels;
    (group / args.groups, first..first + channels)
}

/// The sum of a channel's partial sums.
#[inline(always)]
unsafe fn combine(args: &NormArgs, scratch: &Scratch, image: usize, c: usize) -> f64 {
    let mut sum = 0.0;
    for chunk in 0..scratch.chunks {
        // SAFETY: within the partial sums of the image.
        sum += f64::from(unsafe { *scratch.partial.add((image * scratch.chunks + chunk) * args.c + c) });
    }
    sum
}

/// Writes a group's mean, rounded, and leaves what rounding cut off in `shift`.
#[inline(always)]
unsafe fn means(args: &NormArgs, scratch: &Scratch, group: usize) {
    let (image, channels) = group_channels(args, group);
    let mut mean = 0.0;
    // SAFETY: channels of the image.
    unsafe {
        if args.center {
            for c in channels.clone() {
                let pivot = f64::from(*args.x.offset(image as isize * args.x_image).add(c));
                mean += pivot + combine(args, scratch, image, c) / args.s as f64;
            }
            mean /= channels.len() as f64;
        }
        for c in channels {
            *scratch.mean.add(image * args.c + c) = mean as f32;
            *scratch.shift.add(image * args.c + c) = (mean - f64::from(mean as f32)) as f32;
        }
    }
}

/// Writes a group's scales and shifts.
#[inline(always)]
unsafe fn scales(args: &NormArgs, scratch: &Scratch, group: usize) {
    let (image, channels) = group_channels(args, group);
    let mut squares = 0.0;
    // SAFETY: channels of the image.
    unsafe {
        for c in channels.clone() {
            squares += combine(args, scratch, image, c);
        }
        // The mean was rounded by `low`, which every square contains.
        let low = f64::from(*scratch.shift.add(image * args.c + channels.start));
        let count = args.s * channels.len();
        let inverse = inverse_deviation(args, squares - count as f64 * low * low, count);
        for c in channels {
            let (scale, shift) =
                (scratch.scale.add(image * args.c + c), scratch.shift.add(image * args.c + c));
            let (gamma, beta) = parameters(args, c);
            *scale = (inverse * gamma) as f32;
            *shift = (beta - f64::from(*shift) * inverse * gamma) as f32;
        }
    }
}

/// 1 / sqrt(variance + epsilon).
fn inverse_deviation(args: &NormArgs, squares: f64, count: usize) -> f64 {
    let squares = if squares < 0.0 { 0.0 } else { squares };
    1.0 / libm::sqrt(squares / count as f64 + f64::from(args.epsilon))
}

/// gamma and beta of a channel.
#[inline(always)]
unsafe fn parameters(args: &NormArgs, c: usize) -> (f64, f64) {
    // SAFETY: c values each, if not null.
    unsafe {
        let gamma = if args.gamma.is_null() { 1.0 } else { f64::from(*args.gamma.add(c)) };
        let beta = if args.beta.is_null() { 0.0 } else { f64::from(*args.beta.add(c)) };
        (gamma, beta)
    }
}

#[inline(always)]
unsafe fn apply_chunk<V: Simd, const A: u8>(args: &NormArgs, scratch: &Scratch, chunk: usize) {
    let (image, first) = (chunk / scratch.chunks, chunk % scratch.chunks * CHUNK);
    let rows = CHUNK.min(args.s - first);
    // SAFETY: rows of x and y, and channel vectors of scratch.
    unsafe {
        let at = image * args.c;
        let (mean, scale, shift) = (scratch.mean.add(at), scratch.scale.add(at), scratch.shift.add(at));
        for row in first..first + rows {
            let x = args.x.offset(image as isize * args.x_image + row as isize * args.x_row);
            let y = args.y.offset(image as isize * args.y_image + row as isize * args.y_row);
            for c in (0..args.c).step_by(V::LANES) {
                let left = args.c - c;
                let d = V::load_upto(x.add(c), left).sub(V::load_upto(mean.add(c), left));
                let v = d.mul_add(V::load_upto(scale.add(c), left), V::load_upto(shift.add(c), left));
                math::activated::<V, A>(v).store_upto(y.add(c), left);
            }
        }
    }
}

/// An image of one group in one go.
#[inline(always)]
unsafe fn direct_image<V: Simd, const A: u8>(args: &NormArgs, image: usize) {
    let count = args.s * args.c;
    // SAFETY: rows of x and y.
    unsafe {
        let x = args.x.offset(image as isize * args.x_image);
        let mut mean = 0.0;
        if args.center {
            let pivot = *x;
            mean = f64::from(pivot) + direct_sum::<V, false>(args, x, pivot) / count as f64;
        }
        let low = mean - f64::from(mean as f32);
        let squares = direct_sum::<V, true>(args, x, mean as f32);
        let inverse = inverse_deviation(args, squares - count as f64 * low * low, count);
        let (center, scale, rest) =
            (V::splat(mean as f32), V::splat(inverse as f32), V::splat((-low * inverse) as f32));
        for row in 0..args.s {
            let x = x.offset(row as isize * args.x_row);
            let y = args.y.offset(image as isize * args.y_image + row as isize * args.y_row);
            for c in (0..args.c).step_by(V::LANES) {
                let left = args.c - c;
                let mut v = V::load_upto(x.add(c), left).sub(center).mul_add(scale, rest);
                let gamma =
                    if args.gamma.is_null() { V::splat(1.0) } else { V::load_upto(args.gamma.add(c), left) };
                v = if args.beta.is_null() {
                    v.mul(gamma)
                } else {
                    v.mul_add(gamma, V::load_upto(args.beta.add(c), left))
                };
                math::activated::<V, A>(v).store_upto(y.add(c), left);
            }
        }
    }
}

/// The sum over an image of the distance from a center, or of its square; f32 within a row, f64 beyond.
#[inline(always)]
unsafe fn direct_sum<V: Simd, const SQUARES: bool>(args: &NormArgs, x: *const f32, center: f32) -> f64 {
    let mut total = 0.0;
    // SAFETY: rows of x.
    unsafe {
        let center_v = V::splat(center);
        let whole = args.c / V::LANES * V::LANES;
        let blocks = args.c / (4 * V::LANES) * 4 * V::LANES;
        for row in 0..args.s {
            let x = x.offset(row as isize * args.x_row);
            let mut sums = [Sum::<V, SQUARES>::new(V::splat(0.0)); 4];
            for c in (0..blocks).step_by(4 * V::LANES) {
                for (v, sum) in sums.iter_mut().enumerate() {
                    sum.add(V::load(x.add(c + v * V::LANES)), center_v);
                }
            }
            for c in (blocks..whole).step_by(V::LANES) {
                sums[0].add(V::load(x.add(c)), center_v);
            }
            let [a, b, c, d] = sums;
            total += a.sum.add(b.sum).add(c.sum.add(d.sum)).sum();
            for c in whole..args.c {
                let d = f64::from(*x.add(c) - center);
                total += if SQUARES { d * d } else { d };
            }
        }
    }
    total
}
