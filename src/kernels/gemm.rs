//! Matrix products and convolutions: `C = activation(A B + bias + residual)`.
//!
//! B lies in panels of NR columns. A task owns a block of C; it walks the depth in blocks that keep a strip of A in L1
//! and a panel of B in L2, and within a block computes tiles of up to MR x NR in registers. How a strip of A reaches the
//! tiles is left to [`Strips`]; here its rows are found through a table of pointers, one a row and tap, so that a
//! convolution needs no patch matrix. Partial sums of earlier depth blocks wait in C.
//!
//! B may come from beyond the caches, and streams of it cross pages, where hardware stops to fetch ahead. So every tile
//! asks for its share of the panel that comes next.

use super::args::{Activation, GemmArgs, PackArgs, Patches, Rows};
use super::math;
use super::narrow::{self, Narrow};
use super::simd::{Element, Simd};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// The most rows of a tile.
pub(super) const MAX_MR: usize = 16;
/// The most columns of a tile.
pub(super) const MAX_NR: usize = 64;
/// The most taps of a depth block.
pub(super) const MAX_TAPS: usize = 16;
/// Floats of an operand or a result that the cache of the second level keeps beside what a task works on.
pub(super) const NEAR: usize = 96 << 10;
/// Floats that are fetched at once: two lines.
pub(super) const LINES: usize = 32;
/// The depth of a block.
pub(super) const DEPTH: usize = 512;
/// Columns of C in a task, where preparing its strips takes little.
pub(super) const COLUMNS: usize = 256;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 19;
/// Tasks beyond which none is split further.
const ENOUGH_TASKS: usize = 16;
/// Ways of a small first-level cache, and bytes of one: addresses so far apart compete for the same few lines.
const WAYS: usize = 8;
const WAY: usize = 4096;
/// Bytes that a stream of B is asked for ahead of its use.
const AHEAD: usize = 4096;
/// Row pointers of a strip, by tap and row.
pub(super) type Table = [[*const f32; MAX_MR]; MAX_TAPS];

/// What a tile kernel fetches into the cache meanwhile: two lines at a time, which move on by so many bytes for each k.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) from: *const u8,
    pub(super) step: usize,
}

impl Ahead {
    /// What follows b itself, whose rows have so many bytes.
    pub(super) fn of<B>(b: *const B, row: usize) -> Ahead {
        Ahead { from: b.wrapping_byte_add(AHEAD).cast(), step: row }
    }

    /// For `rows` rows of B.
    #[inline(always)]
    pub(super) fn fetch<V: Simd>(&mut self, rows: usize) {
        V::prefetch(self.from);
        self.from = self.from.wrapping_add(rows * self.step);
    }
}

/// What the innermost kernel is given: `acc[r] = sum over taps, k of table[tap][r][k] * b[tap, k]`, in each case the
/// first NV vectors of NR columns.
pub(super) struct Tile<'a, B = f32> {
    pub(super) table: &'a [[*const f32; MAX_MR]],
    pub(super) k: usize,
    /// [taps][k][NR].
    pub(super) b: *const B,
    /// [rows][NR].
    pub(super) acc: *mut f32,
    pub(super) ahead: Ahead,
}

/// A tile kernel of a fixed number of rows and vectors.
pub(super) type TileFn<B = f32> = unsafe fn(&Tile<B>);
/// By number of vectors, from one up to all of a panel, and by number of rows: computes at least as many.
pub(super) type TileFns<const MR: usize, const NV: usize, B = f32> = [[TileFn<B>; MR]; NV];

/// What work is cut into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grain {
    /// Rows of a strip.
    pub(super) mr: usize,
    /// Columns of a panel.
    pub(super) nr: usize,
    /// Strips that use a panel of B while it is in the cache: the rows of a task.
    pub(super) strips: usize,
    /// Panels that share what it takes to prepare strips: fewer are not worth a task, where there are as many.
    pub(super) panels: usize,
    /// Columns of C in a task, at the most.
    pub(super) columns: usize,
}

/// The left matrix, as tile kernels read it.
pub(super) trait Strips {
    const GRAIN: Grain;
    /// Elements of B.
    type B;

    /// Makes rows rows[0].. rows[0] + rows[1] of A at this depth the given strip.
    ///
    /// # Safety
    /// The CPU has the instruction set; rows and depth lie within A.
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth);

    /// Takes columns of B at this depth, before strips are multiplied with them.
    ///
    /// # Safety
    /// As [`Strips::prepare`]; a panel's columns from `b` on.
    #[inline(always)]
    unsafe fn take(&mut self, _depth: &Depth, _b: *const Self::B, _columns: usize) {}

    /// The product of a strip, whose depth this is, with a panel.
    ///
    /// # Safety
    /// As [`Strips::prepare`], which has made this strip of this depth; `vectors` of the panel and of the accumulators.
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<Self::B>);

    /// Applies an activation to rows of C, as exactly as the product is.
    ///
    /// # Safety
    /// As [`math::activate`].
    #[inline(always)]
    unsafe fn activate<V: Simd>(activation: Activation, c: *mut f32, rows: usize, n: usize, stride: isize) {
        // SAFETY: the caller's contract.
        unsafe { math::activate::<V>(activation, c, rows, n, stride) }
    }
}

/// A panel of B at one depth, and where its product goes.
pub(super) struct Panel<B> {
    /// [depth][NR].
    pub(super) b: *const B,
    /// Columns in use.
    pub(super) columns: usize,
    /// [MR][NR].
    pub(super) acc: *mut f32,
    pub(super) ahead: Ahead,
}

/// The right matrix of a product.
pub(super) struct Right<B> {
    /// [panels][taps * k][NR].
    pub(super) b: *const B,
    /// What products are multiplied by, a value a column, or null.
    pub(super) unscale: *const f32,
}

/// The block of C that a task owns.
struct Block {
    rows: [usize; 2],
    panels: [usize; 2],
}

/// How C is split into tasks: rows and panels of one, and the count of blocks down and across.
struct Split {
    rows: usize,
    panels: usize,
    down: usize,
    across: usize,
}

impl Split {
    /// By shape alone, so that results do not depend on the number of threads.
    fn new(args: &GemmArgs, Grain { mr, nr, strips, panels: least, columns }: Grain) -> Split {
        let all = args.n.div_ceil(nr).max(1);
        let m = args.m.max(1);
        let work = m.saturating_mul(args.n).saturating_mul(args.k * args.taps);
        let wanted = (work / TASK_WORK).clamp(1, ENOUGH_TASKS);
        let mut rows = even(m, strips * mr, mr);
        let mut panels = even(all, (columns / nr).max(1), 1);
        while m.div_ceil(rows) * all.div_ceil(panels) < wanted && panels > least {
            panels = panels.div_ceil(2);
        }
        // Fewer rows would leave a panel of B too few uses while it is in the cache.
        while m.div_ceil(rows) * all.div_ceil(panels) < wanted && rows > 2 * mr {
            rows = (rows / 2).next_multiple_of(mr);
        }
        Split { rows, panels, down: m.div_ceil(rows), across: all.div_ceil(panels) }
    }
}

/// A step of at most `most` that divides `total` about evenly, in multiples of `unit`.
pub(super) fn even(total: usize, most: usize, unit: usize) -> usize {
    total.div_ceil(total.div_ceil(most).max(1)).next_multiple_of(unit).max(unit)
}

pub(super) fn tasks(args: &GemmArgs, grain: Grain) -> usize {
    if args.m == 0 || args.n == 0 {
        return 0;
    }
    let split = Split::new(args, grain);
    split.down * split.across
}

/// The product of f32 matrices.
///
/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`GemmArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &GemmArgs,
    task: usize,
    tiles: &TileFns<MR, NV>,
) {
    let right = Right { b: args.b, unscale: core::ptr::null() };
    // SAFETY: the caller's contract.
    unsafe {
        if narrow::is_narrow::<V>(args) {
            block::<V, _>(args, &right, task, &mut Narrow::<V, MR, NV>::new())
        } else {
            block::<V, _>(args, &right, task, &mut Pointers::<V, MR, NV, f32>::new(tiles))
        }
    }
}

/// Computes the block of C that a task owns.
///
/// # Safety
/// As [`run`]; `right` is the right matrix, and the task is one of [`tasks`] of the strips' grain.
#[inline(always)]
pub(super) unsafe fn block<V: Simd, S: Strips>(
    args: &GemmArgs,
    right: &Right<S::B>,
    task: usize,
    strips: &mut S,
) {
    let split = Split::new(args, S::GRAIN);
    let (row, panel) = (task / split.across * split.rows, task % split.across * split.panels);
    let block = Block {
        rows: [row, (row + split.rows).min(args.m)],
        panels: [panel, (panel + split.panels).min(args.n.div_ceil(S::GRAIN.nr))],
    };
    let per_tap = even(args.k, DEPTH, 8);
    let taps_step = if args.k > DEPTH { 1 } else { (DEPTH / args.k.max(1)).clamp(1, MAX_TAPS) };
    let (mut tap, mut k) = (0, 0);
    loop {
        let taps = [tap, (tap + taps_step).min(args.taps)];
        let ks = [k, (k + per_tap).min(args.k)];
        (tap, k) = if ks[1] < args.k { (tap, ks[1]) } else { (taps[1], 0) };
        let depth = Depth { taps, ks, last: tap >= args.taps };
        // SAFETY: the caller's contract; the block lies within C and the depth within A and B.
        unsafe { depth_block::<V, S>(args, right, &block, &depth, strips) };
        if depth.last {
            return;
        }
    }
}

/// A block of the depth: some whole taps, or a part of one.
pub(super) struct Depth {
    pub(super) taps: [usize; 2],
    pub(super) ks: [usize; 2],
    last: bool,
}

impl Depth {
    fn first(&self) -> bool {
        self.taps[0] == 0 && self.ks[0] == 0
    }

    pub(super) fn taps(&self) -> usize {
        self.taps[1] - self.taps[0]
    }

    pub(super) fn k(&self) -> usize {
        self.ks[1] - self.ks[0]
    }
}

/// Adds one block of the depth to a block of C.
#[inline(always)]
unsafe fn depth_block<V: Simd, S: Strips>(
    args: &GemmArgs,
    right: &Right<S::B>,
    block: &Block,
    depth: &Depth,
    strips: &mut S,
) {
    let all = block.rows[1] - block.rows[0];
    let Grain { mr, nr, .. } = S::GRAIN;
    let count = all.div_ceil(mr);
    let rows = |strip: usize| [block.rows[0] + strip * mr, mr.min(all - strip * mr)];
    let (row, panel_len) = (nr * size_of::<S::B>(), args.taps * args.k * nr);
    let mut acc = MaybeUninit::<Accumulators>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    let far = !V::BY_LANE && args.m * args.n > NEAR;
    // SAFETY: rows, taps and depth lie within A, panels within B; a product fills rows x NR of the accumulators (fewer
    // than MAX_MR x MAX_NR), which is what the epilogue reads.
    unsafe {
        for strip in 0..count {
            strips.prepare(&args.a, strip, rows(strip), depth);
        }
        for number in block.panels[0]..block.panels[1] {
            let b = right.b.add(number * panel_len + (depth.taps[0] * args.k + depth.ks[0]) * nr);
            let columns = nr.min(args.n - number * nr);
            // The next panel at this depth, or the first one at the next depth.
            let next = if number + 1 < block.panels[1] || depth.last {
                b.wrapping_add(panel_len)
            } else {
                let first = b.wrapping_sub((number - block.panels[0]) * panel_len);
                first.wrapping_add(depth.taps() * depth.k() * nr)
            };
            strips.take(depth, b, columns);
            for strip in 0..count {
                let ahead = if count == 1 {
                    Ahead::of(b, row)
                } else {
                    // The part of what comes next that falls to the strip.
                    let share = depth.taps() * depth.k() * row / count;
                    Ahead { from: next.cast::<u8>().wrapping_add(strip * share), step: row / count }
                };
                let rows = rows(strip);
                if far && (number * nr).is_multiple_of(LINES) {
                    fetch_rows::<V>(args, rows, number * nr);
                }
                strips.multiply(strip, rows[1], depth, &Panel { b, columns, acc, ahead });
                epilogue::<V, S>(args, right.unscale, depth, acc, nr, rows, number * nr);
            }
        }
    }
}

/// Asks for the rows of C that a tile writes, and for what is added to them, while its product keeps the CPU busy: they are short
/// pieces, far apart, and a line that is written has to be read first.
#[inline(always)]
fn fetch_rows<V: Simd>(args: &GemmArgs, rows: [usize; 2], column: usize) {
    for row in rows[0]..rows[0] + rows[1] {
        let at = |stride: isize| row as isize * stride + column as isize;
        V::prefetch(args.c.wrapping_offset(at(args.c_stride)).cast());
        if !args.residual.is_null() {
            V::prefetch(args.residual.wrapping_offset(at(args.residual_stride)).cast());
        }
    }
}

#[repr(C, align(64))]
struct Accumulators([f32; MAX_MR * MAX_NR]);

/// Strips of [`Pointers`] that share a panel.
pub(super) const STRIPS: usize = 8;

/// The grain of [`Pointers`].
pub(super) const fn grain(mr: usize, nr: usize) -> Grain {
    Grain { mr, nr, strips: STRIPS, panels: 1, columns: COLUMNS }
}

/// Rows of A where they lie, found through pointers.
pub(super) struct Pointers<'a, V, const MR: usize, const NV: usize, B: 'static = f32> {
    tables: [Table; STRIPS],
    /// Rows of a strip that one tile takes; where they are not all, the next ones have the next table.
    at_once: usize,
    tiles: &'a TileFns<MR, NV, B>,
    lanes: PhantomData<V>,
}

impl<'a, V, const MR: usize, const NV: usize, B> Pointers<'a, V, MR, NV, B> {
    pub(super) fn new(tiles: &'a TileFns<MR, NV, B>) -> Self {
        let tables = [[[core::ptr::null(); MAX_MR]; MAX_TAPS]; STRIPS];
        Pointers { tables, at_once: MR, tiles, lanes: PhantomData }
    }
}

impl<V: Simd, const MR: usize, const NV: usize, B> Strips for Pointers<'_, V, MR, NV, B> {
    const GRAIN: Grain = grain(MR, NV * V::LANES);
    type B = B;

    #[inline(always)]
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth) {
        let table = &mut self.tables[strip];
        // SAFETY: the caller's contract.
        unsafe { point(a, rows, MR, depth, table) }
        // Whole ways apart, more rows than ways would push each other out of the cache at every step of the depth.
        let apart = a.stride().unsigned_abs().wrapping_mul(size_of::<f32>());
        let crowded = MR > WAYS && depth.taps() == 1 && apart.is_multiple_of(WAY);
        self.at_once = if crowded { MR.div_ceil(2) } else { MR };
        if crowded {
            let (first, rest) = table.split_at_mut(1);
            rest[0][..MR - self.at_once].copy_from_slice(&first[0][self.at_once..MR]);
        }
    }

    #[inline(always)]
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<B>) {
        let &Panel { b, columns, acc, ahead } = panel;
        let (k, nr) = (depth.k(), Self::GRAIN.nr);
        for first in (0..rows).step_by(self.at_once) {
            let table = &self.tables[strip][first / self.at_once..][..depth.taps()];
            let rows = self.at_once.min(rows - first);
            // SAFETY: the caller's contract.
            unsafe {
                let tile = Tile { table, k, b, acc: acc.add(first * nr), ahead };
                self.tiles[columns.div_ceil(V::LANES) - 1][rows - 1](&tile)
            }
        }
    }
}

/// The body for each row below R, which is at most 16. A loop would do, did every target unroll it; where it stays one,
/// the accumulators live in memory.
macro_rules! unroll {
    ($r:ident, $rows:ident, $body:block) => {
        unroll!(@ $r, $rows, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $r:ident, $rows:ident, $body:block, $($i:literal)*) => {
        $(if $i < $rows {
            const $r: usize = $i;
            $body
        })*
    };
}

pub(in crate::kernels) use unroll;

/// The innermost kernel, R x (NV vectors) of a panel of PANEL vectors.
///
/// # Safety
/// The CPU has V's instruction set; the tile's pointers are good for its depth, R rows and NV vectors.
#[inline(always)]
pub(super) unsafe fn tile<V: Simd, B: Element, const R: usize, const NV: usize, const PANEL: usize>(
    t: &Tile<B>,
) {
    let nr = PANEL * V::LANES;
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; R];
        let (mut b, mut ahead) = (t.b, t.ahead);
        for rows in t.table {
            let rows: [*const f32; MAX_MR] = *rows;
            let mut by_lane = 0;
            // One load of a row for four steps. Loads of single values would be too many for a core that issues in order.
            // (Around the loop, so that nothing of it is compiled for other CPUs.)
            if V::BY_LANE {
                by_lane = t.k / 4 * 4;
                for k in (0..by_lane).step_by(4) {
                    ahead.fetch::<V>(4);
                    let mut values = [V::splat(0.0); R];
                    unroll!(ROW, R, {
                        values[ROW] = V::load(rows[ROW].add(k));
                    });
                    step::<V, B, 0, R, NV>(&mut acc, &values, b);
                    step::<V, B, 1, R, NV>(&mut acc, &values, b.add(nr));
                    step::<V, B, 2, R, NV>(&mut acc, &values, b.add(2 * nr));
                    step::<V, B, 3, R, NV>(&mut acc, &values, b.add(3 * nr));
                    b = b.add(4 * nr);
                }
            }
            for k in by_lane..t.k {
                ahead.fetch::<V>(1);
                let mut bs = [V::splat(0.0); NV];
                for (v, bs) in bs.iter_mut().enumerate() {
                    *bs = B::load(b.add(v * V::LANES));
                }
                b = b.add(nr);
                unroll!(ROW, R, {
                    let a = V::splat(*rows[ROW].add(k));
                    for (acc, b) in acc[ROW].iter_mut().zip(bs) {
                        *acc = a.mul_add(b, *acc);
                    }
                });
            }
        }
        unroll!(ROW, R, {
            for (v, acc) in acc[ROW].iter().enumerate() {
                acc.store(t.acc.add(ROW * nr + v * V::LANES));
            }
        });
    }
}

/// Adds the products of one lane of each row's values with a row of B.
///
/// # Safety
/// `b` is readable for NV vectors.
#[inline(always)]
unsafe fn step<V: Simd, B: Element, const LANE: i32, const R: usize, const NV: usize>(
    acc: &mut [[V; NV]; R],
    values: &[V; R],
    b: *const B,
) {
    // Rows within vectors: there is nothing to iterate over instead.
    #[allow(clippy::needless_range_loop)]
    for v in 0..NV {
        // SAFETY: the caller's contract.
        let b: V = unsafe { B::load(b.add(v * V::LANES)) };
        unroll!(ROW, R, {
            acc[ROW][v] = values[ROW].mul_add_lane::<LANE>(b, acc[ROW][v]);
        });
    }
}

/// Adds what belongs to a tile before the first block of the depth (bias and residual) or what earlier blocks left in
/// C, and stores; applies the activation after the last block.
#[inline(always)]
unsafe fn epilogue<V: Simd, S: Strips>(
    args: &GemmArgs,
    unscale: *const f32,
    depth: &Depth,
    acc: *const f32,
    nr: usize,
    rows: [usize; 2],
    column: usize,
) {
    let columns = nr.min(args.n - column);
    let (add, add_stride) = if depth.first() {
        (args.residual, args.residual_stride)
    } else {
        (args.c.cast_const(), args.c_stride)
    };
    let bias = depth.first() && !args.bias.is_null();
    // SAFETY: columns column..column + columns of these rows are within C, bias, scales and residual.
    unsafe {
        let tile = args.c.offset(rows[0] as isize * args.c_stride).add(column);
        let mut i = 0;
        while i < columns {
            let (at, left) = (column + i, columns - i);
            let ends = Ends {
                unscale: if unscale.is_null() { unscale } else { unscale.add(at) },
                bias: if bias { args.bias.add(at) } else { core::ptr::null() },
                add: if add.is_null() { add } else { add.offset(rows[0] as isize * add_stride).add(at) },
                strides: [add_stride, args.c_stride],
            };
            let (acc, c) = (acc.add(i), tile.add(i));
            if left >= 2 * V::LANES {
                finish::<V, 2>(&ends, acc, nr, rows[1], c, left);
                i += V::LANES;
            } else {
                finish::<V, 1>(&ends, acc, nr, rows[1], c, left);
            }
            i += V::LANES;
        }
        if depth.last && args.activation != Activation::None {
            S::activate::<V>(args.activation, tile, rows[1], columns, args.c_stride);
        }
    }
}

/// What is done to the sums of some columns.
struct Ends {
    /// The column's values, or null.
    unscale: *const f32,
    bias: *const f32,
    /// The first row, or null.
    add: *const f32,
    /// Of `add` and C.
    strides: [isize; 2],
}

/// Finishes N vectors of columns, or the `left` columns that there are.
#[inline(always)]
unsafe fn finish<V: Simd, const N: usize>(
    ends: &Ends,
    mut acc: *const f32,
    nr: usize,
    rows: usize,
    mut c: *mut f32,
    left: usize,
) {
    // SAFETY: the caller vouches for the columns of so many rows.
    unsafe {
        let (mut unscale, mut bias) = ([V::splat(1.0); N], [V::splat(0.0); N]);
        for v in 0..N {
            if !ends.unscale.is_null() {
                unscale[v] = V::load_block::<N>(ends.unscale.add(v * V::LANES), left);
            }
            if !ends.bias.is_null() {
                bias[v] = V::load_block::<N>(ends.bias.add(v * V::LANES), left);
            }
        }
        let mut add = ends.add;
        for _ in 0..rows {
            let mut sums = [V::splat(0.0); N];
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(acc.add(v * V::LANES));
            }
            if !ends.unscale.is_null() {
                for v in 0..N {
                    sums[v] = sums[v].mul(unscale[v]);
                }
            }
            if !ends.bias.is_null() {
                for v in 0..N {
                    sums[v] = sums[v].add(bias[v]);
                }
            }
            if !add.is_null() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add(V::load_block::<N>(add.add(v * V::LANES), left));
                }
                add = add.wrapping_offset(ends.strides[0]);
            }
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store_upto(c.add(v * V::LANES), if N > 1 { V::LANES } else { left });
            }
            acc = acc.wrapping_add(nr);
            c = c.wrapping_offset(ends.strides[1]);
        }
    }
}

/// Fills the table with the pointers of rows row..row + rows at the block's taps; rows beyond point to the first one.
pub(super) unsafe fn point(a: &Rows, [row, rows]: [usize; 2], mr: usize, depth: &Depth, table: *mut Table) {
    let mut pixels = match a {
        Rows::Patches(p) => Some(Pixels::new(p, row)),
        Rows::Matrix { .. } => None,
    };
    for r in 0..mr {
        let r_or_first = if r < rows { r } else { 0 };
        match a {
            Rows::Matrix { ptr, stride } => {
                // SAFETY: a row of the matrix and an offset within its depth; the caller's table.
                unsafe { (*table)[0][r] = ptr.offset((row + r_or_first) as isize * stride).add(depth.ks[0]) };
            }
            Rows::Patches(p) if r < rows => {
                let Some(pixel) = pixels.as_mut().map(Pixels::next) else { return };
                let (mut i, mut j) = (depth.taps[0] / p.kernel[1], depth.taps[0] % p.kernel[1]);
                // Where the first tap and the last one are inside of the image, so are all.
                let corner = pixel.tap(p, 0, 0);
                let corner = corner.filter(|_| pixel.tap(p, p.kernel[0] - 1, p.kernel[1] - 1).is_some());
                let [down, right] = [p.dilation[0] as isize * p.row, p.dilation[1] as isize * p.pixel];
                let mut inside =
                    corner.map(|corner| corner.wrapping_offset(i as isize * down + j as isize * right));
                for tap in 0..depth.taps() {
                    let from = inside.unwrap_or_else(|| pixel.tap(p, i, j).unwrap_or(p.zeros));
                    // SAFETY: as above; the zeros are as many as the depth of a tap.
                    unsafe { (*table)[tap][r] = from.add(depth.ks[0]) };
                    j += 1;
                    inside = inside.map(|from| from.wrapping_offset(right));
                    if j == p.kernel[1] {
                        (i, j) = (i + 1, 0);
                        let back = p.kernel[1] as isize * right;
                        inside = inside.map(|from| from.wrapping_offset(down - back));
                    }
                }
            }
            Rows::Patches(_) => {
                for tap in 0..depth.taps() {
                    // SAFETY: the caller's table; the first row was written before.
                    unsafe { (*table)[tap][r] = (*table)[tap][0] };
                }
            }
        }
    }
}

/// Output pixels, one after the other.
struct Pixels<'a> {
    p: &'a Patches,
    /// The next one, and where it is.
    next: Pixel,
    x: usize,
    y: usize,
    n: usize,
}

impl<'a> Pixels<'a> {
    fn new(p: &'a Patches, first: usize) -> Self {
        let (x, rest) = (first % p.output[1], first / p.output[1]);
        let (y, n) = (rest % p.output[0], rest / p.output[0]);
        Pixels { p, next: Pixel::at(p, [n, y, x]), x, y, n }
    }

    fn next(&mut self) -> Pixel {
        let (pixel, p) = (self.next, self.p);
        self.x += 1;
        self.next.x += p.stride[1] as isize;
        if self.x == p.output[1] {
            (self.x, self.y) = (0, self.y + 1);
            if self.y == p.output[0] {
                (self.y, self.n) = (0, self.n + 1);
            }
            self.next = Pixel::at(p, [self.n, self.y, 0]);
        }
        pixel
    }
}

/// An output pixel of a convolution or pooling: its image, and the input pixel below its first tap.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    image: *const f32,
    y: isize,
    x: isize,
}

impl Pixel {
    pub(super) fn new(p: &Patches, m: usize) -> Pixel {
        let (x, rest) = (m % p.output[1], m / p.output[1]);
        let (y, n) = (rest % p.output[0], rest / p.output[0]);
        Pixel::at(p, [n, y, x])
    }

    pub(super) fn at(p: &Patches, [n, y, x]: [usize; 3]) -> Pixel {
        Pixel {
            image: p.ptr.wrapping_offset(n as isize * p.image),
            y: (y * p.stride[0]) as isize - p.pad[0] as isize,
            x: (x * p.stride[1]) as isize - p.pad[1] as isize,
        }
    }

    /// The input pixel of tap (i, j), `None` outside of the image.
    #[inline(always)]
    pub(super) fn tap(&self, p: &Patches, i: usize, j: usize) -> Option<*const f32> {
        let y = self.y + (i * p.dilation[0]) as isize;
        let x = self.x + (j * p.dilation[1]) as isize;
        // A negative coordinate wraps to one far beyond the image.
        let inside = (y as usize) < p.input[0] && (x as usize) < p.input[1];
        inside.then(|| self.image.wrapping_offset(y * p.row + x * p.pixel))
    }
}

/// Values that a packing task moves, about.
const PACK_WORK: usize = 1 << 15;

/// Panels of one packing task.
fn pack_step(args: &PackArgs, nr: usize) -> usize {
    (PACK_WORK / (args.k * nr).max(1)).max(1)
}

pub(super) fn pack_tasks(args: &PackArgs, nr: usize) -> usize {
    args.n.div_ceil(nr).div_ceil(pack_step(args, nr))
}

/// # Safety
/// The contract of [`PackArgs`].
#[inline(always)]
pub(super) unsafe fn pack(args: &PackArgs, task: usize, nr: usize) {
    let step = pack_step(args, nr);
    for panel in (task * step..(task + 1) * step).take_while(|p| p * nr < args.n) {
        let columns = nr.min(args.n - panel * nr);
        // SAFETY: the panel lies within the packed matrix, and its columns within B.
        unsafe {
            let to = args.packed.add(panel * args.k * nr);
            let from = args.ptr.offset((panel * nr) as isize * args.strides[1]);
            if columns < nr {
                to.write_bytes(0, args.k * nr);
            }
            if args.strides[1] == 1 {
                for k in 0..args.k {
                    let row = from.offset(k as isize * args.strides[0]);
                    // They overlap in damaged plans.
                    core::ptr::copy(row, to.add(k * nr), columns);
                }
            } else {
                pack_transposed(args, from, to, columns, nr);
            }
        }
    }
}

/// Packs a panel column by column, in strips of the depth that stay in L1.
#[inline(always)]
unsafe fn pack_transposed(args: &PackArgs, from: *const f32, to: *mut f32, columns: usize, nr: usize) {
    const STRIP: usize = 64;
    for first in (0..args.k).step_by(STRIP) {
        for column in 0..columns {
            // SAFETY: (k, column) lies within B and the panel.
            unsafe {
                let source = from.offset(column as isize * args.strides[1]);
                for k in first..(first + STRIP).min(args.k) {
                    *to.add(k * nr + column) = *source.offset(k as isize * args.strides[0]);
                }
            }
        }
    }
}
