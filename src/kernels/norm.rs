//! Group, instance, layer and RMS normalisation.
//!
//! A mean far from zero must cost no digits. So each chunk of rows, which the first-level cache holds, is read twice: for
//! its mean, as distance from a pivot (the first row), and for the squares about that mean. Chunks are combined in f64
//! (Chan, Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances).
//! Small problems of one group go row by row in one phase; others in three, see [`tasks`].

use super::args::NormArgs;
use super::math;
use super::simd::Simd;

/// Phases of a normalisation: sums, scales, result.
pub(super) const PHASES: usize = 3;
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
    if direct(s, c, groups) { 0 } else { n * c * (3 * s.div_ceil(CHUNK) + 3) }
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
        0 | 2 => (args.n * args.s.div_ceil(CHUNK)).div_ceil(chunk_step(args)),
        1 => (args.n * args.groups).div_ceil(group_step(args)),
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
        if phase == 1 {
            let step = group_step(args);
            for group in task * step..((task + 1) * step).min(args.n * args.groups) {
                scales(args, &scratch, group);
            }
            return;
        }
        let step = chunk_step(args);
        for chunk in task * step..((task + 1) * step).min(args.n * scratch.chunks) {
            match phase {
                0 => partial::<V>(args, &scratch, chunk),
                _ => math::by_activation!(args.activation, apply_chunk::<V>(args, &scratch, chunk)),
            }
        }
    }
}

/// Where intermediate results lie.
struct Scratch {
    chunks: usize,
    /// [n][chunks][c] each: sums of distances from the pivot; the center, and sums of squares about it.
    sums: *mut f32,
    centers: *mut f32,
    squares: *mut f32,
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
        let part = |i: usize| unsafe { args.scratch.add(i * chunks * nc) };
        // SAFETY: as above.
        let row = |i: usize| unsafe { part(3).add(i * nc) };
        let (sums, centers, squares) = (part(0), part(1), part(2));
        Scratch { chunks, sums, centers, squares, mean: row(0), scale: row(1), shift: row(2) }
    }
}

/// The rows of a chunk: image, and numbers of rows.
fn chunk_rows(args: &NormArgs, scratch: &Scratch, chunk: usize) -> (usize, core::ops::Range<usize>) {
    let first = chunk % scratch.chunks * CHUNK;
    (chunk / scratch.chunks, first..(first + CHUNK).min(args.s))
}

/// Sums of a chunk of rows per channel.
#[inline(always)]
unsafe fn partial<V: Simd>(args: &NormArgs, scratch: &Scratch, chunk: usize) {
    let mut c = 0;
    // SAFETY: channels of the chunk's rows.
    unsafe {
        while c + 2 * V::LANES <= args.c {
            partial_block::<V, 2>(args, scratch, chunk, c);
            c += 2 * V::LANES;
        }
        while c < args.c {
            partial_block::<V, 1>(args, scratch, chunk, c);
            c += V::LANES;
        }
    }
}

/// Rows whose sums are kept apart, for the CPU to add at once.
const STRANDS: usize = 4;

/// NV vectors of channels; the last one may be partial.
#[inline(always)]
unsafe fn partial_block<V: Simd, const NV: usize>(
    args: &NormArgs,
    scratch: &Scratch,
    chunk: usize,
    c: usize,
) {
    let (image, rows) = chunk_rows(args, scratch, chunk);
    let left = args.c - c;
    // SAFETY: channels from c on of the chunk's rows and of its sums.
    unsafe {
        let zero = V::splat(0.0);
        let image = args.x.offset(image as isize * args.x_image).add(c);
        let mut centers = [zero; NV];
        if args.center {
            let pivots = load::<V, NV>(image, left);
            let sums = strands::<V, false, NV>(args, image, rows.clone(), left, pivots);
            for v in 0..NV {
                let at = chunk * args.c + c + v * V::LANES;
                sums[v].store_upto(scratch.sums.add(at), left - v * V::LANES);
                centers[v] = sums[v].mul_add(V::splat(1.0 / rows.len() as f32), pivots[v]);
            }
        }
        let squares = strands::<V, true, NV>(args, image, rows, left, centers);
        for v in 0..NV {
            let at = chunk * args.c + c + v * V::LANES;
            centers[v].store_upto(scratch.centers.add(at), left - v * V::LANES);
            squares[v].store_upto(scratch.squares.add(at), left - v * V::LANES);
        }
    }
}

#[inline(always)]
unsafe fn load<V: Simd, const NV: usize>(ptr: *const f32, left: usize) -> [V; NV] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut vectors = [V::splat(0.0); NV];
        for (v, vector) in vectors.iter_mut().enumerate() {
            *vector = V::load_block::<NV>(ptr.add(v * V::LANES), left);
        }
        vectors
    }
}

/// Sums over rows of an image: of distances from the centers, or of their squares.
#[inline(always)]
unsafe fn strands<V: Simd, const SQUARES: bool, const NV: usize>(
    args: &NormArgs,
    image: *const f32,
    rows: core::ops::Range<usize>,
    left: usize,
    centers: [V; NV],
) -> [V; NV] {
    // SAFETY: the caller vouches for the rows.
    unsafe {
        let mut sums = [[Sum::<V, SQUARES>::new(V::splat(0.0)); NV]; STRANDS];
        let whole = rows.start + rows.len() / STRANDS * STRANDS;
        for row in (rows.start..whole).step_by(STRANDS) {
            for (strand, sums) in sums.iter_mut().enumerate() {
                let x = load::<V, NV>(image.offset((row + strand) as isize * args.x_row), left);
                for v in 0..NV {
                    sums[v].add(x[v], centers[v]);
                }
            }
        }
        for row in whole..rows.end {
            let x = load::<V, NV>(image.offset(row as isize * args.x_row), left);
            for v in 0..NV {
                sums[0][v].add(x[v], centers[v]);
            }
        }
        let mut total = [V::splat(0.0); NV];
        for (v, total) in total.iter_mut().enumerate() {
            let [a, b, c, d] = [sums[0][v].sum, sums[1][v].sum, sums[2][v].sum, sums[3][v].sum];
            *total = a.add(b).add(c.add(d));
        }
        total
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

/// Writes a group's means, scales and shifts.
#[inline(always)]
unsafe fn scales(args: &NormArgs, scratch: &Scratch, group: usize) {
    let (image, channels) = group_channels(args, group);
    // Rows, center, sum of distances from the pivot and of squares of one channel in one chunk.
    // SAFETY: sums of the image's chunks.
    let sums = |c: usize, chunk: usize| unsafe {
        let at = (image * scratch.chunks + chunk) * args.c + c;
        let rows = CHUNK.min(args.s - chunk * CHUNK) as f64;
        let sum = if args.center { f64::from(*scratch.sums.add(at)) } else { 0.0 };
        (rows, f64::from(*scratch.centers.add(at)), sum, f64::from(*scratch.squares.add(at)))
    };
    // SAFETY: channels of the image.
    unsafe {
        let pivot = |c: usize| f64::from(*args.x.offset(image as isize * args.x_image).add(c));
        let mut mean = 0.0;
        if args.center {
            for c in channels.clone() {
                let sum: f64 = (0..scratch.chunks).map(|chunk| sums(c, chunk).2).sum();
                mean += pivot(c) + sum / args.s as f64;
            }
            mean /= channels.len() as f64;
        }
        let mut squares = 0.0;
        for c in channels.clone() {
            for chunk in 0..scratch.chunks {
                let (rows, center, sum, about_center) = sums(c, chunk);
                if args.center {
                    // From squares about the center, which is rounded, to squares about the mean of all.
                    let own = pivot(c) + sum / rows;
                    squares -= rows * (own - center) * (own - center);
                    squares += rows * (own - mean) * (own - mean);
                }
                squares += about_center;
            }
        }
        let inverse = inverse_deviation(args, squares, args.s * channels.len());
        for c in channels {
            let at = image * args.c + c;
            let (gamma, beta) = parameters(args, c);
            *scratch.mean.add(at) = mean as f32;
            *scratch.scale.add(at) = (inverse * gamma) as f32;
            // What rounding has cut off of the mean.
            let low = mean - f64::from(mean as f32);
            *scratch.shift.add(at) = (beta - low * inverse * gamma) as f32;
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
    let (image, rows) = chunk_rows(args, scratch, chunk);
    // SAFETY: rows of x and y, and channel vectors of scratch.
    unsafe {
        let at = image * args.c;
        let (mean, scale, shift) = (scratch.mean.add(at), scratch.scale.add(at), scratch.shift.add(at));
        for row in rows {
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
