//! Products and convolutions whose weights are stored in half precision.
//!
//! Where the CPU computes in half precision, strips of A are rounded to it as well, and tiles accumulate in it, but only
//! over short stretches of the depth, whose sums are widened to f32. A value beyond half precision's range would be
//! infinite there, and one far below it zero: so columns of A and of B come multiplied by powers of two that the compiler
//! has chosen (`scale`), and columns of C are multiplied back (`unscale`).
//!
//! Elsewhere, and where A has so few rows that reading the weights takes all of the time, weights are widened to f32 as
//! they are read, and nothing else is rounded.

use super::args::{HalfArgs, Rows};
use super::gemm::{
    self, Ahead, COLUMNS, DEPTH, Depth, Grain, MAX_MR, Panel, Pointers, Right, Strips, Table, Tile, TileFns,
};
use super::simd::{Element, F16, Simd};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// The most rows of A for which weights may be widened, and not A rounded.
const FEW: usize = 8;
/// The most rows of a tile that widens the panels of one that does not.
const FEW_MR: usize = 6;

/// What the innermost kernel is given: `acc[r] = sum over k of a[r][k] * b[k]`, in each case the first vectors of NR
/// columns.
pub(super) struct HalfTile {
    /// Row r begins at `a + r * stride`.
    pub(super) a: *const F16,
    pub(super) stride: usize,
    /// Tiles below one another, each of all of the kernel's rows: one, but where kernels take rows by lane.
    pub(super) tiles: usize,
    pub(super) k: usize,
    /// The depth after which sums are widened.
    pub(super) stretch: usize,
    /// [k][NR].
    pub(super) b: *const F16,
    /// [rows][NR].
    pub(super) acc: *mut f32,
    pub(super) ahead: Ahead,
}

/// Tile kernels that compute in half precision: by number of vectors, from one up to all of a panel, and by rows.
pub(super) type HalfTileFns<const MR: usize, const NV: usize> = [[unsafe fn(&HalfTile); MR]; NV];

/// With weights widened to f32.
///
/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`HalfArgs`].
#[inline(always)]
pub(super) unsafe fn wide<V: Simd, const MR: usize, const NV: usize>(
    args: &HalfArgs,
    task: usize,
    tiles: &TileFns<MR, NV, F16>,
) {
    let right = Right { b: args.b, unscale: args.unscale };
    // SAFETY: the caller's contract.
    unsafe { gemm::block::<V, _>(&args.gemm, &right, task, &mut Pointers::<V, MR, NV, F16>::new(tiles)) }
}

/// In half precision.
///
/// # Safety
/// As [`wide`], and the CPU has the instruction set of the tiles.
#[inline(always)]
pub(super) unsafe fn native<V: Simd, const MR: usize, const NV: usize>(
    args: &HalfArgs,
    task: usize,
    tiles: &HalfTileFns<MR, NV>,
) {
    let right = Right { b: args.b, unscale: args.unscale };
    let (rows, scale, stretch) = (MaybeUninit::uninit(), args.scale, args.stretch.max(1));
    let mut strips = Halves::<V, MR, NV> { rows, scale, stretch, tiles, lanes: PhantomData };
    // SAFETY: the caller's contract.
    unsafe { gemm::block::<V, _>(&args.gemm, &right, task, &mut strips) }
}

/// With weights widened to f32, on panels of the same width, for few rows.
///
/// # Safety
/// As [`wide`]; A has no more than [`FEW`] rows.
#[inline(always)]
pub(super) unsafe fn few<V: Simd, const NV: usize>(
    args: &HalfArgs,
    task: usize,
    tiles: &TileFns<FEW_MR, NV, F16>,
) {
    let right = Right { b: args.b, unscale: args.unscale };
    let mut strips =
        Scaled::<V, NV> { rows: MaybeUninit::uninit(), scale: args.scale, tiles, lanes: PhantomData };
    // SAFETY: the caller's contract.
    unsafe { gemm::block::<V, _>(&args.gemm, &right, task, &mut strips) }
}

/// Strips of [`Halves`] that share a panel.
const STRIPS: usize = 5;
/// Panels for which a strip is rounded at the least.
const PANELS: usize = 2;
/// Values of a strip's row: the depth, and so many more that rows do not compete for the same sets of the cache.
const ROW: usize = DEPTH + 32;

/// The grain that a product is computed in, by tiles of so many rows and columns, or by [`few`].
pub(super) fn grain(args: &HalfArgs, mr: usize, nr: usize, most: usize) -> Grain {
    if is_few(args, most) { few_grain(nr) } else { native_grain(mr, nr) }
}

const fn few_grain(nr: usize) -> Grain {
    Grain { mr: FEW_MR, nr, strips: FEW.div_ceil(FEW_MR), panels: 1, columns: COLUMNS }
}

const fn native_grain(mr: usize, nr: usize) -> Grain {
    Grain { mr, nr, strips: STRIPS, panels: PANELS, columns: COLUMNS }
}

/// Whether [`few`] is to compute a product, which it is up to so many rows.
pub(super) fn is_few(args: &HalfArgs, most: usize) -> bool {
    args.gemm.m <= most.min(FEW)
}

/// The stretch that a depth is summed in: at most so much, about evenly, and in eights where `most` allows, since tiles
/// that take eight steps at a time take what is left of a stretch one by one.
pub(super) fn stretch(k: usize, most: usize) -> usize {
    gemm::even(k.max(1), most, if most.is_multiple_of(8) { 8 } else { 1 })
}

/// Rows of A, scaled.
struct Scaled<'a, V, const NV: usize> {
    rows: MaybeUninit<[[[f32; ROW]; FEW_MR]; FEW.div_ceil(FEW_MR)]>,
    scale: *const f32,
    tiles: &'a TileFns<FEW_MR, NV, F16>,
    lanes: PhantomData<V>,
}

impl<V: Simd, const NV: usize> Strips for Scaled<'_, V, NV> {
    const GRAIN: Grain = few_grain(NV * V::LANES);
    type B = F16;

    #[inline(always)]
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth) {
        let strip = self.rows.as_mut_ptr().cast::<[[f32; ROW]; FEW_MR]>().wrapping_add(strip).cast();
        // SAFETY: the caller's contract; a strip has room for its rows of any depth.
        unsafe { gather::<V, f32>(a, rows, FEW_MR, depth, self.scale, strip) }
    }

    #[inline(always)]
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<F16>) {
        let &Panel { b, columns, acc, ahead } = panel;
        let strip = self.rows.as_ptr().cast::<[[f32; ROW]; FEW_MR]>().wrapping_add(strip).cast::<f32>();
        let mut table = [[core::ptr::null(); MAX_MR]; 1];
        for (r, pointer) in table[0][..FEW_MR].iter_mut().enumerate() {
            *pointer = strip.wrapping_add(if r < rows { r } else { 0 } * ROW);
        }
        let k = depth.taps() * depth.k();
        let tile = Tile { table: &table, k, b, acc, ahead };
        // SAFETY: the caller's contract.
        unsafe { self.tiles[columns.div_ceil(V::LANES) - 1][rows - 1](&tile) }
    }
}

/// Rows of A, scaled and rounded to half precision.
struct Halves<'a, V, const MR: usize, const NV: usize> {
    rows: MaybeUninit<[[[F16; ROW]; MAX_MR]; STRIPS]>,
    scale: *const f32,
    stretch: usize,
    tiles: &'a HalfTileFns<MR, NV>,
    lanes: PhantomData<V>,
}

impl<V: Simd, const MR: usize, const NV: usize> Halves<'_, V, MR, NV> {
    /// Lanes of a vector in half precision.
    const LANES: usize = 2 * V::LANES;
}

impl<V: Simd, const MR: usize, const NV: usize> Strips for Halves<'_, V, MR, NV> {
    const GRAIN: Grain = native_grain(MR, NV * Self::LANES);
    type B = F16;

    #[inline(always)]
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth) {
        let strip = self.rows.as_mut_ptr().cast::<[[F16; ROW]; MAX_MR]>().wrapping_add(strip).cast();
        // SAFETY: the caller's contract; a strip has room for its rows of any depth.
        unsafe { gather::<V, F16>(a, rows, MR, depth, self.scale, strip) }
    }

    #[inline(always)]
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<F16>) {
        let &Panel { b, columns, acc, ahead } = panel;
        let k = depth.taps() * depth.k();
        let a = self.rows.as_ptr().cast::<[[F16; ROW]; MAX_MR]>().wrapping_add(strip).cast();
        let stretch = stretch(k, self.stretch);
        let tile = HalfTile { a, stride: ROW, tiles: 1, k, stretch, b, acc, ahead };
        // SAFETY: the caller's contract.
        unsafe { self.tiles[columns.div_ceil(Self::LANES) - 1][rows - 1](&tile) }
    }
}

/// Copies rows of A at a depth to a strip, [ROW] apart, tap by tap, each value times its scale if there are any.
///
/// # Safety
/// The CPU has V's instruction set; rows and depth lie within A, and there are scales for all of k or none; `to` has room.
#[inline(always)]
unsafe fn gather<V: Simd, E: Element>(
    a: &Rows,
    rows: [usize; 2],
    mr: usize,
    depth: &Depth,
    scale: *const f32,
    to: *mut E,
) {
    let mut table = MaybeUninit::<Table>::uninit();
    let k = depth.k();
    let scale = if scale.is_null() { scale } else { scale.wrapping_add(depth.ks[0]) };
    let table = table.as_mut_ptr();
    // SAFETY: the caller's contract. Pointers are never read but those that are written first: of the depth's taps and so
    // many rows.
    unsafe {
        gemm::point(a, rows, mr, depth, table);
        for tap in 0..depth.taps() {
            for r in 0..rows[1] {
                copy::<V, E>((*table)[tap][r], scale, k, to.add(r * ROW + tap * k));
            }
        }
    }
}

/// Copies `count` values, each times its scale if there are any.
#[inline(always)]
pub(super) unsafe fn copy<V: Simd, E: Element>(
    from: *const f32,
    scale: *const f32,
    count: usize,
    to: *mut E,
) {
    let whole = count / V::LANES * V::LANES;
    let [pairs, fours] = [2, 4].map(|vectors| count / (vectors * V::LANES) * (vectors * V::LANES));
    // SAFETY: the caller vouches for `count` values of each.
    unsafe {
        // Two at once are loaded and stored by one instruction where there are such.
        for i in (0..fours).step_by(4 * V::LANES) {
            let mut four = [V::splat(0.0); 4];
            for (v, x) in four.iter_mut().enumerate() {
                *x = scaled::<V>(from, scale, i + v * V::LANES);
            }
            for (v, x) in four.into_iter().enumerate() {
                E::store(x, to.add(i + v * V::LANES));
            }
        }
        for i in (fours..pairs).step_by(2 * V::LANES) {
            let next = i + V::LANES;
            let (x, y) = (scaled::<V>(from, scale, i), scaled::<V>(from, scale, next));
            E::store(x, to.add(i));
            E::store(y, to.add(next));
        }
        if pairs < whole {
            E::store(scaled::<V>(from, scale, pairs), to.add(pairs));
        }
        if whole < count {
            let left = count - whole;
            let mut x = V::load_first(from.add(whole), left);
            if !scale.is_null() {
                x = x.mul(V::load_first(scale.add(whole), left));
            }
            E::store_first(x, to.add(whole), left);
        }
    }
}

/// A vector of values, each times its scale if there are any.
#[inline(always)]
unsafe fn scaled<V: Simd>(from: *const f32, scale: *const f32, at: usize) -> V {
    // SAFETY: the caller vouches for a vector of each from there on.
    unsafe {
        let x = V::load(from.add(at));
        if scale.is_null() { x } else { x.mul(V::load(scale.add(at))) }
    }
}
