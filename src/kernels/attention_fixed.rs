//! Attention in fixed point: [`attention`](super::attention), with both operands of each product as whole numbers of 16 bits,
//! whose sums are exact as in [`fixed`](super::fixed).
//!
//! Rows of queries have units of their own, and so have keys and columns of values; weights are whole numbers of the largest
//! that there can be. Scores are in f32, in steps of the logarithm to base 2; what makes them weights rounds their distances
//! from the largest to whole steps, and takes powers of these in 16 bits.

use super::areas::At;
use super::args::AttentionArgs;
use super::attention::{
    AttentionShape, Block, DROP, FIXED_DEPTHS, Factors, HALF_PACKS as PACKS, KEYS as SINGLE_KEYS, Keys,
    Matrix, NARROW, Phase, ROWS, Row,
};
use super::fixed::{self, LIMIT, Rounding, STRETCH};
use super::gemm::{Ahead, MAX_MR, MAX_NR};
use super::half::HalfTile;
use super::math::Decay;
use super::simd::{F16, MAX_LANES, Simd};
use core::f32::consts::{LN_2, LOG2_E};
use core::mem::MaybeUninit;
use core::ops::Range;

/// Keys of a block: weights take room beside their scores.
const KEYS: usize = SINGLE_KEYS / 2;
/// What the largest weight counts, as a power of two.
pub(super) const WEIGHT: u32 = 13;
/// Steps to a power of two of weights, likewise.
pub(super) const STEPS: u32 = 11;
/// Elements of a row of queries or weights at the most, with its units.
const QUERY: usize = *FIXED_DEPTHS.end() + 16;
const WEIGHTS: usize = KEYS + 16;

/// The innermost kernels.
pub(super) struct Tiles<const MR: usize, const NV: usize> {
    pub(super) products: fixed::Tiles<MR, NV>,
    /// By rows: scores of a tile, in steps, and the largest of each row. Whether all of them are numbers; if not, those are not
    /// to be relied on.
    pub(super) scores: [unsafe fn(&ScoreTile, &mut [f32; MAX_MR]) -> bool; MR],
    /// The largest score, or NaN if one is, of a row that is made one of steps if it has units.
    pub(super) largest: unsafe fn(&Scores, *const f32) -> f32,
    /// Weights by the distance to this score, which is finite and as large as any, and their sum. They fill whole panels, with
    /// zeros beyond the last.
    pub(super) weights: unsafe fn(&Scores, f32, *mut i16) -> f32,
    /// Where panels are wide enough for [narrow heads](AttentionShape::narrow).
    pub(super) narrow: Option<NarrowFn>,
}

/// Sums of so many panels of values, [panels][NARROW][panel], by a row of weights.
pub(super) type NarrowFn = unsafe fn(*const i16, *const i16, usize) -> [f32; NARROW];

/// Rows of queries, of a single block each, and keys.
pub(super) struct ScoreTile {
    /// The first row, [k] and a unit; the next one is `stride` elements on.
    pub(super) a: *const F16,
    pub(super) stride: usize,
    pub(super) k: usize,
    /// [panels][k / 2][NR][2].
    pub(super) b: *const F16,
    /// A unit a key.
    pub(super) units: *const f32,
    pub(super) keys: usize,
    /// Those of the first panel, [rows][NR]; the next ones are `apart` floats on.
    pub(super) scores: *mut f32,
    pub(super) apart: usize,
}

/// A row of scores.
pub(super) struct Scores {
    /// Those of a panel, which those of the next are `apart` floats from.
    pub(super) first: *mut f32,
    pub(super) apart: usize,
    pub(super) keys: usize,
}

/// A head's packed keys and values, in pairs of rows, and the units of their columns.
struct Packed {
    /// [panels][depth / 2][NR][2].
    keys: *mut F16,
    /// [panels][n / 2][NR][2], or [panels][NARROW][NR], by panels of keys.
    values: *mut F16,
    key_units: *mut f32,
    value_units: *mut f32,
}

impl Packed {
    /// In the place of those in f32.
    fn new(shape: &AttentionShape, [keys, values]: [*mut f32; 2], nr: usize) -> Packed {
        let &AttentionShape { n, depth, values: columns, .. } = shape;
        let units = |from: *mut f32, elements: usize| from.cast::<F16>().wrapping_add(elements).cast();
        let key_units = units(keys, n.next_multiple_of(nr) * even(depth));
        let value_units = if shape.narrow(nr) {
            units(values, n.next_multiple_of(nr) * NARROW)
        } else {
            units(values, columns.next_multiple_of(nr) * even(n))
        };
        Packed { keys: keys.cast(), values: values.cast(), key_units, value_units }
    }
}

fn even(k: usize) -> usize {
    k.next_multiple_of(2)
}

/// # Safety
/// The CPU has V's instruction set and that of the tiles, earlier phases have ended; the contract of [`AttentionArgs`], which
/// [are of this](super::attention::is_fixed).
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &AttentionArgs,
    phase: usize,
    At { task, area }: At,
    tiles: &Tiles<MR, NV>,
) {
    let nr = NV * V::LANES;
    let Some(phase) = Phase::new(args, phase, nr) else { return };
    let shape = phase.shape;
    if phase.packs {
        let head = phase.heads.start + task / PACKS;
        let packed = Packed::new(&shape, phase.packed(args, head), nr);
        // SAFETY: the head's keys or values, and their place in the scratch.
        unsafe {
            if task.is_multiple_of(PACKS) {
                let size = [shape.depth, shape.n];
                let factor = args.scale * LOG2_E * (1 << STEPS) as f32;
                let to = Panels { first: packed.keys, units: packed.key_units, factor, nr, narrow: false };
                pack::<V>(&Matrix::of(&args.k, head), size, LIMIT, &to);
            } else {
                let size = [shape.n, shape.values];
                let (first, units, narrow) = (packed.values, packed.value_units, shape.narrow(nr));
                let to = Panels { first, units, factor: 1.0, nr, narrow };
                pack::<V>(&Matrix::of(&args.v, head), size, (1 << WEIGHT) as f32, &to);
            }
        }
        return;
    }
    for (head, first) in phase.blocks(task) {
        let block = phase.block(args, [head, first], area, nr);
        let packed = Packed::new(&shape, phase.packed(args, head), nr);
        let mut state = [Row { top: f32::NEG_INFINITY, sum: 0.0 }; ROWS];
        for (keys, rows) in block.tiles(KEYS, MR) {
            // SAFETY: rows of the head, at most a tile, its packed keys and values, and the task's own scores.
            unsafe {
                let tops = score::<V, MR, NV>(&block, &packed, keys, rows, tiles);
                weigh::<V, MR, NV>(&block, &packed, keys, rows, (&tops, &mut state[rows[0]..]), tiles);
            }
        }
    }
}

/// Where a matrix is packed.
struct Panels {
    first: *mut F16,
    /// Of columns, times a factor.
    units: *mut f32,
    factor: f32,
    nr: usize,
    /// Whether panels are of rows, and not of columns in pairs of rows.
    narrow: bool,
}

/// As many columns of a matrix as a vector has lanes, or those that are left.
struct Columns {
    from: *const f32,
    row: isize,
    column: isize,
    count: usize,
    /// Whether rows of them are whole vectors, which are read from where they lie.
    whole: bool,
    /// Otherwise the rows of a stretch, each where its number has it.
    gathered: [[f32; MAX_LANES]; STRETCH],
}

impl Columns {
    /// Goes on to columns from one on, of a matrix of so many.
    fn begin(&mut self, matrix: &Matrix, first: usize, columns: usize, lanes: usize) {
        self.from = matrix.ptr.cast_const().wrapping_offset(first as isize * self.column);
        self.count = lanes.min(columns - first);
        self.whole = self.column == 1 && self.count == lanes;
    }

    /// Makes rows of a stretch vectors, if they are not: column by column, each of which may lie in one piece.
    ///
    /// # Safety
    /// The matrix has these rows.
    #[inline(always)]
    unsafe fn gather(&mut self, rows: Range<usize>) {
        for j in (0..self.count).filter(|_| !self.whole) {
            let column = self.from.wrapping_offset(j as isize * self.column);
            for i in rows.clone() {
                // SAFETY: an element of the matrix.
                self.gathered[i % STRETCH][j] = unsafe { *column.offset(i as isize * self.row) };
            }
        }
    }

    /// Row i, of the stretch that was gathered last.
    ///
    /// # Safety
    /// The CPU has V's instruction set, and the matrix this row.
    #[inline(always)]
    unsafe fn load<V: Simd>(&self, i: usize) -> V {
        let row = match self.whole {
            true => self.from.wrapping_offset(i as isize * self.row),
            false => self.gathered[i % STRETCH].as_ptr(),
        };
        // SAFETY: a whole vector in either place.
        unsafe { V::load(row) }
    }

    /// The smallest units with which no sum of [`STRETCH`] products with whole numbers up to `other` leaves 32 bits. All rows are
    /// gathered for it, stretch by stretch.
    ///
    /// # Safety
    /// As [`Columns::load`], for so many rows.
    #[inline(always)]
    unsafe fn units<V: Simd>(&mut self, rows: usize, other: f32) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            let zero = V::splat(0.0);
            let (mut most, mut largest) = (zero, zero);
            for rows in stretches(rows) {
                self.gather(rows.clone());
                let mut sum = zero;
                for i in rows {
                    let x = self.load::<V>(i).abs();
                    most = most.max_nan(x);
                    sum = sum.add(x);
                }
                largest = largest.max_nan(sum);
            }
            // Blocks begin anywhere, so that one has parts of two stretches.
            let apart = if rows > STRETCH { 2.0 } else { 1.0 };
            let unit = most.mul(zero.like(1.0 / f32::from(i16::MAX)));
            unit.max_nan(largest.mul(zero.like(apart / fixed::room(other) as f32)))
        }
    }
}

/// So many rows in pieces of [`STRETCH`].
fn stretches(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(STRETCH).map(move |first| first..rows.min(first + STRETCH))
}

/// Packs a matrix by columns of their own units, see [`Columns::units`].
#[inline(always)]
unsafe fn pack<V: Simd>(matrix: &Matrix, [rows, columns]: [usize; 2], other: f32, to: &Panels) {
    let &Panels { first: packed, units, factor, nr, narrow } = to;
    let [row, column] = matrix.strides;
    let gathered = [[0.0; MAX_LANES]; STRETCH];
    let mut own = Columns { from: matrix.ptr, row, column, count: 0, whole: false, gathered };
    for first in (0..columns).step_by(V::LANES) {
        own.begin(matrix, first, columns, V::LANES);
        // SAFETY: elements of the matrix, and of its panels and their units.
        unsafe {
            let zero = V::splat(0.0);
            let unit = own.units::<V>(rows, other);
            unit.mul(zero.like(factor)).store(units.add(first));
            let scale = zero.like(1.0).div(unit.max_nan(zero.like(f32::MIN_POSITIVE)));
            let panel = packed.add(first / nr * nr * even(rows) + 2 * (first % nr));
            let mut pair = [[0; 16]; 2];
            for i in (0..rows).step_by(2) {
                if i % STRETCH == 0 && rows > STRETCH {
                    own.gather(i..rows.min(i + STRETCH));
                }
                for (i, whole) in (i..).zip(&mut pair) {
                    // Infinity times 0, the scale of its column, is what it is a sign of.
                    let x = if i < rows { own.load(i) } else { zero };
                    let finite = x.abs().le(zero.like(f32::MAX));
                    let end = zero.like(f32::from(i16::MAX)).copysign(x);
                    V::select(finite, x.mul(scale), end).store_whole(whole.as_mut_ptr());
                }
                if narrow {
                    for (i, whole) in (i..rows).zip(&pair) {
                        let to = packed.cast::<i16>().add(i / nr * nr * NARROW + i % nr);
                        for (j, &value) in whole[..own.count].iter().enumerate() {
                            *to.add(j * nr) = value;
                        }
                    }
                    continue;
                }
                let to = panel.add(i * nr).cast::<[i16; 2]>();
                for (j, (&even, &odd)) in pair[0].iter().zip(&pair[1]).enumerate().take(V::LANES) {
                    *to.add(j) = [even, odd];
                }
            }
        }
    }
}

/// Scores of a tile's rows in steps, panel by panel, and the largest of each row, or NaN if one is.
#[inline(always)]
unsafe fn score<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    packed: &Packed,
    keys: Keys,
    [first, rows]: [usize; 2],
    tiles: &Tiles<MR, NV>,
) -> [f32; MAX_MR] {
    let nr = NV * V::LANES;
    let depth = block.shape.depth;
    let k = even(depth);
    let mut queries = MaybeUninit::<[[F16; QUERY]; MAX_MR]>::uninit();
    let queries = queries.as_mut_ptr().cast::<F16>();
    // SAFETY: rows of queries, and panels of keys and scores; there is room for those of a tile.
    unsafe {
        for number in 0..fixed::blocks(k) {
            let start = number * fixed::stretch(k);
            let count = fixed::stretch(k).min(depth - start);
            let q =
                |r: usize| block.q.wrapping_offset((first + r) as isize * block.q_stride).wrapping_add(start);
            let from: [*const f32; MAX_MR] = core::array::from_fn(|r| if r < rows { q(r) } else { block.q });
            let (to, unit) = (queries.add(start), queries.add(k + number * fixed::UNIT));
            let (from, scale) = (&from[..rows], core::ptr::null());
            (tiles.products.round)(&Rounding { from, count, scale, to, unit, step: QUERY });
        }
        if depth < k {
            for r in 0..rows {
                *queries.add(r * QUERY + depth) = 0;
            }
        }
        let (a, stride, b) = (queries, QUERY, packed.keys.add(keys.first * k));
        let mut units = packed.key_units.add(keys.first).cast_const();
        let mut tops = [f32::NEG_INFINITY; MAX_MR];
        if fixed::blocks(k) == 1 {
            let (scores, apart) = (block.scores, nr * MR);
            let tile = ScoreTile { a, stride, k, b, units, keys: keys.count, scores, apart };
            if (tiles.scores[rows - 1])(&tile, &mut tops) {
                return tops;
            }
            units = core::ptr::null();
        } else {
            for key in (0..keys.count).step_by(nr) {
                let vectors = nr.min(keys.count - key).div_ceil(V::LANES);
                let (b, acc) = (b.add(key * k), block.scores.add(key * MR));
                let (stretch, ahead) = (fixed::stretch(k), Ahead::of(b, nr * size_of::<F16>()));
                let tile = HalfTile { a, stride, tiles: 1, k, stretch, b, acc, ahead };
                tiles.products.tiles[vectors - 1][rows - 1](&tile);
            }
        }
        for (r, top) in tops.iter_mut().enumerate().take(rows) {
            *top = (tiles.largest)(&row::<V, MR, NV>(block, keys, r), units);
        }
        tops
    }
}

/// A row of a tile's scores.
fn row<V: Simd, const MR: usize, const NV: usize>(block: &Block, keys: Keys, row: usize) -> Scores {
    let nr = NV * V::LANES;
    Scores { first: block.scores.wrapping_add(row * nr), apart: nr * MR, keys: keys.count }
}

/// Turns the scores of a tile's rows into weights, and adds the values by these to the result.
#[inline(always)]
unsafe fn weigh<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    packed: &Packed,
    keys: Keys,
    [first, rows]: [usize; 2],
    (tops, state): (&[f32; MAX_MR], &mut [Row]),
    tiles: &Tiles<MR, NV>,
) {
    let nr = NV * V::LANES;
    let AttentionShape { n, values, .. } = block.shape;
    let narrow = tiles.narrow.filter(|_| block.shape.narrow(nr));
    let k = even(keys.count);
    let mut weights = MaybeUninit::<[[F16; WEIGHTS]; MAX_MR]>::uninit();
    let weights = weights.as_mut_ptr().cast::<F16>();
    let mut acc = MaybeUninit::<[f32; MAX_MR * MAX_NR]>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    let mut factors = [Factors { old: 0.0, new: 1.0 }; MAX_MR];
    // SAFETY: the tile's scores are there; rows of the result, and panels of values.
    unsafe {
        let decay = Decay::<V, DROP>::new(V::splat(0.0), LN_2 / (1 << STEPS) as f32);
        for (r, (row, factors)) in state.iter_mut().zip(&mut factors).take(rows).enumerate() {
            factors.old = row.rise(tops[r], keys, &decay);
            let to = weights.add(r * WEIGHTS);
            let sum = (tiles.weights)(&self::row::<V, MR, NV>(block, keys, r), row.top, to.cast());
            let sum = if tops[r].is_nan() { f32::NAN } else { sum };
            row.sum = row.sum * factors.old + sum;
            if keys.last {
                factors.new = 1.0 / row.sum;
            }
            if let Some(narrow) = narrow {
                let values = packed.values.add(keys.first * NARROW).cast::<i16>();
                let sums = narrow(to.cast(), values, keys.count.div_ceil(nr));
                // Whole vectors of them, and of units, are read.
                let mut part = [0.0; MAX_LANES];
                part[..NARROW].copy_from_slice(&sums);
                join::<V>(block.y_row(first + r), part.as_ptr(), packed.value_units, NARROW, *factors);
                continue;
            }
            for number in 0..fixed::blocks(k) {
                to.add(k + number * fixed::UNIT).cast::<f32>().write_unaligned(1.0);
            }
        }
        if narrow.is_some() {
            return;
        }
        for column in (0..values).step_by(nr) {
            let columns = nr.min(values - column);
            let b = packed.values.add(column * even(n) + keys.first * nr);
            let ahead = Ahead::of(b, nr * size_of::<F16>());
            let (a, stretch) = (weights, fixed::stretch(k));
            let tile = HalfTile { a, stride: WEIGHTS, tiles: 1, k, stretch, b, acc, ahead };
            tiles.products.tiles[columns.div_ceil(V::LANES) - 1][rows - 1](&tile);
            for (r, &factors) in factors[..rows].iter().enumerate() {
                let y = block.y_row(first + r).add(column);
                join::<V>(y, acc.add(r * nr), packed.value_units.add(column), columns, factors);
            }
        }
    }
}

/// Adds a part, of columns in these units, to a row of the result.
#[inline(always)]
unsafe fn join<V: Simd>(y: *mut f32, part: *const f32, units: *const f32, columns: usize, factors: Factors) {
    // SAFETY: the caller vouches for so many columns, and for whole vectors of the part and of units.
    unsafe {
        let (old, new) = (V::splat(factors.old), V::splat(factors.new));
        for i in (0..columns).step_by(V::LANES) {
            let left = columns - i;
            let mut sum = V::load(part.add(i)).mul(V::load(units.add(i)));
            if factors.old > 0.0 {
                sum = V::load_upto(y.add(i), left).mul_add(old, sum);
            }
            sum.mul(new).store_upto(y.add(i), left);
        }
    }
}
