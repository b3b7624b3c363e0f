//! Matrix products and convolutions: `C = activation(A B + bias + residual)`.
//!
//! B lies in panels of NR columns. A task owns a block of C; it walks the depth in blocks that keep a strip of A in L1
//! and its panels of B in L2, and within a block computes tiles of up to MR x NR in registers. A's rows are reached
//! through a table of pointers, one a row and tap, so that a convolution needs no patch matrix. Partial sums of
//! earlier depth blocks wait in C.

use super::args::{Activation, GemmArgs, PackArgs, Patches, Rows};
use super::math;
use super::simd::Simd;
use core::mem::MaybeUninit;

/// The most rows of a tile.
pub(super) const MAX_MR: usize = 16;
/// The most columns of a tile.
pub(super) const MAX_NR: usize = 32;
/// The most taps of a depth block.
const MAX_TAPS: usize = 16;
/// The depth of a block.
const DEPTH: usize = 512;
/// Rows of C in a task.
const ROWS: usize = 128;
/// Columns of C in a task.
const COLUMNS: usize = 256;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 19;
/// Tasks beyond which none is split further.
const ENOUGH_TASKS: usize = 32;
/// Row pointers, by tap and row.
type Table = [[*const f32; MAX_MR]; MAX_TAPS];

/// What the innermost kernel is given: `acc[r] = sum over taps, k of table[tap][r][k] * b[tap, k]`, in each case the
/// first NV vectors of NR columns.
pub(super) struct Tile<'a> {
    pub(super) table: &'a [[*const f32; MAX_MR]],
    pub(super) k: usize,
    /// [taps][k][NR].
    pub(super) b: *const f32,
    pub(super) nr: usize,
    /// [rows][NR].
    pub(super) acc: *mut f32,
}

/// A tile kernel of a fixed number of rows and vectors.
pub(super) type TileFn = unsafe fn(&Tile);
/// By number of vectors, from one up to all of a panel, and by number of rows: computes at least as many.
pub(super) type TileFns<const MR: usize, const NV: usize> = [[TileFn; MR]; NV];

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
    fn new(args: &GemmArgs, mr: usize, nr: usize) -> Split {
        let all = args.n.div_ceil(nr).max(1);
        let m = args.m.max(1);
        let work = m.saturating_mul(args.n).saturating_mul(args.k * args.taps);
        let wanted = (work / TASK_WORK).clamp(1, ENOUGH_TASKS);
        let mut rows = even(m, ROWS / mr * mr, mr);
        let mut panels = even(all, (COLUMNS / nr).max(1), 1);
        while m.div_ceil(rows) * all.div_ceil(panels) < wanted && panels > 1 {
            panels = panels.div_ceil(2);
        }
        // Fewer rows would leave a panel of B too few uses while it is in the cache.
        while m.div_ceil(rows) * all.div_ceil(panels) < wanted && rows > 4 * mr {
            rows = (rows / 2).next_multiple_of(mr);
        }
        Split { rows, panels, down: m.div_ceil(rows), across: all.div_ceil(panels) }
    }
}

/// A step of at most `most` that divides `total` about evenly, in multiples of `unit`.
fn even(total: usize, most: usize, unit: usize) -> usize {
    total.div_ceil(total.div_ceil(most).max(1)).next_multiple_of(unit).max(unit)
}

pub(super) fn tasks(args: &GemmArgs, mr: usize, nr: usize) -> usize {
    if args.m == 0 || args.n == 0 {
        return 0;
    }
    let split = Split::new(args, mr, nr);
    split.down * split.across
}

/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`GemmArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &GemmArgs,
    task: usize,
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let split = Split::new(args, MR, nr);
    let (row, panel) = (task / split.across * split.rows, task % split.across * split.panels);
    let block = Block {
        rows: [row, (row + split.rows).min(args.m)],
        panels: [panel, (panel + split.panels).min(args.n.div_ceil(nr))],
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
        unsafe { depth_block::<V, MR, NV>(args, &block, &depth, tiles) };
        if depth.last {
            return;
        }
    }
}

/// A block of the depth: some whole taps, or a part of one.
struct Depth {
    taps: [usize; 2],
    ks: [usize; 2],
    last: bool,
}

impl Depth {
    fn first(&self) -> bool {
        self.taps[0] == 0 && self.ks[0] == 0
    }
}

/// Adds one block of the depth to a block of C.
#[inline(always)]
unsafe fn depth_block<V: Simd, const MR: usize, const NV: usize>(
    args: &GemmArgs,
    block: &Block,
    depth: &Depth,
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let k = depth.ks[1] - depth.ks[0];
    let mut table: Table = [[core::ptr::null(); MAX_MR]; MAX_TAPS];
    let mut acc = MaybeUninit::<Accumulators>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    for row in (block.rows[0]..block.rows[1]).step_by(MR) {
        let rows = MR.min(block.rows[1] - row);
        // SAFETY: rows, taps and depth lie within A, panels within B; the tile fills rows x NR of the accumulators
        // (fewer than MAX_MR x MAX_NR), which is what the epilogue reads.
        unsafe {
            point(&args.a, row, rows, MR, depth, &mut table);
            for panel in block.panels[0]..block.panels[1] {
                let b = args.b.add((panel * args.taps * args.k + depth.taps[0] * args.k + depth.ks[0]) * nr);
                let table = &table[..depth.taps[1] - depth.taps[0]];
                let vectors = nr.min(args.n - panel * nr).div_ceil(V::LANES);
                tiles[vectors - 1][rows - 1](&Tile { table, k, b, nr, acc });
                epilogue::<V>(args, depth, acc, nr, [row, rows], panel * nr);
            }
        }
    }
}

#[repr(C, align(64))]
struct Accumulators([f32; MAX_MR * MAX_NR]);

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

/// The innermost kernel, R x (NV vectors).
///
/// # Safety
/// The CPU has V's instruction set; the tile's pointers are good for its depth, R rows and NV vectors.
#[inline(always)]
pub(super) unsafe fn tile<V: Simd, const R: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; R];
        let mut b = t.b;
        for rows in t.table {
            let rows: &[*const f32; MAX_MR] = rows;
            // One load of a row for four steps. Loads of single values would be too many for a core that issues in order.
            let by_lane = if V::BY_LANE { t.k / 4 * 4 } else { 0 };
            for k in (0..by_lane).step_by(4) {
                let mut values = [V::splat(0.0); R];
                unroll!(ROW, R, {
                    values[ROW] = V::load(rows[ROW].add(k));
                });
                step::<V, 0, R, NV>(&mut acc, &values, b);
                step::<V, 1, R, NV>(&mut acc, &values, b.add(t.nr));
                step::<V, 2, R, NV>(&mut acc, &values, b.add(2 * t.nr));
                step::<V, 3, R, NV>(&mut acc, &values, b.add(3 * t.nr));
                b = b.add(4 * t.nr);
            }
            for k in by_lane..t.k {
                let mut bs = [V::splat(0.0); NV];
                for (v, bs) in bs.iter_mut().enumerate() {
                    *bs = V::load(b.add(v * V::LANES));
                }
                b = b.add(t.nr);
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
                acc.store(t.acc.add(ROW * t.nr + v * V::LANES));
            }
        });
    }
}

/// Adds the products of one lane of each row's values with a row of B.
///
/// # Safety
/// `b` is readable for NV vectors.
#[inline(always)]
unsafe fn step<V: Simd, const LANE: i32, const R: usize, const NV: usize>(
    acc: &mut [[V; NV]; R],
    values: &[V; R],
    b: *const f32,
) {
    unroll!(ROW, R, {
        for (v, acc) in acc[ROW].iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            let b = unsafe { V::load(b.add(v * V::LANES)) };
            *acc = values[ROW].mul_add_lane::<LANE>(b, *acc);
        }
    });
}

/// Adds what belongs to a tile before the first block of the depth (bias and residual) or what earlier blocks left in
/// C, and stores; applies the activation after the last block.
#[inline(always)]
unsafe fn epilogue<V: Simd>(
    args: &GemmArgs,
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
    // SAFETY: columns column..column + columns of these rows are within C, bias and residual.
    unsafe {
        let tile = args.c.offset(rows[0] as isize * args.c_stride).add(column);
        for r in 0..rows[1] {
            let c = tile.offset(r as isize * args.c_stride);
            for i in (0..columns).step_by(V::LANES) {
                let left = columns - i;
                let mut sum = V::load(acc.add(r * nr + i));
                if bias {
                    sum = sum.add(V::load_upto(args.bias.add(column + i), left));
                }
                if !add.is_null() {
                    let row = add.offset((rows[0] + r) as isize * add_stride);
                    sum = sum.add(V::load_upto(row.add(column + i), left));
                }
                sum.store_upto(c.add(i), left);
            }
        }
        if depth.last && args.activation != Activation::None {
            math::activate::<V>(args.activation, tile, rows[1], columns, args.c_stride);
        }
    }
}

/// Fills the table with the pointers of rows row..row + rows at the block's taps; rows beyond point to the first one.
unsafe fn point(a: &Rows, row: usize, rows: usize, mr: usize, depth: &Depth, table: &mut Table) {
    for r in 0..mr {
        let r_or_first = if r < rows { r } else { 0 };
        match a {
            Rows::Matrix { ptr, stride } => {
                // SAFETY: a row of the matrix and an offset within its depth.
                table[0][r] = unsafe { ptr.offset((row + r_or_first) as isize * stride).add(depth.ks[0]) };
            }
            Rows::Patches(p) if r < rows => {
                let pixel = Pixel::new(p, row + r);
                let (mut i, mut j) = (depth.taps[0] / p.kernel[1], depth.taps[0] % p.kernel[1]);
                for entry in &mut table[..depth.taps[1] - depth.taps[0]] {
                    // SAFETY: as above; the zeros are as many as the depth of a tap.
                    entry[r] = unsafe { pixel.tap(p, i, j).unwrap_or(p.zeros).add(depth.ks[0]) };
                    j += 1;
                    if j == p.kernel[1] {
                        (i, j) = (i + 1, 0);
                    }
                }
            }
            Rows::Patches(_) => {
                for entry in &mut table[..depth.taps[1] - depth.taps[0]] {
                    entry[r] = entry[0];
                }
            }
        }
    }
}

/// An output pixel of a convolution or pooling: its image, and the input pixel below its first tap.
pub(super) struct Pixel {
    image: *const f32,
    y: isize,
    x: isize,
}

impl Pixel {
    pub(super) fn new(p: &Patches, m: usize) -> Pixel {
        let (x, rest) = (m % p.output[1], m / p.output[1]);
        let (y, n) = (rest % p.output[0], rest / p.output[0]);
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
                    core::ptr::copy_nonoverlapping(row, to.add(k * nr), columns);
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
