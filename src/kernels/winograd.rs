//! 3x3 convolutions of stride 1 by minimal filtering, F(4x4, 3x3): Lavin and Gray 2015, arXiv 1509.09308.
//!
//! A patch of 6x6 input pixels gives 4x4 output pixels. Transformed, both are 36 places, and each place is a product of
//! its own: patches by channels, channels by outputs. That is a quarter of the multiplications.
//!
//! The polynomials are evaluated at 0, 3/4, -3/4, 3/2, -3/2 and infinity. With the usual 0, 1, -1, 2, -2 the rounding
//! error is twice as large: relative to f64, over 64 channels of normal data, 1.7e-6 against 8.3e-7 (3.1e-7 without any
//! transform).
//!
//! A task owns strips of patches: it transforms a strip, multiplies all its places panel by panel, and transforms back,
//! within a scratch area that stays in the cache.

use super::args::{GemmArgs, Rows, WinogradArgs};
use super::gemm::{MAX_MR, Pixel, Tile, TileFns};
use super::math;
use super::simd::Simd;
use crate::kernels::args::{Activation, Patches};

/// Output pixels of a patch, in each direction.
const OUT: usize = 4;
/// Input pixels of a patch, in each direction.
const IN: usize = 6;
/// Products of a patch.
pub const PLACES: usize = IN * IN;

/// The points, and what they make of each other.
const A: f64 = 0.75;
const B: f64 = 1.5;
const AA: f64 = A * A;
const BB: f64 = B * B;

/// Bytes that a strip and its products may take, of a cache of the second level.
const CACHE: usize = 384 << 10;
/// The most scratch areas, and so tasks.
const SLOTS: usize = 16;
/// Floats between two places beyond what they need: places a power of two apart would share a few sets of the cache.
const GAP: usize = 16;
/// Patches of a strip come in multiples of this: whole tiles of the products, whose rows are 4, 6 or 12.
const UNIT: usize = 12;

/// What the nine taps of one filter become: 36 values, by place.
pub fn weights(taps: &[f64; 9]) -> [f64; PLACES] {
    let rows = |g: [f64; 3]| {
        let at = |p: f64, scale: f64| (g[0] + p * g[1] + p * p * g[2]) / scale;
        let (a, b) = (2.0 * AA * (AA - BB), 2.0 * BB * (BB - AA));
        [g[0] / (AA * BB), at(A, a), at(-A, a), at(B, b), at(-B, b), g[2]]
    };
    let columns: [[f64; IN]; 3] = core::array::from_fn(|j| rows([taps[j], taps[3 + j], taps[6 + j]]));
    let mut places = [0.0; PLACES];
    for (i, places) in places.chunks_mut(IN).enumerate() {
        places.copy_from_slice(&rows([columns[0][i], columns[1][i], columns[2][i]]));
    }
    places
}

/// How the work is split, by shape alone.
struct Split {
    /// Patches down and across, in all images.
    down: usize,
    across: usize,
    patches: usize,
    /// Patches of a strip.
    strip: usize,
    strips: usize,
    tasks: usize,
}

impl Split {
    fn new(images: usize, output: [usize; 2], k: usize, nr: usize) -> Split {
        let [down, across] = output.map(|size| size.div_ceil(OUT));
        let patches = images * down * across;
        let most = (CACHE / (PLACES * (k + nr) * size_of::<f32>()) / UNIT * UNIT).clamp(UNIT, 4 * UNIT);
        // A small image is worth several tasks all the same.
        let strip = if patches >= 4 * most { most } else { patches.div_ceil(4).next_multiple_of(4) };
        let strip = strip.clamp(4, most);
        let strips = patches.div_ceil(strip);
        Split { down, across, patches, strip, strips, tasks: strips.min(SLOTS) }
    }

    fn of(args: &GemmArgs, p: &Patches, nr: usize) -> Split {
        Split::new(args.m / (p.output[0] * p.output[1]).max(1), p.output, args.k, nr)
    }

    /// Floats between two places, in a transformed strip and in its products.
    fn steps(&self, k: usize, nr: usize) -> [usize; 2] {
        // The innermost kernel may compute rows beyond the last.
        [self.strip * k + GAP, (self.strip + MAX_MR) * nr + GAP]
    }
}

/// Floats of scratch that a convolution of `images` needs: output size, channels, and columns of a panel.
pub fn winograd_scratch(images: usize, output: [usize; 2], k: usize, nr: usize) -> usize {
    let split = Split::new(images, output, k, nr);
    split.tasks * PLACES * split.steps(k, nr).iter().sum::<usize>()
}

pub(super) fn tasks(args: &WinogradArgs, nr: usize) -> usize {
    match &args.gemm.a {
        Rows::Patches(p) if args.gemm.m > 0 && args.gemm.n > 0 => Split::of(&args.gemm, p, nr).tasks,
        _ => 0,
    }
}

/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`WinogradArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &WinogradArgs,
    task: usize,
    tiles: &TileFns<MR, NV>,
) {
    let (nr, gemm) = (NV * V::LANES, &args.gemm);
    let Rows::Patches(p) = &gemm.a else { return };
    let split = Split::of(gemm, p, nr);
    let [step, product_step] = split.steps(gemm.k, nr);
    // SAFETY: the task's own part of the scratch, see `winograd_scratch`.
    let (strip, products) = unsafe {
        let strip = args.scratch.add(task * PLACES * (step + product_step));
        (strip, strip.add(PLACES * step))
    };
    for number in (task * split.strips / split.tasks)..((task + 1) * split.strips / split.tasks) {
        let first = number * split.strip;
        let count = split.strip.min(split.patches - first);
        let corner = |patch: usize| {
            let (x, rest) = (patch % split.across, patch / split.across);
            [rest / split.down, rest % split.down * OUT, x * OUT]
        };
        for i in 0..count {
            // SAFETY: the patch is one of the image's, and patch i of the strip is within the scratch.
            unsafe { forward::<V>(p, corner(first + i), gemm.k, strip.add(i * gemm.k), step) };
        }
        for panel in 0..gemm.n.div_ceil(nr) {
            // SAFETY: strip, panel and products hold `count` patches of all places.
            unsafe {
                multiply::<V, MR, NV>(gemm, panel, count, [strip, products], [step, product_step], tiles);
                for i in 0..count {
                    backward::<V>(
                        gemm,
                        p,
                        corner(first + i),
                        products.add(i * nr),
                        product_step,
                        panel * nr,
                        nr,
                    );
                }
            }
        }
    }
}

/// The products of all places of a strip with a panel of the weights.
#[inline(always)]
unsafe fn multiply<V: Simd, const MR: usize, const NV: usize>(
    args: &GemmArgs,
    panel: usize,
    count: usize,
    [strip, products]: [*mut f32; 2],
    [step, product_step]: [usize; 2],
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let vectors = nr.min(args.n - panel * nr).div_ceil(V::LANES);
    let mut table = [[core::ptr::null(); MAX_MR]; 1];
    for place in 0..PLACES {
        // SAFETY: the place's rows of the strip, of the panel and of the products.
        unsafe {
            let b = args.b.add((panel * PLACES + place) * args.k * nr);
            for row in (0..count).step_by(MR) {
                let rows = MR.min(count - row);
                for (r, pointer) in table[0][..MR].iter_mut().enumerate() {
                    let own = row + if r < rows { r } else { 0 };
                    *pointer = strip.add(place * step + own * args.k).cast_const();
                }
                let acc = products.add(place * product_step + row * nr);
                tiles[vectors - 1][rows - 1](&Tile { table: &table, k: args.k, b, nr, acc });
            }
        }
    }
}

/// Transforms one patch: the places of its k channels, `step` apart.
#[inline(always)]
unsafe fn forward<V: Simd>(p: &Patches, [image, y, x]: [usize; 3], k: usize, to: *mut f32, step: usize) {
    let pixel = Pixel::new(p, (image * p.output[0] + y) * p.output[1] + x);
    let mut from = [p.zeros; PLACES];
    match (pixel.tap(p, 0, 0), pixel.tap(p, IN - 1, IN - 1)) {
        // With two corners all of the patch is inside.
        (Some(first), Some(_)) => {
            for (i, from) in from.iter_mut().enumerate() {
                *from = first.wrapping_offset((i / IN) as isize * p.row + (i % IN) as isize * p.pixel);
            }
        }
        _ => {
            for (i, from) in from.iter_mut().enumerate() {
                *from = pixel.tap(p, i / IN, i % IN).unwrap_or(p.zeros);
            }
        }
    }
    let whole = k / V::LANES * V::LANES;
    for c in (0..whole).step_by(V::LANES) {
        // SAFETY: k channels of each pixel, zeros or image, and k values of each place.
        unsafe { forward_channels::<V, false>(&from, c, V::LANES, to, step) };
    }
    if whole < k {
        // SAFETY: as above.
        unsafe { forward_channels::<V, true>(&from, whole, k - whole, to, step) };
    }
}

/// One vector of channels, whole or PARTIAL.
#[inline(always)]
unsafe fn forward_channels<V: Simd, const PARTIAL: bool>(
    from: &[*const f32; PLACES],
    c: usize,
    left: usize,
    to: *mut f32,
    step: usize,
) {
    // SAFETY: the caller's contract: `left` channels from c on.
    unsafe {
        let mut half = [[V::splat(0.0); IN]; IN];
        for j in 0..IN {
            let mut d = [V::splat(0.0); IN];
            for (i, d) in d.iter_mut().enumerate() {
                let from = from[i * IN + j].add(c);
                *d = if PARTIAL { V::load_first(from, left) } else { V::load(from) };
            }
            for (i, v) in into_places(d).into_iter().enumerate() {
                half[i][j] = v;
            }
        }
        for (i, row) in half.into_iter().enumerate() {
            for (j, v) in into_places(row).into_iter().enumerate() {
                let to = to.add((i * IN + j) * step + c);
                if PARTIAL {
                    v.store_first(to, left)
                } else {
                    v.store(to)
                };
            }
        }
    }
}

/// Transforms the products of a patch back, adds bias and residual, and stores the pixels that the output has.
#[inline(always)]
unsafe fn backward<V: Simd>(
    args: &GemmArgs,
    p: &Patches,
    [image, y, x]: [usize; 3],
    from: *const f32,
    step: usize,
    column: usize,
    nr: usize,
) {
    let columns = nr.min(args.n - column);
    let (rows, pixels) = (OUT.min(p.output[0] - y), OUT.min(p.output[1] - x));
    let first = (image * p.output[0] + y) * p.output[1] + x;
    // SAFETY: the first element of output row i of the patch, in C or what is laid out like it.
    let at = |i: usize, stride: isize| ((first + i * p.output[1]) as isize * stride) + column as isize;
    for v in (0..columns).step_by(V::LANES) {
        let left = columns - v;
        // SAFETY: all places of the patch; rows x pixels of C, bias and residual.
        unsafe {
            // Column by column, then row by row.
            let mut half = [[V::splat(0.0); OUT]; IN];
            for (j, column) in half.iter_mut().enumerate() {
                let mut m = [V::splat(0.0); IN];
                for (i, m) in m.iter_mut().enumerate() {
                    *m = V::load(from.add((i * IN + j) * step + v));
                }
                *column = out_of_places(m);
            }
            let bias = match args.bias.is_null() {
                true => V::splat(0.0),
                false => V::load_upto(args.bias.add(column + v), left),
            };
            for i in 0..rows {
                let mut row = [V::splat(0.0); IN];
                for (value, column) in row.iter_mut().zip(&half) {
                    *value = column[i];
                }
                let to = args.c.offset(at(i, args.c_stride)).add(v);
                for (j, sum) in out_of_places(row).into_iter().enumerate().take(pixels) {
                    let mut sum = sum.add(bias);
                    if !args.residual.is_null() {
                        let residual = args.residual.offset(at(i, args.residual_stride)).add(v);
                        let residual = residual.offset(j as isize * args.residual_stride);
                        sum = sum.add(V::load_upto(residual, left));
                    }
                    sum.store_upto(to.offset(j as isize * args.c_stride), left);
                }
            }
        }
    }
    if args.activation != Activation::None {
        for i in 0..rows {
            // SAFETY: the pixels that have just been written.
            unsafe {
                let row = args.c.offset(at(i, args.c_stride));
                math::activate::<V>(args.activation, row, pixels, columns, args.c_stride);
            }
        }
    }
}

/// Six values of the input, as seen from the six points.
#[inline(always)]
fn into_places<V: Simd>(d: [V; IN]) -> [V; IN] {
    let number = |value: f64| d[0].like(value as f32);
    let (aabb, sum) = (number(AA * BB), number(-AA - BB));
    let even_a = number(-BB).mul_add(d[2], d[4]);
    let odd_a = number(-BB).mul_add(d[1], d[3]);
    let even_b = number(-AA).mul_add(d[2], d[4]);
    let odd_b = number(-AA).mul_add(d[1], d[3]);
    [
        aabb.mul_add(d[0], sum.mul_add(d[2], d[4])),
        number(A).mul_add(odd_a, even_a),
        number(-A).mul_add(odd_a, even_a),
        number(B).mul_add(odd_b, even_b),
        number(-B).mul_add(odd_b, even_b),
        aabb.mul_add(d[1], sum.mul_add(d[3], d[5])),
    ]
}

/// Four values of the output, from the products at the six points.
#[inline(always)]
fn out_of_places<V: Simd>(m: [V; IN]) -> [V; OUT] {
    let number = |value: f64| m[0].like(value as f32);
    let (even_a, odd_a) = (m[1].add(m[2]), m[1].sub(m[2]));
    let (even_b, odd_b) = (m[3].add(m[4]), m[3].sub(m[4]));
    [
        m[0].add(even_a).add(even_b),
        number(A).mul_add(odd_a, number(B).mul(odd_b)),
        number(AA).mul_add(even_a, number(BB).mul(even_b)),
        number(A * AA).mul_add(odd_a, number(B * BB).mul_add(odd_b, m[5])),
    ]
}
