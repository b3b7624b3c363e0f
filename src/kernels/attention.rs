//! Attention: `Y = softmax(scale * Q K) V`, block of rows by block of rows.
//!
//! A task computes the scores of a few dozen rows with all keys, which stay in the cache of the second level, takes their
//! softmax there and multiplies it with the values: the matrix of all scores never exists. A row's sum divides the
//! product, and not each of its weights.

use super::args::AttentionArgs;
use super::gemm::{MAX_MR, MAX_NR, Tile, TileFns};
use super::math;
use super::simd::Simd;
use core::mem::MaybeUninit;

/// Floats of scores that a block may have.
const SCORES: usize = 32 << 10;
/// Rows of a block come in multiples of this: whole tiles, whose rows are 4, 6 or 12.
const UNIT: usize = 12;
/// The most areas for scores, and so tasks.
const SLOTS: usize = 16;
/// The most panels of keys whose weights one tile kernel sums up.
const PANELS: usize = 32;

/// How the rows are split, by shape alone.
struct Split {
    /// Rows of a block.
    rows: usize,
    blocks: usize,
    tasks: usize,
}

impl Split {
    fn new(m: usize, n: usize, nr: usize) -> Split {
        let most = (SCORES / n.next_multiple_of(nr).max(1) / UNIT * UNIT).clamp(UNIT, 4 * UNIT);
        let rows = most.min(m.div_ceil(4).next_multiple_of(UNIT));
        let blocks = m.div_ceil(rows.max(1));
        Split { rows, blocks, tasks: blocks.min(SLOTS) }
    }
}

/// Floats of [`AttentionArgs::scores`]: queries, keys, columns of a panel.
pub fn attention_scores(m: usize, n: usize, nr: usize) -> usize {
    let split = Split::new(m, n, nr);
    split.tasks * (split.rows + MAX_MR) * n.next_multiple_of(nr)
}

pub(super) fn tasks(args: &AttentionArgs, nr: usize) -> usize {
    if args.m * args.values == 0 { 0 } else { Split::new(args.m, args.n, nr).tasks }
}

/// # Safety
/// The CPU has V's instruction set, the rest is the contract of [`AttentionArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &AttentionArgs,
    task: usize,
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let split = Split::new(args.m, args.n, nr);
    // The innermost kernel may compute rows beyond the last.
    let step = (split.rows + MAX_MR) * nr;
    let panels = args.n.div_ceil(nr);
    for block in task * split.blocks / split.tasks..(task + 1) * split.blocks / split.tasks {
        let first = block * split.rows;
        let count = split.rows.min(args.m - first);
        // SAFETY: the task's own scores, see `attention_scores`; rows of Q and Y.
        unsafe {
            let scores = args.scores.add(task * panels * step);
            for panel in 0..panels {
                let b = args.k.add(panel * args.depth * nr);
                for row in (0..count).step_by(MR) {
                    let rows = MR.min(count - row);
                    let table =
                        [pointers::<MR>(rows, |r| args.q.offset((first + row + r) as isize * args.q_stride))];
                    let acc = scores.add(panel * step + row * nr);
                    tiles[NV - 1][rows - 1](&Tile { table: &table, k: args.depth, b, nr, acc });
                }
            }
            for row in (0..count).step_by(MR) {
                let rows = MR.min(count - row);
                let mut inverse = [0.0; MAX_MR];
                for (r, inverse) in inverse[..rows].iter_mut().enumerate() {
                    *inverse = weigh::<V>(args, scores.add((row + r) * nr), step, nr);
                }
                mix::<V, MR, NV>(args, scores.add(row * nr), step, [first + row, rows], &inverse, tiles);
            }
        }
    }
}

/// Pointers to rows; those beyond the last point to the first.
fn pointers<const MR: usize>(rows: usize, row: impl Fn(usize) -> *const f32) -> [*const f32; MAX_MR] {
    let mut pointers = [core::ptr::null(); MAX_MR];
    for (r, pointer) in pointers[..MR].iter_mut().enumerate() {
        *pointer = row(if r < rows { r } else { 0 });
    }
    pointers
}

/// Turns a row of scores, nr of them every `step`, into weights, and returns the inverse of their sum.
#[inline(always)]
unsafe fn weigh<V: Simd>(args: &AttentionArgs, row: *mut f32, step: usize, nr: usize) -> f32 {
    // SAFETY: the caller vouches for n scores, in whole panels.
    unsafe {
        let (lowest, zero) = (V::splat(f32::NEG_INFINITY), V::splat(0.0));
        let mut top = lowest;
        let mut first = 0;
        while first < args.n {
            let panel = row.add(first / nr * step);
            for i in (0..nr.min(args.n - first)).step_by(V::LANES) {
                top = top.max(V::load(panel.add(i)).keep(args.n - first - i, lowest));
            }
            first += nr;
        }
        let mut largest = f32::NEG_INFINITY;
        for &v in &top.to_array()[..V::LANES] {
            largest = if v > largest { v } else { largest };
        }
        let (scale, largest) = (V::splat(args.scale), V::splat(largest));
        let (mut sum, mut first) = (zero, 0);
        while first < args.n {
            let panel = row.add(first / nr * step);
            for i in (0..nr.min(args.n - first)).step_by(V::LANES) {
                let e = math::exp(V::load(panel.add(i)).sub(largest).mul(scale));
                sum = sum.add(e.keep(args.n - first - i, zero));
                e.store(panel.add(i));
            }
            first += nr;
        }
        (1.0 / sum.sum()) as f32
    }
}

/// The product of some rows of weights with the values.
#[inline(always)]
unsafe fn mix<V: Simd, const MR: usize, const NV: usize>(
    args: &AttentionArgs,
    weights: *const f32,
    step: usize,
    [first, rows]: [usize; 2],
    inverse: &[f32; MAX_MR],
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let (whole, rest) = (args.n / nr, args.n % nr);
    let mut table = [[core::ptr::null(); MAX_MR]; PANELS];
    let mut acc = MaybeUninit::<[f32; MAX_MR * MAX_NR]>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    for column in (0..args.values).step_by(nr) {
        let columns = nr.min(args.values - column);
        let vectors = columns.div_ceil(V::LANES);
        let mut key = 0;
        while key < args.n {
            let panel = key / nr;
            // Whole panels of keys together, the part of one that may be left on its own.
            let (panels, k) = if panel < whole { (PANELS.min(whole - panel), nr) } else { (1, rest) };
            // SAFETY: weights and values of these keys; the tile fills rows x nr of the accumulators; rows of Y.
            unsafe {
                for (i, table) in table[..panels].iter_mut().enumerate() {
                    *table = pointers::<MR>(rows, |r| weights.add((panel + i) * step + r * nr));
                }
                let b = args.v.add(column * args.n + key * nr);
                tiles[vectors - 1][rows - 1](&Tile { table: &table[..panels], k, b, nr, acc });
                for (r, &inverse) in inverse[..rows].iter().enumerate() {
                    let y = args.y.offset((first + r) as isize * args.y_stride).add(column);
                    let inverse = V::splat(inverse);
                    for i in (0..columns).step_by(V::LANES) {
                        let mut sum = V::load(acc.add(r * nr + i)).mul(inverse);
                        if key > 0 {
                            sum = sum.add(V::load_upto(y.add(i), columns - i));
                        }
                        sum.store_upto(y.add(i), columns - i);
                    }
                }
            }
            key += panels * k;
        }
    }
}
