//! Attention: `Y = softmax(scale * Q K) V`, block of rows by block of keys.
//!
//! Keys and values of a few heads are packed first. Then a task goes through blocks of keys with some dozens of rows: a
//! tile's scores with a block stay in the cache of the first level, where they become weights and are multiplied with
//! the values; the matrix of all scores never exists. A row's largest score so far is what its weights refer to; where a
//! block of keys has a larger one, what is there already shrinks (Milakov and Gimelshein 2018, Online normalizer
//! calculation for softmax). A row's sum divides the product, and not each of its weights.

use super::areas::At;
use super::args::{AttentionArgs, Operand, PackArgs};
use super::gemm::{self, Ahead, MAX_MR, MAX_NR, Tile, TileFns};
use super::math::Decay;
use super::simd::Simd;
use core::mem::MaybeUninit;
use core::ops::{Range, RangeInclusive};

/// Keys of a block, whole panels.
pub(super) const KEYS: usize = 512;
/// The most panels of keys whose weights one tile kernel sums up.
const PANELS: usize = 16;
/// Rows of a block come in multiples of this, which tiles of 4, 6 and 8 rows divide, or share as evenly as they can.
const UNIT: usize = 12;
/// The most rows of a block.
pub(super) const ROWS: usize = 4 * UNIT;
/// Tasks that are enough, and the most that there are, each of which may have scores of its own at the same time.
const ENOUGH_TASKS: usize = 16;
const MOST_TASKS: usize = 32;
/// Floats of keys and values that are packed at once, unless a single head has more.
const PACKED: usize = 1 << 18;
/// Values of a head whose product with the weights is taken key by key in the lanes of a vector, if it has at least
/// twice as many lanes: value by value it would use few of them.
pub(super) const NARROW: usize = 8;
/// Keys from which on that pays for the sums over the lanes.
const NARROW_KEYS: usize = 64;
/// Weights below 2^(DROP - 125) are 0, so that products with values are not denormal.
pub(super) const DROP: i32 = 26;

/// Keys below which half precision gains nothing, and the deepest heads that are computed in it.
const HALF_FEW: usize = 16;
pub(super) const HALF_DEEPEST: usize = 512;
/// Depths of heads that are computed in fixed point: with fewer, packed keys and their units would not find room in the
/// place of those in f32.
pub(super) const FIXED_DEPTHS: RangeInclusive<usize> = 4..=HALF_DEEPEST;
/// Tasks that pack a head's keys and values in half precision, or in fixed point.
pub(super) const HALF_PACKS: usize = 2;

/// What an attention is computed of.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    pub heads: usize,
    pub m: usize,
    pub n: usize,
    pub depth: usize,
    pub values: usize,
}

impl AttentionShape {
    /// Whether the values of a head are packed transposed.
    pub(super) fn narrow(&self, nr: usize) -> bool {
        self.values == NARROW && nr >= 4 * NARROW && self.n >= NARROW_KEYS
    }
}

/// How the work is split, by shape alone.
struct Split {
    /// Floats of a head's packed keys and values.
    keys: usize,
    values: usize,
    /// Heads that are packed at once.
    group: usize,
    /// Rows of a block, blocks of a head.
    rows: usize,
    blocks: usize,
}

impl Split {
    fn new(shape: &AttentionShape, nr: usize) -> Option<Split> {
        let &AttentionShape { heads, m, n, depth, values } = shape;
        let keys = n.checked_next_multiple_of(nr)?.checked_mul(depth)?;
        let values = if shape.narrow(nr) {
            n.checked_next_multiple_of(nr)?.checked_mul(values)?
        } else {
            values.checked_next_multiple_of(nr)?.checked_mul(n)?
        };
        let group = (PACKED / keys.checked_add(values)?.max(1)).clamp(1, heads.max(1));
        let rows = group.checked_mul(m)?.div_ceil(ENOUGH_TASKS).next_multiple_of(UNIT).clamp(UNIT, ROWS);
        Some(Split { keys, values, group, rows, blocks: m.div_ceil(rows) })
    }

    /// Tasks that a group of so many heads has.
    fn tasks(&self, heads: usize) -> usize {
        heads.saturating_mul(self.blocks).min(MOST_TASKS)
    }
}

/// Floats of a task's scores, a tile with a block of keys.
fn score_floats(n: usize, nr: usize) -> usize {
    MAX_MR * KEYS.min(n).next_multiple_of(nr)
}

/// Floats of [`AttentionArgs::scratch`] for panels of `nr` columns; `None` if they can not be counted.
pub fn attention_scratch(shape: &AttentionShape, nr: usize) -> Option<usize> {
    let split = Split::new(shape, nr)?;
    let packed = split.group.checked_mul(split.keys.checked_add(split.values)?)?;
    packed.checked_add(split.tasks(split.group) * score_floats(shape.n, nr))
}

fn shape(args: &AttentionArgs) -> AttentionShape {
    let (y, k) = (&args.y.layout, &args.k.layout);
    let rank = y.rank();
    AttentionShape {
        heads: (0..rank - 2).map(|axis| y.dim(axis)).product(),
        m: y.dim(rank - 2),
        n: k.dim(rank - 1),
        depth: k.dim(rank - 2),
        values: y.dim(rank - 1),
    }
}

/// Whether an attention is to be computed in half precision, where the CPU computes in it. Packed keys and values are then
/// smaller than in f32, and share the same scratch.
pub(super) fn is_half(args: &AttentionArgs) -> bool {
    let shape = shape(args);
    args.half && shape.n >= HALF_FEW && (1..=HALF_DEEPEST).contains(&shape.depth)
}

/// The same in fixed point, where the CPU has fast products of whole numbers.
pub(super) fn is_fixed(args: &AttentionArgs) -> bool {
    let shape = shape(args);
    args.half && shape.n >= HALF_FEW && FIXED_DEPTHS.contains(&shape.depth)
}

/// The work of a phase: to pack keys and values, or to attend with them.
pub(super) struct Phase {
    pub(super) shape: AttentionShape,
    split: Split,
    pub(super) packs: bool,
    pub(super) heads: Range<usize>,
}

impl Phase {
    pub(super) fn new(args: &AttentionArgs, phase: usize, nr: usize) -> Option<Phase> {
        let shape = shape(args);
        let split = Split::new(&shape, nr)?;
        let first = (phase / 2 * split.group).min(shape.heads);
        let heads = first..(first + split.group).min(shape.heads);
        Some(Phase { shape, split, packs: phase.is_multiple_of(2), heads })
    }

    /// Where keys and values of a head are packed.
    pub(super) fn packed(&self, args: &AttentionArgs, head: usize) -> [*mut f32; 2] {
        let size = self.split.keys + self.split.values;
        let keys = args.scratch.wrapping_add((head - self.heads.start) * size);
        [keys, keys.wrapping_add(self.split.keys)]
    }

    /// A task's own scores.
    fn scores(&self, args: &AttentionArgs, area: usize, nr: usize) -> *mut f32 {
        let packed = self.split.group * (self.split.keys + self.split.values);
        args.scratch.wrapping_add(packed + area * score_floats(self.shape.n, nr))
    }

    /// What packs a head's keys and values.
    fn packing(&self, args: &AttentionArgs, head: usize, nr: usize) -> [PackArgs; 2] {
        let AttentionShape { n, depth, values, .. } = self.shape;
        let (k, v, [keys, panels]) =
            (Matrix::of(&args.k, head), Matrix::of(&args.v, head), self.packed(args, head));
        let [row, column] = v.strides;
        let (strides, rows, columns) =
            if self.shape.narrow(nr) { ([column, row], values, n) } else { ([row, column], n, values) };
        [
            PackArgs { ptr: k.ptr, strides: k.strides, k: depth, n, packed: keys },
            PackArgs { ptr: v.ptr, strides, k: rows, n: columns, packed: panels },
        ]
    }

    /// Tasks that pack one head's keys, and its values.
    fn pack_tasks(&self, args: &AttentionArgs, nr: usize) -> [usize; 2] {
        self.packing(args, self.heads.start, nr).map(|pack| gemm::pack_tasks(&pack, nr))
    }

    /// The blocks of a task: head and first row.
    pub(super) fn blocks(&self, task: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (start, blocks, rows) = (self.heads.start, self.split.blocks, self.split.rows);
        let (all, tasks) = (self.heads.len() * blocks, self.split.tasks(self.heads.len()));
        (task * all / tasks..(task + 1) * all / tasks)
            .map(move |block| (start + block / blocks, block % blocks * rows))
    }

    /// The rows of a head from `first` on.
    pub(super) fn block(
        &self,
        args: &AttentionArgs,
        [head, first]: [usize; 2],
        area: usize,
        nr: usize,
    ) -> Block {
        let [k, v] = self.packed(args, head);
        let (q, y) = (Matrix::of(&args.q, head), Matrix::of(&args.y, head));
        Block {
            shape: self.shape,
            scale: args.scale,
            rows: self.split.rows.min(self.shape.m - first),
            q: q.ptr.wrapping_offset(first as isize * q.strides[0]),
            q_stride: q.strides[0],
            k,
            v,
            scores: self.scores(args, area, nr),
            y: y.ptr.wrapping_offset(first as isize * y.strides[0]),
            y_stride: y.strides[0],
        }
    }
}

/// A head's matrix of an operand.
pub(super) struct Matrix {
    pub(super) ptr: *mut f32,
    /// Of rows and columns.
    pub(super) strides: [isize; 2],
}

impl Matrix {
    pub(super) fn of(operand: &Operand, head: usize) -> Matrix {
        let layout = &operand.layout;
        let lead = layout.rank() - 2;
        let (mut at, mut rest) = (0, head);
        for axis in (0..lead).rev() {
            at += (rest % layout.dim(axis)) as isize * layout.stride(axis);
            rest /= layout.dim(axis);
        }
        Matrix {
            ptr: operand.ptr.cast::<f32>().wrapping_offset(at),
            strides: [layout.stride(lead), layout.stride(lead + 1)],
        }
    }
}

pub(super) fn phases(args: &AttentionArgs, nr: usize) -> usize {
    let shape = shape(args);
    Split::new(&shape, nr).map_or(0, |split| 2 * shape.heads.div_ceil(split.group))
}

/// With keys and values in f32, or in 16 bits.
pub(super) fn tasks(args: &AttentionArgs, phase: usize, nr: usize, half: bool) -> usize {
    let Some(phase) = Phase::new(args, phase, nr) else { return 0 };
    if phase.shape.m * phase.shape.values == 0 || phase.heads.is_empty() {
        return 0;
    }
    if phase.packs {
        let a_head = if half { HALF_PACKS } else { phase.pack_tasks(args, nr).iter().sum() };
        return phase.heads.len() * a_head;
    }
    phase.split.tasks(phase.heads.len())
}

/// # Safety
/// The CPU has V's instruction set, earlier phases have ended; the contract of [`AttentionArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd, const MR: usize, const NV: usize>(
    args: &AttentionArgs,
    phase: usize,
    At { task, area }: At,
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let Some(phase) = Phase::new(args, phase, nr) else { return };
    if phase.packs {
        let [keys, values] = phase.pack_tasks(args, nr);
        let (head, task) = (phase.heads.start + task / (keys + values), task % (keys + values));
        let packing = phase.packing(args, head, nr);
        let (pack, task) = if task < keys { (&packing[0], task) } else { (&packing[1], task - keys) };
        // SAFETY: the head's keys or values, and their place in the scratch.
        return unsafe { gemm::pack(pack, task, nr) };
    }
    for (head, first) in phase.blocks(task) {
        let block = phase.block(args, [head, first], area, nr);
        // SAFETY: rows of the head, its packed keys and values, and the task's own scores.
        unsafe { attend::<V, MR, NV>(&block, tiles) };
    }
}

/// Some rows of a head.
pub(super) struct Block {
    pub(super) shape: AttentionShape,
    pub(super) scale: f32,
    pub(super) rows: usize,
    pub(super) q: *const f32,
    pub(super) q_stride: isize,
    /// Packed.
    pub(super) k: *const f32,
    v: *const f32,
    pub(super) scores: *mut f32,
    y: *mut f32,
    y_stride: isize,
}

impl Block {
    /// What is attended with at once: blocks of up to so many keys, and with each tiles of up to `mr` rows, by the first and
    /// their number, as many to one as to another.
    #[inline(always)]
    pub(super) fn tiles(&self, keys: usize, mr: usize) -> impl Iterator<Item = (Keys, [usize; 2])> + use<> {
        let (n, rows) = (self.shape.n, self.rows);
        let most = gemm::even(rows, mr, 1);
        (0..n).step_by(keys).flat_map(move |first| {
            let keys = Keys { first, count: keys.min(n - first), last: first + keys >= n };
            (0..rows).step_by(most).map(move |row| (keys, [row, most.min(rows - row)]))
        })
    }

    pub(super) unsafe fn y_row(&self, row: usize) -> *mut f32 {
        // SAFETY: the caller's row is one of the block.
        unsafe { self.y.offset(row as isize * self.y_stride) }
    }
}

/// A block of keys.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Whether no more follow.
    pub(super) last: bool,
}

/// Of a row, as far as keys have been seen: the largest score and the sum of weights, which refer to it.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) top: f32,
    pub(super) sum: f32,
}

impl Row {
    /// Takes in the largest score with a block of keys, and returns what is left of earlier weights: 0 if there are none.
    #[inline(always)]
    pub(super) fn rise<V: Simd>(&mut self, found: f32, keys: Keys, decay: &Decay<V, DROP>) -> f32 {
        // Minus infinity stays out of differences: a row of nothing else has weights of 0.
        let top = larger(found, larger(self.top, f32::MIN));
        let distance = self.top - top;
        self.top = top;
        if keys.first > 0 { decay.of(decay.like(distance)).to_array()[0] } else { 0.0 }
    }
}

/// `y = (y * old + part) * new` is how a block's part joins a row of the result.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) old: f32,
    pub(super) new: f32,
}

#[inline(always)]
unsafe fn attend<V: Simd, const MR: usize, const NV: usize>(block: &Block, tiles: &TileFns<MR, NV>) {
    let mut state = [Row { top: f32::NEG_INFINITY, sum: 0.0 }; ROWS];
    for (keys, rows) in block.tiles(KEYS, MR) {
        // SAFETY: rows of the block, at most a tile.
        unsafe {
            score::<V, MR, NV>(block, keys, rows, tiles);
            weigh::<V, MR, NV>(block, keys, rows, &mut state[rows[0]..], tiles);
        }
    }
}

/// Pointers to rows; those beyond the last point to the first.
#[inline(always)]
fn pointers<const MR: usize>(rows: usize, row: impl Fn(usize) -> *const f32) -> [*const f32; MAX_MR] {
    let mut pointers = [core::ptr::null(); MAX_MR];
    for (r, pointer) in pointers[..MR].iter_mut().enumerate() {
        *pointer = row(if r < rows { r } else { 0 });
    }
    pointers
}

/// Scores of a tile's rows, panel by panel.
#[inline(always)]
unsafe fn score<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    keys: Keys,
    [first, rows]: [usize; 2],
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let k = block.shape.depth;
    let q = |r: usize| block.q.wrapping_offset((first + r) as isize * block.q_stride);
    let table = [pointers::<MR>(rows, q)];
    for key in (0..keys.count).step_by(nr) {
        let vectors = nr.min(keys.count - key).div_ceil(V::LANES);
        // SAFETY: a panel of keys, and one of scores.
        unsafe {
            let (b, acc) = (block.k.add((keys.first + key) * k), block.scores.add(key * MR));
            let ahead = Ahead::of(b, nr * size_of::<f32>());
            tiles[vectors - 1][rows - 1](&Tile { table: &table, k, b, acc, ahead });
        }
    }
}

/// Turns the scores of a tile's rows into weights, and adds the values by these to the result.
#[inline(always)]
unsafe fn weigh<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    keys: Keys,
    [first, rows]: [usize; 2],
    state: &mut [Row],
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let narrow = block.shape.narrow(nr);
    let mut factors = [Factors { old: 0.0, new: 1.0 }; MAX_MR];
    // SAFETY: the tile's scores are there; rows of the result.
    unsafe {
        let decay = Decay::<V, DROP>::new(V::splat(0.0), block.scale);
        let tops = tops::<V, MR, NV>(block.scores, rows, keys.count);
        for (r, (row, factors)) in state.iter_mut().zip(&mut factors).take(rows).enumerate() {
            factors.old = row.rise(tops[r], keys, &decay);
            let (scores, top) = (block.scores.add(r * nr), V::splat(row.top));
            let mut products = [0.0; NARROW];
            let sum = if narrow {
                let values = block.v.add(keys.first * NARROW);
                products_narrow::<V, MR, NV>(scores, keys.count, &decay, top, values, &mut products)
            } else {
                weights::<V, MR, NV>(scores, keys.count, &decay, top)
            };
            row.sum = row.sum * factors.old + sum;
            if keys.last {
                factors.new = 1.0 / row.sum;
            }
            if narrow {
                join::<V>(block.y_row(first + r), products.as_ptr(), NARROW, *factors);
            }
        }
        if !narrow {
            mix::<V, MR, NV>(block, keys, [first, rows], &factors, tiles);
        }
    }
}

pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Rows whose largest scores are found at once, so that none waits for the one before it.
const STRANDS: usize = 4;

/// The largest score of each row.
#[inline(always)]
unsafe fn tops<V: Simd, const MR: usize, const NV: usize>(
    scores: *const f32,
    rows: usize,
    keys: usize,
) -> [f32; MAX_MR] {
    let mut tops = [f32::NEG_INFINITY; MAX_MR];
    let mut first = 0;
    // SAFETY: the caller's scores.
    unsafe {
        while first + STRANDS <= rows {
            let some = tops_of::<V, STRANDS, MR, NV>(scores.add(first * NV * V::LANES), keys);
            tops[first..first + STRANDS].copy_from_slice(&some);
            first += STRANDS;
        }
        while first < rows {
            [tops[first]] = tops_of::<V, 1, MR, NV>(scores.add(first * NV * V::LANES), keys);
            first += 1;
        }
    }
    tops
}

#[inline(always)]
unsafe fn tops_of<V: Simd, const R: usize, const MR: usize, const NV: usize>(
    scores: *const f32,
    keys: usize,
) -> [f32; R] {
    let nr = NV * V::LANES;
    let whole = keys / nr * nr;
    // SAFETY: the caller's scores.
    unsafe {
        let lowest = V::splat(f32::NEG_INFINITY);
        let mut tops = [lowest; R];
        for key in (0..whole).step_by(nr) {
            for (r, top) in tops.iter_mut().enumerate() {
                let panel = scores.add(key * MR + r * nr);
                let mut larger = V::load(panel);
                for v in 1..NV {
                    larger = larger.max(V::load(panel.add(v * V::LANES)));
                }
                *top = top.max(larger);
            }
        }
        for key in (whole..keys).step_by(V::LANES) {
            for (r, top) in tops.iter_mut().enumerate() {
                let at = scores.add(whole * MR + r * nr + key - whole);
                *top = top.max(V::load(at).keep(keys - key, lowest));
            }
        }
        let mut largest = [0.0; R];
        for (largest, top) in largest.iter_mut().zip(tops) {
            *largest = top.largest();
        }
        largest
    }
}

/// Turns a row of scores into weights, and returns their sum.
#[inline(always)]
unsafe fn weights<V: Simd, const MR: usize, const NV: usize>(
    scores: *mut f32,
    keys: usize,
    decay: &Decay<V, DROP>,
    top: V,
) -> f32 {
    let nr = NV * V::LANES;
    let whole = keys / nr * nr;
    // SAFETY: the caller's scores.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [zero; NV];
        for key in (0..whole).step_by(nr) {
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = scores.add(key * MR + v * V::LANES);
                let weight = decay.of(V::load(at).sub(top));
                *sum = sum.add(weight);
                weight.store(at);
            }
        }
        for key in (whole..keys).step_by(V::LANES) {
            let at = scores.add(whole * MR + key - whole);
            let weight = decay.of(V::load(at).sub(top)).keep(keys - key, zero);
            sums[0] = sums[0].add(weight);
            weight.store(at);
        }
        let mut sum = sums[0];
        for &more in &sums[1..] {
            sum = sum.add(more);
        }
        sum.total()
    }
}

/// The sum of a row's weights, and their products with the values of a narrow head.
#[inline(always)]
unsafe fn products_narrow<V: Simd, const MR: usize, const NV: usize>(
    scores: *const f32,
    keys: usize,
    decay: &Decay<V, DROP>,
    top: V,
    values: *const f32,
    products: &mut [f32; NARROW],
) -> f32 {
    let nr = NV * V::LANES;
    let whole = keys / nr * nr;
    // SAFETY: the caller's scores, and values of these keys in panels.
    unsafe {
        let zero = V::splat(0.0);
        let (mut sum, mut sums) = (zero, [zero; NARROW]);
        for key in (0..whole).step_by(nr) {
            for v in 0..NV {
                let weight = decay.of(V::load(scores.add(key * MR + v * V::LANES)).sub(top));
                sum = sum.add(weight);
                let values = values.add(key * NARROW + v * V::LANES);
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = weight.mul_add(V::load(values.add(c * nr)), *sum);
                }
            }
        }
        for key in (whole..keys).step_by(V::LANES) {
            let score = V::load(scores.add(whole * MR + key - whole));
            let weight = decay.of(score.sub(top)).keep(keys - key, zero);
            sum = sum.add(weight);
            let values = values.add(whole * NARROW + key - whole);
            for (c, sum) in sums.iter_mut().enumerate() {
                *sum = weight.mul_add(V::load(values.add(c * nr)), *sum);
            }
        }
        *products = V::totals(sums);
        sum.total()
    }
}

/// Adds the product of some rows of weights with the values of a block of keys to the result.
#[inline(always)]
unsafe fn mix<V: Simd, const MR: usize, const NV: usize>(
    block: &Block,
    keys: Keys,
    [first, rows]: [usize; 2],
    factors: &[Factors; MAX_MR],
    tiles: &TileFns<MR, NV>,
) {
    let nr = NV * V::LANES;
    let AttentionShape { n, values, .. } = block.shape;
    let (whole, rest) = (keys.count / nr, keys.count % nr);
    let mut table = [[core::ptr::null(); MAX_MR]; PANELS];
    let mut acc = MaybeUninit::<[f32; MAX_MR * MAX_NR]>::uninit();
    let acc = acc.as_mut_ptr().cast::<f32>();
    let mut key = 0;
    while key < keys.count {
        let panel = key / nr;
        // Whole panels of keys together, the part of one that may be left on its own.
        let (panels, k) = if panel < whole { (PANELS.min(whole - panel), nr) } else { (1, rest) };
        let next = key + panels * k;
        for (i, table) in table[..panels].iter_mut().enumerate() {
            *table = pointers::<MR>(rows, |r| block.scores.wrapping_add(((panel + i) * MR + r) * nr));
        }
        for column in (0..values).step_by(nr) {
            let columns = nr.min(values - column);
            let vectors = columns.div_ceil(V::LANES);
            // SAFETY: weights and values of these keys; the tile fills rows x nr of the accumulators; rows of the result.
            unsafe {
                let b = block.v.add(column * n + (keys.first + key) * nr);
                let ahead = Ahead::of(b, nr * size_of::<f32>());
                tiles[vectors - 1][rows - 1](&Tile { table: &table[..panels], k, b, acc, ahead });
                for (r, factors) in factors[..rows].iter().enumerate() {
                    let factors = Factors {
                        old: if key == 0 { factors.old } else { 1.0 },
                        new: if next == keys.count { factors.new } else { 1.0 },
                    };
                    join::<V>(block.y_row(first + r).add(column), acc.add(r * nr), columns, factors);
                }
            }
        }
        key = next;
    }
}

/// Adds a part to a row of the result.
#[inline(always)]
pub(super) unsafe fn join<V: Simd>(y: *mut f32, part: *const f32, columns: usize, factors: Factors) {
    // SAFETY: the caller vouches for so many columns, and for whole vectors of the part.
    unsafe {
        let (old, new) = (V::splat(factors.old), V::splat(factors.new));
        for i in (0..columns).step_by(V::LANES) {
            let left = columns - i;
            let mut sum = V::load_upto(part.add(i), left);
            if factors.old > 0.0 {
                sum = V::load_upto(y.add(i), left).mul_add(old, sum);
            }
            sum.mul(new).store_upto(y.add(i), left);
        }
    }
}
