//! Attention in half precision, on CPUs that compute in it: [`attention`](super::attention), with scores, weights and both
//! operands of each product in half precision.
//!
//! Nothing leaves its range, whatever the operands are: powers of two, one a row of queries and one each for a head's keys
//! and values, bring the largest magnitudes to where no sum can overflow. Scores come out in units of a power of two of
//! the logarithm to base 2, so that to subtract the largest and to take the power of the rest needs no further rounding
//! factor. Sums of weights, and of weighted values of different keys beyond a few dozen, are in f32.

use super::areas::At;
use super::args::AttentionArgs;
use super::attention::{
    AttentionShape, Block, Factors, HALF_DEEPEST as DEEPEST, HALF_PACKS as PACKS, KEYS as SINGLE_KEYS, Keys,
    Matrix, Phase, ROWS, Row, join, larger,
};
use super::gemm::{Ahead, MAX_MR, MAX_NR};
use super::half::{HalfTile, HalfTileFns};
use super::math;
use super::simd::{F16, Simd};
use core::f32::consts::{LN_2, LOG2_E};
use core::mem::MaybeUninit;

/// Keys of a block: a tile's scores take half of the scratch that they have for as many in f32.
const KEYS: usize = 2 * SINGLE_KEYS;
/// The largest magnitudes of a row of queries, and of a head's keys and values, are below 2 to the power of these: a sum
/// of [`DEEPEST`] products of the former, and one of [`STRETCH`] values by their weights, stay below 2^15.
const QUERIES: i32 = 4;
const KEYS_BELOW: i32 = 4;
const VALUES: i32 = 1;
/// What sums of products stay below, as a power of two.
const SCORES: i32 = 15;
/// The depth over which weighted values are added up in half precision.
const STRETCH: usize = 64;
/// Powers of two that scores may have for their unit, so that neither it nor the lowest distance leaves half precision.
const UNITS: [i32; 2] = [-15, 11];

/// What the kernel of scores is given: `scores[r] = sum over k of a[r][k] * b[k]`, in each case the first vectors of NR
/// columns.
pub(super) struct ScoreTile {
    /// [rows][k].
    pub(super) a: *const F16,
    pub(super) k: usize,
    /// [panels][k][NR].
    pub(super) b: *const F16,
    pub(super) panels: usize,
    /// Row r begins at `scores + r * stride`, a panel's columns after those of the one before.
    pub(super) scores: *mut F16,
    pub(super) stride: usize,
}

/// Kernels of scores, as [`HalfTileFns`].
pub(super) type ScoreTileFns<const MR: usize, const NV: usize> = [[unsafe fn(&ScoreTile); MR]; NV];

/// The innermost kernels.
pub(super) struct Tiles<const MR: usize, const NV: usize> {
    pub(super) scores: ScoreTileFns<MR, NV>,
    /// The largest of some whole vectors of scores.
    pub(super) largest: unsafe fn(*const F16, usize) -> f32,
    /// Turns so many into weights, and returns their sum.
    pub(super) weights: unsafe fn(*mut F16, usize, &Decay) -> f32,
    pub(super) sums: HalfTileFns<MR, NV>,
}

/// Weights: 2 to the power of [`Decay::LARGEST`] + `factor` * (score - `top`), exactly 0 where that is below 2^-14 or so.
pub(super) struct Decay {
    /// The largest score.
    pub(super) top: f32,
    /// A power of two.
    pub(super) factor: f32,
    /// The distance from the largest score from which on weights are 0.
    pub(super) lowest: f32,
}

impl Decay {
    /// The largest weight, as a power of two.
    pub(super) const LARGEST: i32 = 8;

    fn new(top: f32, unit: i32) -> Decay {
        let lowest = -(Self::LARGEST + 14) as f32 * power_of_two(unit);
        Decay { top, factor: power_of_two(-unit), lowest }
    }
}

/// A head's packed keys and values.
struct Packed {
    /// [panels][depth][NR].
    keys: *mut F16,
    /// [panels][n][NR].
    values: *mut F16,
    /// The power of two that keys are multiplied by, and the factor that makes values what they were.
    exponent: *mut i32,
    unscale: *mut f32,
}

impl Packed {
    /// In the place of those in f32.
    fn new(shape: &AttentionShape, keys: *mut f32, nr: usize) -> Packed {
        let keys = keys.cast::<F16>();
        let values = keys.wrapping_add(shape.n.next_multiple_of(nr) * shape.depth);
        let end = values.wrapping_add(shape.values.next_multiple_of(nr) * shape.n).cast::<f32>();
        Packed { keys, values, exponent: end.cast(), unscale: end.wrapping_add(1) }
    }
}

/// # Safety
/// The CPU has V's instruction set and that of the tiles, earlier phases have ended; the contract of [`AttentionArgs`], which
/// [are of this](super::attention::is_half).
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &AttentionArgs,
    phase: usize,
    At { task, area }: At,
    tiles: &Tiles<MR, NV>,
    single_nr: usize,
) {
    let nr = 2 * NV * V::LANES;
    let Some(phase) = Phase::new(args, phase, single_nr) else { return };
    let shape = phase.shape;
    if phase.packs {
        let head = phase.heads.start + task / PACKS;
        let packed = Packed::new(&shape, phase.packed(args, head)[0], nr);
        // SAFETY: the head's keys or values, and their place in the scratch.
        unsafe {
            if task.is_multiple_of(PACKS) {
                let keys = Matrix::of(&args.k, head);
                let exponent = pack::<V>(&keys, [shape.depth, shape.n], packed.keys, nr, KEYS_BELOW);
                *packed.exponent = exponent;
            } else {
                let values = Matrix::of(&args.v, head);
                let exponent = pack::<V>(&values, [shape.n, shape.values], packed.values, nr, VALUES);
                *packed.unscale = power_of_two(-exponent);
            }
        }
        return;
    }
    for (head, first) in phase.blocks(task) {
        let block = phase.block(args, [head, first], area, single_nr);
        let packed = Packed::new(&shape, block.k.cast_mut(), nr);
        // SAFETY: rows of the head, its packed keys and values, and the area's scores.
        unsafe { attend::<V, MR, NV>(&block, &packed, tiles) };
    }
}

/// 2 to the power of an exponent of a normal number.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The power of two that brings a magnitude to below 2^`below`, as near as it can.
fn exponent(magnitude: f32, below: i32) -> i32 {
    if magnitude == 0.0 {
        return 0;
    }
    let own = (magnitude.to_bits() >> 23) as i32 - 127;
    (below - 1 - own).clamp(-126, 126)
}

/// The magnitudes of a vector, 0 where it is not finite.
#[inline(always)]
fn finite<V: Simd>(x: V) -> V {
    let magnitude = x.abs();
    V::select(magnitude.le(x.like(f32::MAX)), magnitude, x.like(0.0))
}

/// The largest magnitude of finite values.
#[inline(always)]
unsafe fn magnitude<V: Simd>(x: *const f32, count: usize, largest: &mut V) {
    // SAFETY: the caller vouches for `count` values.
    unsafe {
        let whole = count / (2 * V::LANES) * (2 * V::LANES);
        for i in (0..whole).step_by(2 * V::LANES) {
            let [a, b] = [V::load(x.add(i)), V::load(x.add(i + V::LANES))];
            *largest = largest.max(finite(a).max(finite(b)));
        }
        for i in (whole..count).step_by(V::LANES) {
            *largest = largest.max(finite(V::load_upto(x.add(i), count - i)));
        }
    }
}

/// Packs a matrix in half precision, times a power of two, which it returns, that brings its largest magnitude to below
/// 2^`below`.
#[inline(always)]
unsafe fn pack<V: Simd>(
    matrix: &Matrix,
    [rows, columns]: [usize; 2],
    packed: *mut F16,
    nr: usize,
    below: i32,
) -> i32 {
    let [row, column] = matrix.strides;
    let from = matrix.ptr.cast_const();
    // SAFETY: elements of the matrix, and of its panels.
    unsafe {
        let mut largest = V::splat(0.0);
        // Along what is contiguous.
        let (lines, length, line) = if row == 1 { (columns, rows, column) } else { (rows, columns, row) };
        for i in 0..lines {
            let from = from.offset(i as isize * line);
            if row == 1 || column == 1 {
                magnitude(from, length, &mut largest);
            } else {
                for j in 0..length {
                    largest = largest.max(finite(V::splat(*from.offset(j as isize * column))));
                }
            }
        }
        let exponent = exponent(largest.largest(), below);
        let scale = V::splat(power_of_two(exponent));
        let mut buffer = [0.0; MAX_NR];
        for first in (0..columns).step_by(nr) {
            let count = nr.min(columns - first);
            if count < nr {
                buffer = [0.0; MAX_NR];
            }
            for i in 0..rows {
                let from = from.offset(i as isize * row + first as isize * column);
                let to = packed.add(first * rows + i * nr);
                let whole = column == 1 && count == nr;
                if !whole {
                    for (j, value) in buffer[..count].iter_mut().enumerate() {
                        *value = *from.offset(j as isize * column);
                    }
                }
                let from = if whole { from } else { buffer.as_ptr() };
                for j in (0..nr).step_by(V::LANES) {
                    V::load(from.add(j)).mul(scale).store_half(to.add(j));
                }
            }
        }
        exponent
    }
}

#[inline(always)]
unsafe fn attend<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    packed: &Packed,
    tiles: &Tiles<MR, NV>,
) {
    let mut state = [Row { top: f32::NEG_INFINITY, sum: 0.0 }; ROWS];
    for (keys, rows) in block.tiles(KEYS, MR) {
        // SAFETY: rows of the block, at most a tile.
        unsafe {
            let units = score::<V, MR, NV>(block, packed, keys, rows, &tiles.scores);
            weigh::<V, MR, NV>(block, packed, keys, rows, &units, &mut state[rows[0]..], tiles);
        }
    }
}

/// Values of a row of scores with so many keys.
fn stride(keys: usize, nr: usize) -> usize {
    keys.next_multiple_of(nr)
}

/// Scores of a tile's rows, panel by panel, and their units, as powers of two.
#[inline(always)]
unsafe fn score<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    packed: &Packed,
    keys: Keys,
    [first, rows]: [usize; 2],
    tiles: &ScoreTileFns<MR, NV>,
) -> [i32; MAX_MR] {
    let nr = 2 * NV * V::LANES;
    let depth = block.shape.depth;
    let mut queries = MaybeUninit::<[F16; MAX_MR * DEEPEST]>::uninit();
    let queries = queries.as_mut_ptr().cast::<F16>();
    let mut units = [0; MAX_MR];
    let (scores, stride) = (block.scores.cast::<F16>(), stride(keys.count, nr));
    // SAFETY: rows of queries, and panels of keys and scores.
    unsafe {
        for (r, unit) in units[..rows].iter_mut().enumerate() {
            let q = block.q.wrapping_offset((first + r) as isize * block.q_stride);
            *unit = query::<V>(q, depth, block.scale, *packed.exponent, queries.add(r * depth));
        }
        let whole = keys.count / nr;
        let score = |panel: usize, panels: usize, vectors: usize| {
            let b = packed.keys.add((keys.first + panel * nr) * depth);
            let scores = scores.add(panel * nr);
            let tile = ScoreTile { a: queries, k: depth, b, panels, scores, stride };
            tiles[vectors - 1][rows - 1](&tile);
        };
        if whole > 0 {
            score(0, whole, NV);
        }
        if whole * nr < keys.count {
            score(whole, 1, (keys.count % nr).div_ceil(2 * V::LANES));
        }
        // What lies beyond the last key has a weight of 0.
        for r in 0..rows {
            for key in keys.count..stride {
                *scores.add(r * stride + key) = NEGATIVE_INFINITY;
            }
        }
    }
    units
}

const NEGATIVE_INFINITY: F16 = 0xfc00;

/// A row of queries in half precision, times the scale and a power of two; what that and the keys' power leave of the unit
/// of its scores.
#[inline(always)]
unsafe fn query<V: Simd>(q: *const f32, depth: usize, scale: f32, keys: i32, to: *mut F16) -> i32 {
    // SAFETY: the caller vouches for `depth` values.
    unsafe {
        let mut largest = V::splat(0.0);
        magnitude(q, depth, &mut largest);
        let deep = (usize::BITS - depth.leading_zeros()) as i32;
        let scale = scale * LOG2_E;
        let largest = (largest.largest() * scale).min(f32::MAX);
        let own = exponent(largest, QUERIES.min(SCORES - KEYS_BELOW - deep));
        let unit = (own + keys).clamp(UNITS[0], UNITS[1]);
        // A row of tiny scores comes out smaller than it could.
        let own = own.min(unit - keys).max(-126);
        let factor = V::splat(scale * power_of_two(own));
        for i in (0..depth).step_by(V::LANES) {
            let left = depth - i;
            let x = V::load_upto(q.add(i), left).mul(factor);
            if left >= V::LANES { x.store_half(to.add(i)) } else { x.store_half_first(to.add(i), left) }
        }
        unit
    }
}

/// Turns the scores of a tile's rows into weights, and adds the values by these to the result.
#[inline(always)]
unsafe fn weigh<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    packed: &Packed,
    keys: Keys,
    [first, rows]: [usize; 2],
    units: &[i32; MAX_MR],
    state: &mut [Row],
    tiles: &Tiles<MR, NV>,
) {
    let nr = 2 * NV * V::LANES;
    let (scores, stride) = (block.scores.cast::<F16>(), stride(keys.count, nr));
    let AttentionShape { n, values, .. } = block.shape;
    let mut factors = [Factors { old: 0.0, new: 1.0 }; MAX_MR];
    let mut acc = MaybeUninit::<[f32; MAX_MR * MAX_NR]>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    // SAFETY: the tile's scores are there; rows of the result, and panels of values.
    unsafe {
        for (r, (row, factors)) in state.iter_mut().zip(&mut factors).take(rows).enumerate() {
            let scores = scores.add(r * stride);
            // Minus infinity stays out of differences: a row of nothing else has weights of 0.
            let top = larger((tiles.largest)(scores, stride), larger(row.top, LOWEST));
            if keys.first > 0 {
                let distance = (row.top - top) * power_of_two(-units[r]) * LN_2;
                factors.old = math::exp(V::splat(distance)).to_array()[0];
            }
            row.top = top;
            let sum = (tiles.weights)(scores, stride, &Decay::new(top, units[r]));
            row.sum = row.sum * factors.old + sum;
            if keys.last {
                factors.new = *packed.unscale / row.sum;
            }
        }
        for column in (0..values).step_by(nr) {
            let columns = nr.min(values - column);
            let vectors = columns.div_ceil(2 * V::LANES);
            let b = packed.values.add(column * n + keys.first * nr);
            let ahead = Ahead::of(b, nr * size_of::<F16>());
            let tile =
                HalfTile { a: scores, stride, tiles: 1, k: keys.count, stretch: STRETCH, b, acc, ahead };
            tiles.sums[vectors - 1][rows - 1](&tile);
            for (r, &factors) in factors[..rows].iter().enumerate() {
                let y = block.y_row(first + r).add(column);
                join::<V>(y, acc.add(r * nr), columns, factors);
            }
        }
    }
}

/// The lowest finite number.
const LOWEST: f32 = -65504.0;
