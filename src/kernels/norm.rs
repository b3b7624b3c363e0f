//! Group, instance, layer and RMS normalisation.
//!
//! A mean far from zero must cost no digits. So each chunk of rows, which the first-level cache holds, is read twice: for
//! its center, by distances of some of them from a pivot (the first row), and for distances from that center and their squares, of which
//! the first correct what rounding has left of the mean. Chunks are combined in f64
//! (Chan, Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances).
//! Small problems of one group go row by row in one phase; others in three, see [`tasks`].

use super::args::{Activation, NormArgs};
use super::math::{self, Activate};
#[cfg(target_arch = "x86_64")]
use super::simd::Gate;
use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use core::f32::consts::LOG2_E;

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

/// The activations that are applied as results are written: those that follow most normalisations. Any other goes over
/// a task's results once more, for bodies of their own would make normalisation the largest of all kernels.
fn is_fused(activation: Activation) -> bool {
    matches!(activation, Activation::None | Activation::Relu | Activation::Silu)
}

/// Calls `$f::<$v, A>($args)` for a fused activation, or for none.
macro_rules! by_fused {
    ($activation:expr, $f:ident::<$v:ty>($($arg:expr),*)) => {
        match $activation {
            Activation::Relu => $f::<$v, { Activation::Relu as u8 }>($($arg),*),
            Activation::Silu => $f::<$v, { Activation::Silu as u8 }>($($arg),*),
            _ => $f::<$v, { Activation::None as u8 }>($($arg),*),
        }
    };
}

/// The fused activation A of a vector.
#[inline(always)]
fn fused<V: Simd, const A: u8>(x: V) -> V {
    if A == Activation::Relu as u8 {
        math::relu(x)
    } else if A == Activation::Silu as u8 {
        math::silu(x)
    } else {
        x
    }
}

/// # Safety
/// The CPU has V's instruction set and that of `activate`, earlier phases have ended; the contract of [`NormArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(args: &NormArgs, phase: usize, task: usize, activate: Activate) {
    // SAFETY: the caller's contract; images, chunks and groups are within their counts.
    unsafe {
        if direct(args.s, args.c, args.groups) {
            let step = image_step(args);
            let images = task * step..((task + 1) * step).min(args.n);
            by_fused!(args.activation, direct_images::<V>(args, images.clone()));
            if !is_fused(args.activation) {
                for image in images {
                    let y = args.y.offset(image as isize * args.y_image);
                    activate(args.activation, y, args.s, args.c, args.y_row);
                }
            }
            return;
        }
        let scratch = Scratch::new(args);
        if phase == 1 {
            let step = group_step(args);
            for group in task * step..((task + 1) * step).min(args.n * args.groups) {
                scales::<V>(args, &scratch, group);
            }
            return;
        }
        let step = chunk_step(args);
        for chunk in task * step..((task + 1) * step).min(args.n * scratch.chunks) {
            if phase == 0 {
                partial::<V>(args, &scratch, chunk);
                continue;
            }
            by_fused!(args.activation, apply_chunk::<V>(args, &scratch, chunk));
            if !is_fused(args.activation) {
                let (image, rows) = chunk_rows(args, &scratch, chunk);
                let y = args.y.offset(image as isize * args.y_image + rows.start as isize * args.y_row);
                activate(args.activation, y, rows.len(), args.c, args.y_row);
            }
        }
    }
}

/// Where intermediate results lie.
struct Scratch {
    chunks: usize,
    /// [n][chunks][c] each: a center near the mean, sums of distances from it and of their squares.
    centers: *mut f32,
    sums: *mut f32,
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
        let (centers, sums, squares) = (part(0), part(1), part(2));
        Scratch { chunks, centers, sums, squares, mean: row(0), scale: row(1), shift: row(2) }
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

/// Of so many rows, one is looked at to find a center. An outlier among them moves it no farther than some deviations.
const SAMPLED: usize = 4;
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
        let image = args.x.offset(image as isize * args.x_image).add(c);
        let first = image.offset(rows.start as isize * args.x_row);
        let mut centers = [V::splat(0.0); NV];
        if args.center {
            let pivots = load::<V, NV>(image, left);
            // Near the mean is enough, and that of some rows is.
            let some = rows.len().div_ceil(SAMPLED);
            let apart = SAMPLED as isize * args.x_row;
            let sums = moments::<V, false, NV>(first, [some as isize, apart], left, pivots);
            let share = V::splat(1.0 / some as f32);
            for v in 0..NV {
                centers[v] = sums[v].sum.mul_add(share, pivots[v]);
            }
        }
        let rows = [rows.len() as isize, args.x_row];
        let moments = moments::<V, true, NV>(first, rows, left, centers);
        for v in 0..NV {
            let (at, left) = (chunk * args.c + c + v * V::LANES, left - v * V::LANES);
            centers[v].store_upto(scratch.centers.add(at), left);
            moments[v].sum.store_upto(scratch.sums.add(at), left);
            moments[v].squares.store_upto(scratch.squares.add(at), left);
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

/// Sums over so many rows, so far apart.
#[inline(always)]
unsafe fn moments<V: Simd, const SQUARES: bool, const NV: usize>(
    mut x: *const f32,
    [rows, apart]: [isize; 2],
    left: usize,
    centers: [V; NV],
) -> [Moments<V, SQUARES>; NV] {
    // SAFETY: the caller vouches for the rows.
    unsafe {
        let mut sums = [[Moments::new(V::splat(0.0)); NV]; STRANDS];
        for _ in 0..rows / STRANDS as isize {
            for sums in &mut sums {
                let values = load::<V, NV>(x, left);
                for v in 0..NV {
                    sums[v].add(values[v].sub(centers[v]));
                }
                x = x.wrapping_offset(apart);
            }
        }
        for _ in 0..rows % STRANDS as isize {
            let values = load::<V, NV>(x, left);
            for v in 0..NV {
                sums[0][v].add(values[v].sub(centers[v]));
            }
            x = x.wrapping_offset(apart);
        }
        let mut total = sums[0];
        for (v, total) in total.iter_mut().enumerate() {
            *total = Moments::joined([sums[0][v], sums[1][v], sums[2][v], sums[3][v]]);
        }
        total
    }
}

/// The sum of distances from a center, and of their squares if asked for.
#[derive(Clone, Copy)]
struct Moments<V, const SQUARES: bool> {
    sum: V,
    squares: V,
}

impl<V: Simd, const SQUARES: bool> Moments<V, SQUARES> {
    #[inline(always)]
    fn new(zero: V) -> Self {
        Moments { sum: zero, squares: zero }
    }

    #[inline(always)]
    fn add(&mut self, distance: V) {
        self.sum = self.sum.add(distance);
        if SQUARES {
            self.squares = distance.mul_add(distance, self.squares);
        }
    }

    #[inline(always)]
    fn joined([a, b, c, d]: [Self; STRANDS]) -> Self {
        Moments {
            sum: a.sum.add(b.sum).add(c.sum.add(d.sum)),
            squares: a.squares.add(b.squares).add(c.squares.add(d.squares)),
        }
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
unsafe fn scales<V: Simd>(args: &NormArgs, scratch: &Scratch, group: usize) {
    let (image, channels) = group_channels(args, group);
    let last = scratch.chunks - 1;
    let rows = [CHUNK as f64, (args.s - last * CHUNK) as f64];
    let shares = rows.map(|rows| 1.0 / rows);
    // Rows, center, distance of the mean from it, and squares about it of one channel in one chunk.
    // SAFETY: sums of the image's chunks.
    let chunk = |c: usize, chunk: usize| unsafe {
        let at = (image * scratch.chunks + chunk) * args.c + c;
        let end = usize::from(chunk == last);
        let off = if args.center { f64::from(*scratch.sums.add(at)) * shares[end] } else { 0.0 };
        (rows[end], f64::from(*scratch.centers.add(at)), off, f64::from(*scratch.squares.add(at)))
    };
    let count = args.s * channels.len();
    let mut mean = 0.0;
    if args.center {
        for c in channels.clone() {
            for i in 0..scratch.chunks {
                let (rows, center, off, _) = chunk(c, i);
                mean += rows * (center + off);
            }
        }
        mean /= count as f64;
    }
    let mut squares = 0.0;
    for c in channels.clone() {
        for i in 0..scratch.chunks {
            // From squares about the center to squares about the mean of all.
            let (rows, center, off, about_center) = chunk(c, i);
            let far = center + off - mean;
            squares += about_center + rows * (far * far - off * off);
        }
    }
    // SAFETY: channels of the image.
    unsafe {
        let inverse = f64::from(inverse_deviation::<V>(args, squares / count as f64));
        // What rounding has cut off of the mean.
        let low = mean - f64::from(mean as f32);
        for c in channels {
            let at = image * args.c + c;
            let (gamma, beta) = parameters(args, c);
            *scratch.mean.add(at) = mean as f32;
            *scratch.scale.add(at) = (inverse * gamma) as f32;
            *scratch.shift.add(at) = (beta - low * inverse * gamma) as f32;
        }
    }
}

/// 1 / sqrt(variance + epsilon).
///
/// # Safety
/// The CPU has V's instruction set.
#[inline(always)]
unsafe fn inverse_deviation<V: Simd>(args: &NormArgs, variance: f64) -> f32 {
    let variance = if variance < 0.0 { 0.0 } else { variance };
    // SAFETY: the caller's contract.
    let deviation = unsafe { V::splat((variance + f64::from(args.epsilon)) as f32) }.sqrt();
    1.0 / deviation.to_array()[0]
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

/// Rows that are written at once: what finds them, and what loads the numbers of an activation, is shared.
const AT_ONCE: usize = 4;

#[inline(always)]
unsafe fn apply_chunk<V: Simd, const A: u8>(args: &NormArgs, scratch: &Scratch, chunk: usize) {
    // SAFETY: the caller's contract.
    unsafe { apply_channels::<V, A>(args, scratch, chunk, 0) }
}

/// What channels of rows are, `v = (x - mean) * scale + shift`, times their gate, `y = v / (1 + exp(-v))`.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub(super) struct Gated {
    pub(super) rows: usize,
    pub(super) x: *const f32,
    pub(super) x_row: isize,
    pub(super) y: *mut f32,
    pub(super) y_row: isize,
    pub(super) mean: *const f32,
    pub(super) scale: *const f32,
    pub(super) shift: *const f32,
}

/// Whether [`gated`] is to do a task of a phase.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub(super) fn is_gated(args: &NormArgs, phase: usize) -> bool {
    let silu = args.half && args.activation == Activation::Silu;
    silu && phase == 2 && !direct(args.s, args.c, args.groups)
}

/// A task of the last phase, whose gates `gate` computes for vectors of V in pairs.
///
/// # Safety
/// As [`run`], and the CPU has the instruction set of `gate`.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
#[inline(always)]
pub(super) unsafe fn gated<V: Simd>(args: &NormArgs, task: usize, gate: unsafe fn(&Gated)) {
    let step = chunk_step(args);
    let pairs = args.c / (2 * V::LANES) * (2 * V::LANES);
    // SAFETY: the caller's contract; chunks and channels are within their counts.
    unsafe {
        let scratch = Scratch::new(args);
        for chunk in task * step..((task + 1) * step).min(args.n * scratch.chunks) {
            let (image, rows) = chunk_rows(args, &scratch, chunk);
            let place = |image_stride: isize, row: isize, c: usize| {
                image as isize * image_stride + rows.start as isize * row + c as isize
            };
            for c in (0..pairs).step_by(2 * V::LANES) {
                let at = image * args.c + c;
                gate(&Gated {
                    rows: rows.len(),
                    x: args.x.offset(place(args.x_image, args.x_row, c)),
                    x_row: args.x_row,
                    y: args.y.offset(place(args.y_image, args.y_row, c)),
                    y_row: args.y_row,
                    mean: scratch.mean.add(at),
                    scale: scratch.scale.add(at),
                    shift: scratch.shift.add(at),
                });
            }
            apply_channels::<V, { Activation::Silu as u8 }>(args, &scratch, chunk, pairs);
        }
    }
}

/// What of [`gated`] is left to an instruction set, by vectors that have gates.
///
/// # Safety
/// The CPU has V's instruction set; rows of x and y, means, scales and shifts have two vectors of channels.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn gate<V: Gate>(t: &Gated) {
    for c in [0, V::LANES] {
        // SAFETY: the caller's contract.
        unsafe {
            let (mean, scale, shift) =
                (V::load(t.mean.add(c)), V::load(t.scale.add(c)), V::load(t.shift.add(c)));
            let minus = scale.like(-LOG2_E);
            let (power, bias) = (scale.mul(minus), shift.mul(minus));
            let (mut x, mut y) = (t.x.add(c), t.y.add(c));
            for _ in 0..t.rows {
                let d = V::load(x).sub(mean);
                d.mul_add(scale, shift).mul(d.mul_add(power, bias).gate()).store(y);
                x = x.wrapping_offset(t.x_row);
                y = y.wrapping_offset(t.y_row);
            }
        }
    }
}

/// Writes a chunk's channels from one on.
#[inline(always)]
unsafe fn apply_channels<V: Simd, const A: u8>(
    args: &NormArgs,
    scratch: &Scratch,
    chunk: usize,
    from: usize,
) {
    let (image, rows) = chunk_rows(args, scratch, chunk);
    let whole = rows.len() / AT_ONCE * AT_ONCE;
    for c in (from..args.c).step_by(V::LANES) {
        let (at, left) = (image * args.c + c, args.c - c);
        // SAFETY: channels from c on of rows of x and y, and of what scratch has of them.
        unsafe {
            let mean = V::load_upto(scratch.mean.add(at), left);
            let scale = V::load_upto(scratch.scale.add(at), left);
            let shift = V::load_upto(scratch.shift.add(at), left);
            let x = args.x.offset(image as isize * args.x_image).add(c);
            let y = args.y.offset(image as isize * args.y_image).add(c);
            let mut first = rows.start;
            if left >= V::LANES {
                let mut x = x.offset(first as isize * args.x_row);
                let mut y = y.offset(first as isize * args.y_row);
                for _ in 0..whole / AT_ONCE {
                    let mut some = [mean; AT_ONCE];
                    for v in &mut some {
                        *v = V::load(x).sub(mean).mul_add(scale, shift);
                        x = x.wrapping_offset(args.x_row);
                    }
                    for v in &mut some {
                        *v = fused::<V, A>(*v);
                    }
                    for v in some {
                        v.store(y);
                        y = y.wrapping_offset(args.y_row);
                    }
                }
                first += whole;
            }
            for row in first..rows.end {
                let d = V::load_upto(x.offset(row as isize * args.x_row), left).sub(mean);
                let v = fused::<V, A>(d.mul_add(scale, shift));
                v.store_upto(y.offset(row as isize * args.y_row), left);
            }
        }
    }
}

/// Images of one group, each in one go.
#[inline(always)]
unsafe fn direct_images<V: Simd, const A: u8>(args: &NormArgs, images: core::ops::Range<usize>) {
    let share = 1.0 / (args.s * args.c) as f64;
    for image in images {
        // SAFETY: rows of x and y.
        unsafe {
            let x = args.x.offset(image as isize * args.x_image);
            let (mut center, mut off) = (0.0, 0.0);
            if args.center {
                center = *x + (direct_moments::<V, false>(args, x, *x)[0] * share) as f32;
            }
            let [sum, squares] = direct_moments::<V, true>(args, x, center);
            if args.center {
                off = sum * share;
            }
            let inverse = inverse_deviation::<V>(args, squares * share - off * off);
            let rest = (-off * f64::from(inverse)) as f32;
            let (center, inverse, rest) = (V::splat(center), V::splat(inverse), V::splat(rest));
            direct_apply::<V, A>(args, image, [center, inverse, rest]);
        }
    }
}

/// Writes `((x - center) * inverse + rest) * gamma + beta`.
#[inline(always)]
unsafe fn direct_apply<V: Simd, const A: u8>(args: &NormArgs, image: usize, [center, inverse, rest]: [V; 3]) {
    for row in 0..args.s {
        // SAFETY: rows of x and y.
        unsafe {
            let x = args.x.offset(image as isize * args.x_image + row as isize * args.x_row);
            let y = args.y.offset(image as isize * args.y_image + row as isize * args.y_row);
            for c in (0..args.c).step_by(V::LANES) {
                let left = args.c - c;
                let mut v = V::load_upto(x.add(c), left).sub(center).mul_add(inverse, rest);
                if !args.gamma.is_null() {
                    v = v.mul(V::load_upto(args.gamma.add(c), left));
                }
                if !args.beta.is_null() {
                    v = v.add(V::load_upto(args.beta.add(c), left));
                }
                fused::<V, A>(v).store_upto(y.add(c), left);
            }
        }
    }
}

/// Values that are added up in f32 before f64 goes on, at least a row.
const SUMMED: usize = 2048;

/// The sums over an image of the distances from a center, and of their squares.
#[inline(always)]
unsafe fn direct_moments<V: Simd, const SQUARES: bool>(
    args: &NormArgs,
    x: *const f32,
    center: f32,
) -> [f64; 2] {
    let mut total = [0.0; 2];
    let whole = args.c / V::LANES * V::LANES;
    let blocks = args.c / (STRANDS * V::LANES) * STRANDS * V::LANES;
    let step = (SUMMED / args.c).max(1);
    for first in (0..args.s).step_by(step) {
        // SAFETY: rows of x.
        unsafe {
            let (center, zero) = (V::splat(center), V::splat(0.0));
            let mut sums = [Moments::<V, SQUARES>::new(zero); STRANDS];
            for row in first..(first + step).min(args.s) {
                let x = x.offset(row as isize * args.x_row);
                for c in (0..blocks).step_by(STRANDS * V::LANES) {
                    for (v, sums) in sums.iter_mut().enumerate() {
                        sums.add(V::load(x.add(c + v * V::LANES)).sub(center));
                    }
                }
                for c in (blocks..whole).step_by(V::LANES) {
                    sums[0].add(V::load(x.add(c)).sub(center));
                }
                if whole < args.c {
                    let left = args.c - whole;
                    sums[1].add(V::load_first(x.add(whole), left).sub(center).keep(left, zero));
                }
            }
            let joined = Moments::joined(sums);
            total[0] += f64::from(joined.sum.total());
            if SQUARES {
                total[1] += f64::from(joined.squares.total());
            }
        }
    }
    total
}
