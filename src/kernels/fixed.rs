//! Products and convolutions in fixed point of 16 bits, whose sums are exact.
//!
//! A row of the left matrix is cut into blocks of up to [`STRETCH`] values, and each block is rounded to whole numbers of its
//! own unit: its largest magnitude divided by [`LIMIT`]. Weights are whole numbers too, of a unit a column, the smallest with
//! which no sum over so many products leaves 32 bits. So sums round nothing at all; those of a block are multiplied by its
//! unit and added up in f32. An instruction that multiplies two pairs of 16 bits and adds both products
//! makes this up to twice as fast as f32, and it is more exact than half precision, where each addition rounds.
//!
//! Rows end with the units of their blocks, as f32. Weights lie in pairs of rows, which takes an even depth.

use super::args::{Activation, HalfArgs, Rows};
use super::gemm::{self, Depth, Grain, MAX_MR, Panel, Right, Strips, Table};
use super::half::{self, HalfTile, HalfTileFns};
use super::math;
use super::simd::{F16, Gate, Simd};
use super::winograd::PLACES;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// The most products of a sum in 32 bits.
pub const STRETCH: usize = 128;
/// The largest magnitude of the left matrix, in its unit. With 13.3 bits for it, weights have as many as the bound of the
/// sums leaves: 12 to 15, more of them the shallower the product.
pub const LIMIT: f32 = 10_240.0;

/// Strips of [`Blocks`] that share a panel.
const STRIPS: usize = 5;
/// Panels for which a strip is rounded at the least, and columns at the most.
const PANELS: usize = 4;
const COLUMNS: usize = 1024;
/// Elements of a unit at a row's end.
pub(super) const UNIT: usize = size_of::<f32>() / size_of::<F16>();
/// Elements of a strip's row: the depth and its units, and so many more that rows do not compete for the same sets of the
/// cache.
const ROW: usize = gemm::DEPTH + 32;
/// Floats of a row's block, likewise.
const WIDE: usize = STRETCH + 16;

/// What rounds blocks of rows, and multiplies them.
pub(super) struct Tiles<const MR: usize, const NV: usize> {
    /// A row's element is a whole number of 16 bits.
    pub(super) tiles: HalfTileFns<MR, NV>,
    pub(super) round: RoundFn,
    pub(super) forward: ForwardFn,
}

/// The most rows that are rounded at once: all places of a patch, in whole tiles.
pub(super) const ROUNDED: usize = PLACES.next_multiple_of(MAX_MR);

/// A block of each of some rows, to be rounded.
pub(super) struct Rounding<'a> {
    /// `count` values of each row, of up to [`ROUNDED`].
    pub(super) from: &'a [*const f32],
    pub(super) count: usize,
    /// What the values of each row are multiplied by, one by one, or null.
    pub(super) scale: *const f32,
    /// Where the block of the first row goes, and its unit. The next row's are `step` elements on.
    pub(super) to: *mut F16,
    pub(super) unit: *mut F16,
    pub(super) step: usize,
}

pub(super) type RoundFn = unsafe fn(&Rounding<'_>);

/// A block of a patch's channels, to be transformed by [Winograd's method](super::winograd) and rounded.
pub(super) struct Forward<'a> {
    /// The first of `count` channels of each pixel, of up to [`STRETCH`].
    pub(super) from: &'a [*const f32; PLACES],
    pub(super) first: usize,
    pub(super) count: usize,
    /// What channels are multiplied by, one by one, or null; indexed as those of a pixel are.
    pub(super) scale: *const f32,
    /// Where the block of the first place goes, and its unit. The next place's are `step` elements on.
    pub(super) to: *mut F16,
    pub(super) unit: *mut F16,
    pub(super) step: usize,
}

pub(super) type ForwardFn = unsafe fn(&Forward<'_>);

/// What magnitudes of [`STRETCH`] whole numbers may add up to before they are rounded, which adds up to half to each, so that
/// their products with others of up to `other` stay in 32 bits.
pub fn room(other: f32) -> f64 {
    f64::from(i32::MAX) / f64::from(other) - STRETCH as f64
}

/// The blocks of a depth: their length, but for the last, which may be less.
pub(super) fn stretch(k: usize) -> usize {
    half::stretch(k, STRETCH)
}

/// How many there are: one, if there is no depth at all.
pub(super) fn blocks(k: usize) -> usize {
    k.div_ceil(stretch(k)).max(1)
}

/// Elements of a row with its units.
pub(super) fn row(k: usize) -> usize {
    k + blocks(k) * UNIT
}

/// The grain of tiles of so many rows and columns.
pub(super) const fn grain(mr: usize, nr: usize) -> Grain {
    Grain { mr, nr, strips: STRIPS, panels: PANELS, columns: COLUMNS }
}

/// # Safety
/// The CPU has the instruction sets of V and of the tiles; the contract of [`HalfArgs`], and k is even.
#[inline(always)]
pub(super) unsafe fn run<V: Gate, const MR: usize, const NV: usize>(
    args: &HalfArgs,
    task: usize,
    tiles: &Tiles<MR, NV>,
) {
    let right = Right { b: args.b, unscale: args.unscale };
    let mut strips =
        Blocks::<V, MR, NV> { rows: MaybeUninit::uninit(), scale: args.scale, tiles, lanes: PhantomData };
    // SAFETY: the caller's contract.
    unsafe { gemm::block::<V, _>(&args.gemm, &right, task, &mut strips) }
}

/// Rows of A, scaled and rounded.
struct Blocks<'a, V, const MR: usize, const NV: usize> {
    rows: MaybeUninit<[[[F16; ROW]; MAX_MR]; STRIPS]>,
    scale: *const f32,
    tiles: &'a Tiles<MR, NV>,
    lanes: PhantomData<V>,
}

impl<V: Gate, const MR: usize, const NV: usize> Strips for Blocks<'_, V, MR, NV> {
    const GRAIN: Grain = grain(MR, NV * V::LANES);
    type B = F16;

    #[inline(always)]
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth) {
        let to = self.rows.as_mut_ptr().cast::<[[F16; ROW]; MAX_MR]>().wrapping_add(strip).cast::<F16>();
        let mut table = MaybeUninit::<Table>::uninit();
        let table = table.as_mut_ptr();
        let mut wide = MaybeUninit::<[[f32; WIDE]; MAX_MR]>::uninit();
        let wide = wide.as_mut_ptr().cast::<f32>();
        let gathered: [*const f32; MAX_MR] =
            core::array::from_fn(|r| wide.cast_const().wrapping_add(r * WIDE));
        let (channels, k) = (depth.k(), depth.taps() * depth.k());
        let scale =
            |c| if self.scale.is_null() { self.scale } else { self.scale.wrapping_add(depth.ks[0] + c) };
        // SAFETY: the caller's contract; a strip has room for its rows of any depth and their units, and `wide` for a block
        // of all rows. Pointers are never read but those that are written first.
        unsafe {
            gemm::point(a, rows, MR, depth, table);
            for block in 0..blocks(k) {
                let first = block * stretch(k);
                let count = stretch(k).min(k - first);
                let (to, unit) = (to.add(first), to.add(k + block * UNIT));
                let (tap, c) = (first / channels.max(1), first % channels.max(1));
                if c + count <= channels {
                    // Of one tap: rounded from where it lies.
                    let from: [*const f32; MAX_MR] = core::array::from_fn(|r| {
                        if r < rows[1] { (*table)[tap][r].wrapping_add(c) } else { wide }
                    });
                    let (from, scale) = (&from[..rows[1]], scale(c));
                    (self.tiles.round)(&Rounding { from, count, scale, to, unit, step: ROW });
                    continue;
                }
                let mut at = 0;
                while at < count {
                    let (tap, c) = ((first + at) / channels, (first + at) % channels);
                    let part = (channels - c).min(count - at);
                    for r in 0..rows[1] {
                        let from = (*table)[tap][r].add(c);
                        half::copy::<V, f32>(from, scale(c), part, wide.add(r * WIDE + at));
                    }
                    at += part;
                }
                let (from, scale) = (&gathered[..rows[1]], core::ptr::null());
                (self.tiles.round)(&Rounding { from, count, scale, to, unit, step: ROW });
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<F16>) {
        let &Panel { b, columns, acc, ahead } = panel;
        let k = depth.taps() * depth.k();
        let a = self.rows.as_ptr().cast::<[[F16; ROW]; MAX_MR]>().wrapping_add(strip).cast();
        let tile = HalfTile { a, stride: ROW, tiles: 1, k, stretch: stretch(k), b, acc, ahead };
        // SAFETY: the caller's contract.
        unsafe { self.tiles.tiles[columns.div_ceil(V::LANES) - 1][rows - 1](&tile) }
    }

    #[inline(always)]
    unsafe fn activate<W: Simd>(activation: Activation, c: *mut f32, rows: usize, n: usize, stride: isize) {
        // SAFETY: the caller's contract.
        unsafe { math::activate_gated::<V>(activation, c, rows, n, stride) }
    }
}
