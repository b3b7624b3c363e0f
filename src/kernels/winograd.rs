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
//! within a scratch area that stays in the cache. With weights in half precision and a CPU that computes in it, strips are
//! rounded to it once they are transformed.

use super::areas::At;
use super::args::{Activation, GemmArgs, HalfArgs, Patches, Rows, WinogradArgs};
use super::cpu::Arithmetic;
use super::fixed;
use super::gemm::{self, Ahead, LINES, MAX_MR, NEAR, Pixel, Tile, TileFns};
use super::half::{self, HalfTile, HalfTileFns};
use super::math;
use super::simd::{Element, F16, MAX_LANES, Simd};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Alignment of a task's scratch, in bytes.
const ALIGNMENT: usize = 64;
/// Output pixels of a patch, in each direction.
const OUT: usize = 4;
/// Input pixels of a patch, in each direction.
pub(super) const IN: usize = 6;
/// Products of a patch.
pub const PLACES: usize = IN * IN;

/// The points, and what they make of each other.
const A: f64 = 0.75;
const B: f64 = 1.5;
const AA: f64 = A * A;
const BB: f64 = B * B;

/// Bytes that a strip and its products may take of a cache of the second level. Cores with wide vectors often share it between
/// two threads, and their tiles take as many rows as a short strip has.
const fn cache(format: Format) -> usize {
    let lanes = match format.arithmetic {
        Arithmetic::Single | Arithmetic::Fixed => format.nr,
        Arithmetic::Half => format.nr / 2,
    };
    if lanes >= 16 { 128 << 10 } else { 384 << 10 }
}

/// The most tasks, each of which may need an area of the scratch at the same time.
const MOST_TASKS: usize = 16;
/// Floats between two places beyond what they need: places a power of two apart would share a few sets of the cache.
const GAP: usize = 16;
/// Patches of a strip come in multiples of this, which tiles of 4, 6 and 8 rows divide, or share as evenly as they can.
const UNIT: usize = 12;

/// What the nine taps of one filter become: 36 values, by place.
pub fn weights(taps: &[f64; 9]) -> [f64; PLACES] {
    let rows = |g: [f64; 3]| {
        let at = |p: f64, scale: f64| (g[0] + p * g[1] + p * p * g[2]) / scale;
        let (a, b) = (2.0 * AA * (AA - BB), BB * (BB - AA));
        [g[0] / (AA * BB), at(A, a), at(-A, a), at(B, b), at(-B, b), g[2]]
    };
    let columns: [[f64; IN]; 3] = core::array::from_fn(|j| rows([taps[j], taps[3 + j], taps[6 + j]]));
    let mut places = [0.0; PLACES];
    for (i, places) in places.chunks_mut(IN).enumerate() {
        places.copy_from_slice(&rows([columns[0][i], columns[1][i], columns[2][i]]));
    }
    places
}

/// What a strip and its products consist of.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What strips are multiplied in.
    pub arithmetic: Arithmetic,
    /// Columns of a panel.
    pub nr: usize,
}

impl Format {
    /// Bytes of an element of a transformed strip.
    const fn element(self) -> usize {
        match self.arithmetic {
            Arithmetic::Single => size_of::<f32>(),
            Arithmetic::Half | Arithmetic::Fixed => size_of::<F16>(),
        }
    }

    /// Elements of a row of a transformed strip.
    fn row(self, k: usize) -> usize {
        match self.arithmetic {
            Arithmetic::Single | Arithmetic::Half => k,
            Arithmetic::Fixed => fixed::row(k),
        }
    }
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
    fn new(images: usize, output: [usize; 2], k: usize, format: Format) -> Split {
        let [down, across] = output.map(|size| size.div_ceil(OUT));
        let patches = images * down * across;
        let patch = PLACES * (format.row(k) * format.element() + format.nr * size_of::<f32>());
        let most = (cache(format) / patch / UNIT * UNIT).clamp(UNIT, 4 * UNIT);
        // A small image is worth several tasks all the same.
        let strip = if patches >= 4 * most { most } else { patches.div_ceil(4).next_multiple_of(4) };
        let strip = strip.clamp(4, most);
        let strips = patches.div_ceil(strip);
        Split { down, across, patches, strip, strips, tasks: strips.min(MOST_TASKS) }
    }

    fn of(args: &GemmArgs, p: &Patches, format: Format) -> Split {
        Split::new(args.m / (p.output[0] * p.output[1]).max(1), p.output, args.k, format)
    }

    /// Elements between two places, in a transformed strip and in its products.
    fn steps(&self, k: usize, format: Format) -> [usize; 2] {
        // The innermost kernel may compute rows beyond the last.
        [self.strip * format.row(k) + GAP, (self.strip + MAX_MR) * format.nr + GAP]
    }

    /// Bytes of a task's transformed strip, and of its products.
    fn bytes(&self, k: usize, format: Format) -> [usize; 2] {
        let [step, product_step] = self.steps(k, format);
        let strip = (PLACES * step * format.element()).next_multiple_of(ALIGNMENT);
        [strip, (PLACES * product_step * size_of::<f32>()).next_multiple_of(ALIGNMENT)]
    }
}

/// Floats of scratch that a convolution of `images` needs: output size and channels.
pub fn winograd_scratch(images: usize, output: [usize; 2], k: usize, format: Format) -> usize {
    let split = Split::new(images, output, k, format);
    split.tasks * split.bytes(k, format).iter().sum::<usize>() / size_of::<f32>()
}

pub(super) fn tasks(args: &GemmArgs, format: Format) -> usize {
    match &args.a {
        Rows::Patches(p) if args.m > 0 && args.n > 0 => Split::of(args, p, format).tasks,
        _ => 0,
    }
}

/// With f32 weights.
///
/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`WinogradArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &WinogradArgs<GemmArgs>,
    at: At,
    tiles: &TileFns<MR, NV>,
) {
    let places = Single::<V, f32, MR, NV> { b: args.product.b, tiles, lanes: PhantomData };
    let ends = Ends { scale: core::ptr::null(), unscale: core::ptr::null(), scratch: args.scratch };
    // SAFETY: the caller's contract.
    unsafe { strips::<V, _>(&args.product, &places, &ends, at) }
}

/// With weights in half precision, widened.
///
/// # Safety
/// As [`run`].
#[inline(always)]
pub(super) unsafe fn wide<V: Simd, const MR: usize, const NV: usize>(
    args: &WinogradArgs<HalfArgs>,
    at: At,
    tiles: &TileFns<MR, NV, F16>,
) {
    let HalfArgs { gemm, b, unscale, .. } = args.product;
    let places = Single::<V, F16, MR, NV> { b, tiles, lanes: PhantomData };
    let ends = Ends { scale: core::ptr::null(), unscale, scratch: args.scratch };
    // SAFETY: the caller's contract.
    unsafe { strips::<V, _>(&gemm, &places, &ends, at) }
}

/// What is transformed in half precision.
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "none but ARM's kernels read it"))]
pub(super) struct HalfForward<'a> {
    /// The patch's pixels.
    pub(super) from: &'a [*const f32; PLACES],
    /// So many channels, whole vectors in half precision.
    pub(super) count: usize,
    /// What channels are multiplied by, or null.
    pub(super) scale: *const f32,
    /// The first place, and how far the others are apart.
    pub(super) to: *mut F16,
    pub(super) step: usize,
}

/// A transform in half precision, as [`into_places`].
pub(super) type HalfForwardFn = unsafe fn(&HalfForward);

/// In half precision.
///
/// # Safety
/// As [`run`], and the CPU has the instruction set of the tiles and of `forward`.
#[inline(always)]
pub(super) unsafe fn native<V: Simd, const MR: usize, const NV: usize>(
    args: &WinogradArgs<HalfArgs>,
    at: At,
    tiles: &HalfTileFns<MR, NV>,
    forward: Option<HalfForwardFn>,
) {
    let HalfArgs { gemm, b, scale, unscale, stretch } = args.product;
    let places = Double::<V, MR, NV> { b, stretch: stretch.max(1), tiles, forward, lanes: PhantomData };
    let ends = Ends { scale, unscale, scratch: args.scratch };
    // SAFETY: the caller's contract.
    unsafe { strips::<V, _>(&gemm, &places, &ends, at) }
}

/// In fixed point.
///
/// # Safety
/// As [`run`], and the CPU has the instruction set of the tiles; k is even.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn fixed<V: Simd, const MR: usize, const NV: usize>(
    args: &WinogradArgs<HalfArgs>,
    at: At,
    tiles: &fixed::Tiles<MR, NV>,
) {
    let HalfArgs { gemm, b, scale, unscale, .. } = args.product;
    let places = Fixed::<V, MR, NV> { b, tiles, lanes: PhantomData };
    let ends = Ends { scale, unscale, scratch: args.scratch };
    // SAFETY: the caller's contract.
    unsafe { strips::<V, _>(&gemm, &places, &ends, at) }
}

/// What else a convolution is given: see [`HalfArgs`], and its scratch.
struct Ends {
    scale: *const f32,
    unscale: *const f32,
    scratch: *mut f32,
}

/// The products of the places of a strip with the weights.
trait Places {
    /// Elements of a transformed strip.
    type Element: Element;
    const FORMAT: Format;
    const MR: usize;

    /// Transforms the first channels of a patch, all or none, and says how many. As [`forward`] otherwise.
    ///
    /// # Safety
    /// As that.
    #[inline(always)]
    unsafe fn forward(
        &self,
        _from: &[*const f32; PLACES],
        _k: usize,
        _scale: *const f32,
        _to: *mut Self::Element,
        _step: usize,
    ) -> usize {
        0
    }

    /// `acc[r] = a[r] B` for rows r of one place, one after the other, at panel times place of B, at most so many at once.
    ///
    /// # Safety
    /// The CPU has the instruction set; rows at once are up to MR, and all of their memory is there.
    unsafe fn multiply(
        &self,
        a: *const Self::Element,
        rows: [usize; 2],
        k: usize,
        at: usize,
        columns: usize,
        acc: *mut f32,
    );
}

/// Strips in f32.
struct Single<'a, V, B: 'static, const MR: usize, const NV: usize> {
    b: *const B,
    tiles: &'a TileFns<MR, NV, B>,
    lanes: PhantomData<V>,
}

impl<V: Simd, B, const MR: usize, const NV: usize> Places for Single<'_, V, B, MR, NV> {
    type Element = f32;
    const FORMAT: Format = Format { arithmetic: Arithmetic::Single, nr: NV * V::LANES };
    const MR: usize = MR;

    #[inline(always)]
    unsafe fn multiply(
        &self,
        a: *const f32,
        [rows, most]: [usize; 2],
        k: usize,
        at: usize,
        columns: usize,
        acc: *mut f32,
    ) {
        let nr = Self::FORMAT.nr;
        let mut table = [[core::ptr::null(); MAX_MR]; 1];
        for row in (0..rows).step_by(most) {
            let rows = most.min(rows - row);
            for (r, pointer) in table[0][..MR].iter_mut().enumerate() {
                *pointer = a.wrapping_add((row + if r < rows { r } else { 0 }) * k);
            }
            // SAFETY: the caller's contract.
            unsafe {
                let (b, acc) = (self.b.add(at * k * nr), acc.add(row * nr));
                let ahead = Ahead::of(b, nr * size_of::<B>());
                self.tiles[columns.div_ceil(V::LANES) - 1][rows - 1](&Tile {
                    table: &table,
                    k,
                    b,
                    acc,
                    ahead,
                });
            }
        }
    }
}

/// Strips in half precision.
struct Double<'a, V, const MR: usize, const NV: usize> {
    b: *const F16,
    stretch: usize,
    tiles: &'a HalfTileFns<MR, NV>,
    forward: Option<HalfForwardFn>,
    lanes: PhantomData<V>,
}

impl<V: Simd, const MR: usize, const NV: usize> Places for Double<'_, V, MR, NV> {
    type Element = F16;
    const FORMAT: Format = Format { arithmetic: Arithmetic::Half, nr: 2 * NV * V::LANES };
    const MR: usize = MR;

    #[inline(always)]
    unsafe fn forward(
        &self,
        from: &[*const f32; PLACES],
        k: usize,
        scale: *const f32,
        to: *mut F16,
        step: usize,
    ) -> usize {
        let Some(forward) = self.forward else { return 0 };
        let count = k / (2 * V::LANES) * (2 * V::LANES);
        // SAFETY: the caller's contract.
        unsafe { forward(&HalfForward { from, count, scale, to, step }) };
        count
    }

    #[inline(always)]
    unsafe fn multiply(
        &self,
        a: *const F16,
        [rows, most]: [usize; 2],
        k: usize,
        at: usize,
        columns: usize,
        acc: *mut f32,
    ) {
        let nr = Self::FORMAT.nr;
        let stretch = half::stretch(k, self.stretch);
        let mut row = 0;
        while row < rows {
            let at_once = most.min(rows - row);
            let tiles = if V::BY_LANE { (rows - row) / at_once } else { 1 };
            // SAFETY: the caller's contract.
            unsafe {
                let b = self.b.add(at * k * nr);
                let ahead = Ahead::of(b, nr * size_of::<F16>() / tiles);
                let (a, acc) = (a.add(row * k), acc.add(row * nr));
                let tile = HalfTile { a, stride: k, tiles, k, stretch, b, acc, ahead };
                self.tiles[columns.div_ceil(2 * V::LANES) - 1][at_once - 1](&tile);
            }
            row += tiles * at_once;
        }
    }
}

/// Strips in fixed point.
#[cfg(target_arch = "x86_64")]
struct Fixed<'a, V, const MR: usize, const NV: usize> {
    b: *const F16,
    tiles: &'a fixed::Tiles<MR, NV>,
    lanes: PhantomData<V>,
}

#[cfg(target_arch = "x86_64")]
impl<V: Simd, const MR: usize, const NV: usize> Places for Fixed<'_, V, MR, NV> {
    type Element = F16;
    const FORMAT: Format = Format { arithmetic: Arithmetic::Fixed, nr: NV * V::LANES };
    const MR: usize = MR;

    /// Block by block: a place's unit is that of all channels of the block.
    #[inline(always)]
    unsafe fn forward(
        &self,
        from: &[*const f32; PLACES],
        k: usize,
        scale: *const f32,
        to: *mut F16,
        step: usize,
    ) -> usize {
        let stretch = fixed::stretch(k);
        for block in 0..fixed::blocks(k) {
            let first = block * stretch;
            // SAFETY: the caller's contract, and a row has room for its units.
            unsafe {
                let (to, unit) = (to.add(first), to.add(k + block * fixed::UNIT));
                let count = stretch.min(k - first);
                (self.tiles.forward)(&fixed::Forward { from, first, count, scale, to, unit, step });
            }
        }
        k
    }

    #[inline(always)]
    unsafe fn multiply(
        &self,
        a: *const F16,
        [rows, most]: [usize; 2],
        k: usize,
        at: usize,
        columns: usize,
        acc: *mut f32,
    ) {
        let (nr, stride) = (Self::FORMAT.nr, fixed::row(k));
        for row in (0..rows).step_by(most) {
            // SAFETY: the caller's contract.
            unsafe {
                let b = self.b.add(at * k * nr);
                let ahead = Ahead::of(b, nr * size_of::<F16>());
                let (a, acc) = (a.add(row * stride), acc.add(row * nr));
                let tile = HalfTile { a, stride, tiles: 1, k, stretch: fixed::stretch(k), b, acc, ahead };
                self.tiles.tiles[columns.div_ceil(V::LANES) - 1][most.min(rows - row) - 1](&tile);
            }
        }
    }
}

/// The strips of a task: transformed, multiplied, transformed back.
#[inline(always)]
unsafe fn strips<V: Simd, P: Places>(gemm: &GemmArgs, places: &P, ends: &Ends, At { task, area }: At) {
    let Rows::Patches(p) = &gemm.a else { return };
    let (nr, split) = (P::FORMAT.nr, Split::of(gemm, p, P::FORMAT));
    let (row, [step, product_step]) = (P::FORMAT.row(gemm.k), split.steps(gemm.k, P::FORMAT));
    let [strip_bytes, product_bytes] = split.bytes(gemm.k, P::FORMAT);
    // SAFETY: the task's own area of the scratch, see `winograd_scratch`.
    let (strip, products) = unsafe {
        let own = ends.scratch.byte_add(area * (strip_bytes + product_bytes));
        (own.cast::<P::Element>(), own.byte_add(strip_bytes))
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
            unsafe {
                let to = strip.add(i * row);
                forward::<V, P>(places, p, corner(first + i), [gemm.k, step], ends.scale, to);
            }
        }
        // As many rows to a tile as there are to another.
        let most = gemm::even(count, P::MR, 1);
        let far = !V::BY_LANE && p.output[0] * p.output[1] * gemm.n > NEAR;
        for panel in 0..gemm.n.div_ceil(nr) {
            let columns = nr.min(gemm.n - panel * nr);
            // SAFETY: strip, panel and products hold `count` patches of all places.
            unsafe {
                let mut next = 0;
                for place in 0..PLACES {
                    let (a, acc) = (strip.add(place * step), products.add(place * product_step));
                    places.multiply(a, [count, most], gemm.k, panel * PLACES + place, columns, acc);
                    while far && panel * nr % LINES == 0 && next * PLACES < (place + 1) * count {
                        fetch_pixels::<V>(gemm, p, corner(first + next), panel * nr);
                        next += 1;
                    }
                }
                for i in 0..count {
                    let from = products.add(i * nr);
                    let corner = corner(first + i);
                    backward::<V>(gemm, ends.unscale, p, corner, from, product_step, [panel * nr, columns]);
                }
            }
        }
    }
}

/// Transforms one patch: the places of its k channels, times their scales if there are any, `step` apart.
#[inline(always)]
unsafe fn forward<V: Simd, P: Places>(
    places: &P,
    p: &Patches,
    corner: [usize; 3],
    [k, step]: [usize; 2],
    scale: *const f32,
    to: *mut P::Element,
) {
    let pixel = Pixel::at(p, corner);
    let mut from = [p.zeros; PLACES];
    match (pixel.tap(p, 0, 0), pixel.tap(p, IN - 1, IN - 1)) {
        // With two corners all of the patch is inside.
        (Some(first), Some(_)) => {
            let mut row = first;
            for from in from.chunks_exact_mut(IN) {
                let mut pixel = row;
                for from in from {
                    *from = pixel;
                    pixel = pixel.wrapping_offset(p.pixel);
                }
                row = row.wrapping_offset(p.row);
            }
            if p.input[0] * p.input[1] * k > NEAR {
                fetch_next::<V>(p, &from, k);
            }
        }
        _ => {
            for (i, from) in from.iter_mut().enumerate() {
                *from = pixel.tap(p, i / IN, i % IN).unwrap_or(p.zeros);
            }
        }
    }
    // SAFETY: the caller's contract.
    let done = unsafe { places.forward(&from, k, scale, to, step) };
    // Two vectors share what finds a pixel and a place, where a core issues few instructions at a time.
    let pairs = if V::BY_LANE { done.max(k / (2 * V::LANES) * (2 * V::LANES)) } else { done };
    // SAFETY: the caller's contract: k channels of each pixel, zeros or image, and k values of each place.
    unsafe {
        let numbers = Numbers::<V>::load();
        for c in (done..pairs).step_by(2 * V::LANES) {
            forward_channels::<V, P::Element, 2, false>(
                &numbers,
                &from,
                [c, V::LANES],
                scale,
                to.add(c),
                step,
            );
        }
        let rest = [pairs, k - pairs];
        forward_singles::<V, P::Element>(&numbers, &from, rest, scale, to.add(pairs), step);
    }
}

/// Asks for the pixels of the next patch that this one has not: it takes short pieces of six rows, too short for hardware to see
/// what comes next.
#[inline(always)]
fn fetch_next<V: Simd>(p: &Patches, from: &[*const f32; PLACES], k: usize) {
    for row in from.chunks_exact(IN) {
        for pixel in &row[IN - OUT..] {
            for line in (0..k).step_by(LINES) {
                V::prefetch(pixel.wrapping_offset(OUT as isize * p.pixel).wrapping_add(line).cast());
            }
        }
    }
}

/// Asks for the pixels of a patch of the output, and of the residual, while products keep the CPU busy: they are as short pieces,
/// and a line that is written has to be read first.
#[inline(always)]
fn fetch_pixels<V: Simd>(args: &GemmArgs, p: &Patches, corner: [usize; 3], column: usize) {
    let (c, residual) = Patch::of(args, p, corner, column);
    for patch in [Some(c), residual].into_iter().flatten() {
        for i in 0..OUT {
            for j in 0..OUT {
                V::prefetch(patch.pixel(i, j).cast_const().cast());
            }
        }
    }
}

/// The places of a patch, `step` apart, in so many channels of its pixels from the first on.
///
/// # Safety
/// The CPU has V's instruction set; `from` has these channels of each pixel, `scale` too unless it is null, and `to` has room.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn transform<V: Simd>(
    from: &[*const f32; PLACES],
    channels: [usize; 2],
    scale: *const f32,
    to: *mut f32,
    step: usize,
) {
    // SAFETY: the caller's contract.
    unsafe { forward_singles(&Numbers::<V>::load(), from, channels, scale, to, step) }
}

/// So many channels from the first on, a vector at a time.
#[inline(always)]
unsafe fn forward_singles<V: Simd, E: Element>(
    numbers: &Numbers<V>,
    from: &[*const f32; PLACES],
    [first, count]: [usize; 2],
    scale: *const f32,
    to: *mut E,
    step: usize,
) {
    let whole = count / V::LANES * V::LANES;
    // SAFETY: the caller's contract, as for `forward_channels`.
    unsafe {
        for c in (0..whole).step_by(V::LANES) {
            forward_single::<V, E, false>(numbers, from, [first + c, V::LANES], scale, to.add(c), step);
        }
        if whole < count {
            let at = [first + whole, count - whole];
            forward_single::<V, E, true>(numbers, from, at, scale, to.add(whole), step);
        }
    }
}

/// One vector.
#[inline(always)]
unsafe fn forward_single<V: Simd, E: Element, const PARTIAL: bool>(
    numbers: &Numbers<V>,
    from: &[*const f32; PLACES],
    at: [usize; 2],
    scale: *const f32,
    to: *mut E,
    step: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if V::FEW_REGISTERS {
            forward_rows::<V, E, 0, PARTIAL>(from, at, scale, to, step);
            forward_rows::<V, E, 1, PARTIAL>(from, at, scale, to, step);
            forward_rows::<V, E, 2, PARTIAL>(from, at, scale, to, step);
        } else {
            forward_channels::<V, E, 1, PARTIAL>(numbers, from, at, scale, to, step);
        }
    }
}

#[inline(always)]
unsafe fn load<V: Simd, const PARTIAL: bool>(from: *const f32, left: usize) -> V {
    // SAFETY: the caller vouches for a vector, or `left` values if it is PARTIAL.
    unsafe { if PARTIAL { V::load_first(from, left) } else { V::load(from) } }
}

#[inline(always)]
unsafe fn store<V: Simd, E: Element, const PARTIAL: bool>(vector: V, to: *mut E, left: usize) {
    // SAFETY: the caller vouches for a vector, or `left` values if it is PARTIAL.
    unsafe { if PARTIAL { E::store_first(vector, to, left) } else { E::store(vector, to) } }
}

/// N vectors of channels from c on, whole or PARTIAL.
#[inline(always)]
unsafe fn forward_channels<V: Simd, E: Element, const N: usize, const PARTIAL: bool>(
    numbers: &Numbers<V>,
    from: &[*const f32; PLACES],
    [c, left]: [usize; 2],
    scale: *const f32,
    mut to: *mut E,
    step: usize,
) {
    let mut half = MaybeUninit::<[[[V; N]; IN]; IN]>::uninit();
    let half = in_memory::<V, _>(half.as_mut_ptr()).cast::<[[V; N]; IN]>();
    // SAFETY: the caller's contract: `left` channels from c on; columns fill all of `half`.
    unsafe {
        let mut scales = [V::splat(1.0); N];
        if !scale.is_null() {
            for (n, scales) in scales.iter_mut().enumerate() {
                *scales = load::<V, PARTIAL>(scale.add(c + n * V::LANES), left);
            }
        }
        for j in 0..IN {
            let mut columns = [[V::splat(0.0); IN]; N];
            for i in 0..IN {
                let from = from[i * IN + j].add(c);
                for (n, column) in columns.iter_mut().enumerate() {
                    column[i] = load::<V, PARTIAL>(from.add(n * V::LANES), left);
                    if !scale.is_null() {
                        column[i] = column[i].mul(scales[n]);
                    }
                }
            }
            for (n, column) in columns.into_iter().enumerate() {
                for (i, v) in into_places(numbers, column).into_iter().enumerate() {
                    (*half.add(i))[j][n] = v;
                }
            }
        }
        for i in 0..IN {
            let mut places = [[V::splat(0.0); IN]; N];
            for (n, places) in places.iter_mut().enumerate() {
                let mut row = [V::splat(0.0); IN];
                for (j, value) in row.iter_mut().enumerate() {
                    *value = (*half.add(i))[j][n];
                }
                *places = into_places(numbers, row);
            }
            for j in 0..IN {
                for (n, places) in places.iter().enumerate() {
                    store::<V, E, PARTIAL>(places[j], to.add(n * V::LANES), left);
                }
                to = to.wrapping_add(step);
            }
        }
    }
}

/// A vector of channels from c on, two rows of places at a time: as many as there are registers for.
#[inline(always)]
unsafe fn forward_rows<V: Simd, E: Element, const PAIR: usize, const PARTIAL: bool>(
    from: &[*const f32; PLACES],
    [c, left]: [usize; 2],
    scale: *const f32,
    to: *mut E,
    step: usize,
) {
    // SAFETY: the caller's contract: `left` channels from c on, and room for as many of each place.
    unsafe {
        let mut rows = [[V::splat(0.0); IN]; 2];
        for j in 0..IN {
            let mut column = [V::splat(0.0); IN];
            for (i, value) in column.iter_mut().enumerate() {
                *value = load::<V, PARTIAL>(from[i * IN + j].add(c), left);
            }
            [rows[0][j], rows[1][j]] = into_pair::<V, PAIR>(column);
        }
        if !scale.is_null() {
            let scale = load::<V, PARTIAL>(scale.add(c), left);
            for value in rows.as_flattened_mut() {
                *value = value.mul(scale);
            }
        }
        for (row, i) in rows.into_iter().zip(PAIRS[PAIR]) {
            let places = [into_pair::<V, 0>(row), into_pair::<V, 1>(row), into_pair::<V, 2>(row)];
            for (pair, places) in PAIRS.iter().zip(places) {
                for (j, place) in pair.iter().zip(places) {
                    store::<V, E, PARTIAL>(place, to.wrapping_add((i * IN + j) * step), left);
                }
            }
        }
    }
}

/// Transforms the products of a patch back, adds bias and residual, and stores the pixels that the output has.
#[inline(always)]
unsafe fn backward<V: Simd>(
    args: &GemmArgs,
    unscale: *const f32,
    p: &Patches,
    corner: [usize; 3],
    from: *const f32,
    step: usize,
    [column, columns]: [usize; 2],
) {
    let [_, y, x] = corner;
    let size = [OUT.min(p.output[0] - y), OUT.min(p.output[1] - x)];
    let (c, residual) = Patch::of(args, p, corner, column);
    // What asks for each pixel whether it is there takes longer than what is done with it; where a core issues few
    // instructions at a time, so does what finds it, which two vectors share.
    let lanes = if size == [OUT; 2] { V::LANES } else { usize::MAX };
    let mut v = 0;
    while v < columns {
        let left = columns - v;
        // SAFETY: all places of the patch; rows x pixels of C, bias and residual.
        unsafe {
            let from = from.add(v);
            let (c, residual) = (c.at(v), residual.as_ref().map(|residual| residual.at(v)));
            let ends = [unscale, args.bias]
                .map(|values| if values.is_null() { values } else { values.wrapping_add(column + v) });
            if V::BY_LANE && left / 2 >= lanes {
                backward_vectors::<V, 2, true>(from, step, ends, residual, &c, size, left);
                v += V::LANES;
            } else if left >= lanes {
                backward_vectors::<V, 1, true>(from, step, ends, residual, &c, size, left);
            } else {
                backward_vectors::<V, 1, false>(from, step, ends, residual, &c, size, left);
            }
        }
        v += V::LANES;
    }
    if args.activation != Activation::None {
        for i in 0..size[0] {
            // SAFETY: the pixels that have just been written.
            unsafe {
                math::activate::<V>(args.activation, c.pixel(i, 0), size[1], columns, args.c_stride);
            }
        }
    }
}

/// The pixels of a patch.
struct Patch {
    ptr: *mut f32,
    row: isize,
    pixel: isize,
}

impl Patch {
    /// Of C, and of the residual if there is one, from a column on.
    #[inline(always)]
    fn of(args: &GemmArgs, p: &Patches, [image, y, x]: [usize; 3], column: usize) -> (Patch, Option<Patch>) {
        let first = (image * p.output[0] + y) * p.output[1] + x;
        let patch = |ptr: *mut f32, stride: isize| {
            let at = (first as isize * stride) + column as isize;
            Patch { ptr: ptr.wrapping_offset(at), row: p.output[1] as isize * stride, pixel: stride }
        };
        let residual =
            (!args.residual.is_null()).then(|| patch(args.residual.cast_mut(), args.residual_stride));
        (patch(args.c, args.c_stride), residual)
    }

    /// From another channel on.
    fn at(&self, channel: usize) -> Patch {
        Patch { ptr: self.ptr.wrapping_add(channel), ..*self }
    }

    fn pixel(&self, i: usize, j: usize) -> *mut f32 {
        self.ptr.wrapping_offset(i as isize * self.row + j as isize * self.pixel)
    }
}

/// N vectors of columns: WHOLE ones of all pixels, or what there is.
#[inline(always)]
unsafe fn backward_vectors<V: Simd, const N: usize, const WHOLE: bool>(
    from: *const f32,
    step: usize,
    [unscale, bias]: [*const f32; 2],
    residual: Option<Patch>,
    c: &Patch,
    size: [usize; 2],
    left: usize,
) {
    // SAFETY: the caller vouches for the places, and so many pixels; columns fill all of `half`.
    unsafe {
        let (mut scales, mut shifts) = ([V::splat(1.0); N], [V::splat(0.0); N]);
        for n in 0..N {
            scales[n] = value_or(unscale, n * V::LANES, left, 1.0);
            shifts[n] = value_or(bias, n * V::LANES, left, 0.0);
        }
        let ends = [scales, shifts];
        if V::FEW_REGISTERS {
            backward_rows::<V, N, 0, WHOLE>(from, step, &ends, &residual, c, size, left);
            backward_rows::<V, N, 1, WHOLE>(from, step, &ends, &residual, c, size, left);
            return;
        }
        let mut half = MaybeUninit::<[[[V; N]; IN]; OUT]>::uninit();
        let half = in_memory::<V, _>(half.as_mut_ptr()).cast::<[[V; N]; IN]>();
        // Column by column, then row by row.
        for j in 0..IN {
            let mut columns = [[V::splat(0.0); IN]; N];
            for i in 0..IN {
                let from = from.add((i * IN + j) * step);
                for (n, column) in columns.iter_mut().enumerate() {
                    column[i] = V::load(from.add(n * V::LANES));
                }
            }
            for (n, column) in columns.into_iter().enumerate() {
                let [even, odd] = [out_pair::<V, 0>(column), out_pair::<V, 1>(column)];
                for (i, v) in [even[0], odd[0], even[1], odd[1]].into_iter().enumerate() {
                    (*half.add(i))[j][n] = v;
                }
            }
        }
        for i in 0..OUT {
            let mut row = [[V::splat(0.0); IN]; N];
            for (n, row) in row.iter_mut().enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    *value = (*half.add(i))[j][n];
                }
            }
            pixels::<V, N, WHOLE>(&row, i, &ends, &residual, c, size, left);
        }
    }
}

/// The even rows of pixels, or the odd ones: as many as there are registers for.
#[inline(always)]
unsafe fn backward_rows<V: Simd, const N: usize, const ODD: usize, const WHOLE: bool>(
    from: *const f32,
    step: usize,
    ends: &[[V; N]; 2],
    residual: &Option<Patch>,
    c: &Patch,
    size: [usize; 2],
    left: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let [mut first, mut second] = [[[V::splat(0.0); IN]; N]; 2];
        for (n, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
            for (j, (first, second)) in first.iter_mut().zip(second).enumerate() {
                let mut column = [V::splat(0.0); IN];
                for (i, value) in column.iter_mut().enumerate() {
                    *value = V::load(from.add((i * IN + j) * step + n * V::LANES));
                }
                [*first, *second] = out_pair::<V, ODD>(column);
            }
        }
        pixels::<V, N, WHOLE>(&first, ODD, ends, residual, c, size, left);
        pixels::<V, N, WHOLE>(&second, ODD + 2, ends, residual, c, size, left);
    }
}

/// Row i of pixels, of the sums of its columns: scaled and shifted, and with the residual.
#[inline(always)]
unsafe fn pixels<V: Simd, const N: usize, const WHOLE: bool>(
    row: &[[V; IN]; N],
    i: usize,
    [scales, shifts]: &[[V; N]; 2],
    residual: &Option<Patch>,
    c: &Patch,
    [rows, pixels]: [usize; 2],
    left: usize,
) {
    if !WHOLE && i >= rows {
        return;
    }
    // SAFETY: the caller vouches for the pixels that there are.
    unsafe {
        let mut sums = [[V::splat(0.0); OUT]; N];
        for (n, sums) in sums.iter_mut().enumerate() {
            let [even, odd] = [out_pair::<V, 0>(row[n]), out_pair::<V, 1>(row[n])];
            *sums = [even[0], odd[0], even[1], odd[1]];
            for sum in sums {
                *sum = sum.mul_add(scales[n], shifts[n]);
            }
        }
        if let Some(residual) = residual {
            for j in 0..OUT {
                for (n, sums) in sums.iter_mut().enumerate() {
                    let pixel = residual.pixel(i, j).wrapping_add(n * V::LANES);
                    if WHOLE {
                        sums[j] = sums[j].add(V::load(pixel));
                    } else if j < pixels {
                        sums[j] = sums[j].add(V::load_upto(pixel, left));
                    }
                }
            }
        }
        for j in 0..OUT {
            for (n, sums) in sums.iter().enumerate() {
                let pixel = c.pixel(i, j).wrapping_add(n * V::LANES);
                if WHOLE {
                    sums[j].store(pixel);
                } else if j < pixels {
                    sums[j].store_upto(pixel, left);
                }
            }
        }
    }
}

/// The same pointer. Where two vectors go together, what it points to is more than registers hold, and a compiler that could keep
/// a part of it there would spill and reload it in the midst of the arithmetic.
#[inline(always)]
fn in_memory<V: Simd, T>(ptr: *mut T) -> *mut T {
    if V::BY_LANE { core::hint::black_box(ptr) } else { ptr }
}

/// A vector of optional values, one a column.
#[inline(always)]
unsafe fn value_or<V: Simd>(values: *const f32, column: usize, left: usize, default: f32) -> V {
    // SAFETY: the caller vouches for `left` values from this column on, if there are any.
    unsafe { if values.is_null() { V::splat(default) } else { V::load_upto(values.add(column), left) } }
}

/// What values of the input are multiplied by. The first four lanes of a vector, since instructions may take a factor
/// from one: so many vectors of equal factors would leave no registers for anything else.
pub(super) const NUMBERS: [[f32; MAX_LANES]; 2] = {
    let mut numbers = [[0.0; MAX_LANES]; 2];
    let all = [[AA * BB, -AA - BB, -BB, -AA], [A, -A, B, -B]];
    let mut i = 0;
    while i < 8 {
        numbers[i / 4][i % 4] = all[i / 4][i % 4] as f32;
        i += 1;
    }
    numbers
};

/// [`NUMBERS`] in registers.
struct Numbers<V>([V; 2]);

impl<V: Simd> Numbers<V> {
    /// # Safety
    /// The CPU has V's instruction set.
    #[inline(always)]
    unsafe fn load() -> Self {
        // A compiler that knew the values would make each factor a vector of its own again.
        let numbers = core::hint::black_box(&NUMBERS);
        // SAFETY: the caller's contract; a vector has no more than MAX_LANES.
        unsafe { Numbers([V::load(numbers[0].as_ptr()), V::load(numbers[1].as_ptr())]) }
    }

    /// A number times `b`, plus `c`.
    #[inline(always)]
    fn mul_add<const I: usize, const LANE: i32>(&self, b: V, c: V) -> V {
        if V::BY_LANE {
            self.0[I].mul_add_lane::<LANE>(b, c)
        } else {
            b.like(NUMBERS[I][LANE as usize]).mul_add(b, c)
        }
    }
}

/// Six values of the input, as seen from the six points.
#[inline(always)]
fn into_places<V: Simd>(numbers: &Numbers<V>, d: [V; IN]) -> [V; IN] {
    let even_a = numbers.mul_add::<0, 2>(d[2], d[4]);
    let odd_a = numbers.mul_add::<0, 2>(d[1], d[3]);
    let even_b = numbers.mul_add::<0, 3>(d[2], d[4]);
    let odd_b = numbers.mul_add::<0, 3>(d[1], d[3]);
    [
        numbers.mul_add::<0, 0>(d[0], numbers.mul_add::<0, 1>(d[2], d[4])),
        numbers.mul_add::<1, 0>(odd_a, even_a),
        numbers.mul_add::<1, 1>(odd_a, even_a),
        numbers.mul_add::<1, 2>(odd_b, even_b),
        numbers.mul_add::<1, 3>(odd_b, even_b),
        numbers.mul_add::<0, 0>(d[1], numbers.mul_add::<0, 1>(d[3], d[5])),
    ]
}

/// The points by which share most of their terms: 0 and infinity, A and -A, B and -B.
const PAIRS: [[usize; 2]; 3] = [[0, 5], [1, 2], [3, 4]];

/// Six values of the input, as seen from two of the six points.
#[inline(always)]
fn into_pair<V: Simd, const PAIR: usize>(d: [V; IN]) -> [V; 2] {
    let number = |value: f64| d[0].like(value as f32);
    let (point, other) = match PAIR {
        0 => {
            let (square, sum) = (number(AA * BB), number(-AA - BB));
            return [
                square.mul_add(d[0], sum.mul_add(d[2], d[4])),
                square.mul_add(d[1], sum.mul_add(d[3], d[5])),
            ];
        }
        1 => (A, -BB),
        _ => (B, -AA),
    };
    let even = number(other).mul_add(d[2], d[4]);
    let odd = number(other).mul_add(d[1], d[3]).mul(number(point));
    [even.add(odd), even.sub(odd)]
}

/// Two of four values of the output, the even or the odd ones, from the products at the six points.
#[inline(always)]
fn out_pair<V: Simd, const ODD: usize>(m: [V; IN]) -> [V; 2] {
    let number = |value: f64| m[0].like(value as f32);
    if ODD == 0 {
        let (a, b) = (m[1].add(m[2]), m[3].add(m[4]));
        [number(0.5).mul_add(b, m[0].add(a)), number(AA).mul_add(a, number(0.5 * BB).mul(b))]
    } else {
        let (a, b) = (m[1].sub(m[2]), m[3].sub(m[4]));
        [
            number(A).mul_add(a, number(0.5 * B).mul(b)),
            number(A * AA).mul_add(a, number(0.5 * B * BB).mul_add(b, m[5])),
        ]
    }
}
