//! Moving data: what needs no arithmetic and no instruction set.

use super::args::{CopyArgs, CumSumArgs, GatherArgs, Operand};
use super::map::Index;
use super::view::{DType, Layout, MAX_RANK};

/// Elements of a task, about.
const TASK: usize = 1 << 15;
/// Columns that a task has at most.
const COLUMNS: usize = 1 << 16;
/// Side of the tiles of a transposition.
const TILE: usize = 16;

pub fn copy_tasks(args: &CopyArgs) -> usize {
    Walk::new(&args.input.layout, &args.output.layout).tasks()
}

/// # Safety
/// The contract of [`CopyArgs`]; the task is below the count.
pub unsafe fn copy(args: &CopyArgs, task: usize) {
    let walk = Walk::new(&args.input.layout, &args.output.layout);
    // SAFETY: the walk reaches the elements of both layouts and no others.
    unsafe {
        match args.input.dtype {
            DType::F32 => walk.task::<u32>(args.input.ptr.cast(), args.output.ptr.cast(), task),
            DType::I64 => walk.task::<u64>(args.input.ptr.cast(), args.output.ptr.cast(), task),
            DType::Bool => walk.task::<u8>(args.input.ptr, args.output.ptr, task),
        }
    }
}

/// A dimension of a copy: how many, and the strides of input and output.
#[derive(Clone, Copy)]
struct Dim {
    len: usize,
    from: isize,
    to: isize,
}

/// A copy as an odometer over planes of rows x columns.
struct Walk {
    outer: [Dim; MAX_RANK],
    rank: usize,
    rows: Dim,
    columns: Dim,
}

impl Walk {
    /// Sorts the dimensions by the output's strides and joins those that are contiguous in both.
    fn new(from: &Layout, to: &Layout) -> Walk {
        let one = Dim { len: 1, from: 0, to: 0 };
        let (mut dims, mut rank) = ([one; MAX_RANK], 0);
        for axis in (0..from.rank()).filter(|&axis| from.dims[axis] != 1) {
            let dim = Dim { len: from.dim(axis), from: from.stride(axis), to: to.stride(axis) };
            let mut at = rank;
            while at > 0 && dims[at - 1].to.unsigned_abs() < dim.to.unsigned_abs() {
                dims[at] = dims[at - 1];
                at -= 1;
            }
            dims[at] = dim;
            rank += 1;
        }
        let mut joined = 0;
        for axis in 1..rank {
            let (a, b) = (dims[joined], dims[axis]);
            let n = b.len as isize;
            if a.from == b.from * n && a.to == b.to * n {
                dims[joined] = Dim { len: a.len * b.len, ..b };
            } else {
                joined += 1;
                dims[joined] = b;
            }
        }
        rank = rank.min(joined + 1);
        let columns = if rank > 0 { dims[rank - 1] } else { one };
        let mut outer = rank.saturating_sub(1);
        // Rows: the dimension that is contiguous in the input, if it is not the columns', else the next one.
        let row = (0..outer).rev().find(|&axis| dims[axis].from == 1).unwrap_or(outer.wrapping_sub(1));
        let rows = if outer > 0 { dims[row] } else { one };
        if outer > 0 {
            dims.copy_within(row + 1..outer, row);
            outer -= 1;
        }
        Walk { outer: dims, rank: outer, rows, columns }
    }

    fn planes(&self) -> usize {
        self.outer[..self.rank].iter().map(|dim| dim.len).product()
    }

    /// Planes, rows and columns of a task: several planes only where they are whole.
    fn step(&self) -> (usize, usize, usize) {
        let columns = self.columns.len.clamp(1, COLUMNS);
        let rows = (TASK / columns).max(1);
        let whole = columns >= self.columns.len && rows >= self.rows.len;
        (if whole { rows / self.rows.len.max(1) } else { 1 }, rows, columns)
    }

    fn tasks(&self) -> usize {
        let (planes, rows, columns) = self.step();
        let parts = self.rows.len.div_ceil(rows) * self.columns.len.div_ceil(columns);
        self.planes().div_ceil(planes) * parts
    }

    unsafe fn task<T: Copy>(&self, from: *const T, to: *mut T, task: usize) {
        let (planes, rows, columns) = self.step();
        let (down, across) = (self.rows.len.div_ceil(rows), self.columns.len.div_ceil(columns));
        let (row, column) = (task / across % down * rows, task % across * columns);
        let (rows, columns) = (rows.min(self.rows.len - row), columns.min(self.columns.len - column));
        let first = task / across / down * planes;
        for plane in first..(first + planes).min(self.planes()) {
            let (mut rest, mut a, mut b) = (plane, 0, 0);
            for dim in self.outer[..self.rank].iter().rev() {
                let i = (rest % dim.len) as isize;
                rest /= dim.len;
                (a, b) = (a + i * dim.from, b + i * dim.to);
            }
            a += row as isize * self.rows.from + column as isize * self.columns.from;
            b += row as isize * self.rows.to + column as isize * self.columns.to;
            // SAFETY: the caller's contract; the plane, row and column are within the walk.
            unsafe { self.plane(from.offset(a), to.offset(b), rows, columns) }
        }
    }

    /// Copies everything.
    unsafe fn all<T: Copy>(&self, from: *const T, to: *mut T) {
        for task in 0..self.tasks() {
            // SAFETY: the caller's contract.
            unsafe { self.task(from, to, task) };
        }
    }

    unsafe fn plane<T: Copy>(&self, from: *const T, to: *mut T, rows: usize, columns: usize) {
        let (r, c) = (self.rows, self.columns);
        if (c.from == 1 && c.to == 1) || columns == 1 {
            let (mut from, mut to) = (from, to);
            for _ in 0..rows {
                // SAFETY: the caller's contract. Of a damaged plan they may overlap, and may come out as anything.
                unsafe { core::ptr::copy(from, to, columns) };
                (from, to) = (from.wrapping_offset(r.from), to.wrapping_offset(r.to));
            }
            return;
        }
        let (high, wide) = if r.from == 1 && c.to == 1 { (TILE, TILE) } else { (1, columns) };
        for i in (0..rows).step_by(high) {
            for j in (0..columns).step_by(wide) {
                // SAFETY: the caller's contract; (i, j) is within rows x columns.
                unsafe {
                    let from = from.offset(i as isize * r.from + j as isize * c.from);
                    let to = to.offset(i as isize * r.to + j as isize * c.to);
                    self.tile(from, to, high.min(rows - i), wide.min(columns - j));
                }
            }
        }
    }

    #[inline]
    unsafe fn tile<T: Copy>(&self, from: *const T, to: *mut T, rows: usize, columns: usize) {
        let (a, b) = (self.columns.from, self.columns.to);
        for i in 0..rows as isize {
            // SAFETY: the caller's contract.
            unsafe {
                let (from, to) = (from.offset(i * self.rows.from), to.offset(i * self.rows.to));
                // A number of steps that the compiler knows takes no instructions of their own.
                if columns == TILE && b == 1 {
                    for j in 0..TILE as isize {
                        *to.offset(j) = *from.offset(j * a);
                    }
                } else {
                    for j in 0..columns as isize {
                        *to.offset(j * b) = *from.offset(j * a);
                    }
                }
            }
        }
    }
}

/// The offset of element i, counted in the order of the dimensions.
pub(super) fn place(layout: &Layout, mut i: usize) -> isize {
    let mut offset = 0;
    for axis in (0..layout.rank()).rev() {
        offset += (i % layout.dim(axis)) as isize * layout.stride(axis);
        i /= layout.dim(axis);
    }
    offset
}

/// How a gather is cut: `data` is [o.., n, r..], the output [o.., i.., r..].
struct Gather {
    /// Products of the dimensions o and i.
    outer: usize,
    picks: usize,
    /// One r.. of data and of the output.
    rest: [Layout; 2],
    step: usize,
}

impl Gather {
    fn new(args: &GatherArgs) -> Gather {
        let axis = args.axis;
        let rest = axis + args.indices.layout.rank();
        let rest = [part(&args.data.layout, axis + 1), part(&args.output.layout, rest)];
        let outer = args.data.layout.dims[..axis].iter().map(|&d| d as usize).product();
        let step = (TASK / rest[0].len().max(1)).max(1);
        Gather { outer, picks: args.indices.layout.len(), rest, step }
    }
}

/// The dimensions from `axis` on.
fn part(layout: &Layout, axis: usize) -> Layout {
    let mut part = Layout { rank: layout.rank().saturating_sub(axis) as u8, ..*layout };
    for (i, from) in (axis..layout.rank()).enumerate() {
        (part.dims[i], part.strides[i]) = (layout.dims[from], layout.strides[from]);
    }
    part
}

pub fn gather_tasks(args: &GatherArgs) -> usize {
    let gather = Gather::new(args);
    (gather.outer * gather.picks).div_ceil(gather.step)
}

/// # Safety
/// The contract of [`GatherArgs`]; the task is below the count.
pub unsafe fn gather(args: &GatherArgs, task: usize) {
    let g = Gather::new(args);
    let (n, stride) = (args.data.layout.dim(args.axis), args.data.layout.stride(args.axis));
    if n == 0 {
        return;
    }
    let walk = Walk::new(&g.rest[0], &g.rest[1]);
    let head = |layout: &Layout, rank: usize| Layout { rank: rank as u8, ..*layout };
    let outer = head(&args.data.layout, args.axis);
    let picks = head(&args.output.layout, args.axis + args.indices.layout.rank());
    for i in task * g.step..((task + 1) * g.step).min(g.outer * g.picks) {
        let at = place(&args.indices.layout, i % g.picks);
        // SAFETY: an element of the indices; the pick is clamped into the axis, so the slice is within data.
        unsafe {
            let pick = match args.indices.dtype {
                DType::I64 => *args.indices.ptr.cast::<i64>().offset(at),
                DType::F32 => *args.indices.ptr.cast::<f32>().offset(at) as i64,
                DType::Bool => i64::from(*args.indices.ptr.offset(at)),
            };
            let pick = if pick < 0 { pick.saturating_add(n as i64) } else { pick };
            let pick = pick.clamp(0, n as i64 - 1) as isize;
            let from = place(&outer, i / g.picks) + pick * stride;
            slice(&walk, &args.data, from, &args.output, place(&picks, i));
        }
    }
}

/// Copies what the walk covers from and to element offsets.
unsafe fn slice(walk: &Walk, data: &Operand, from: isize, output: &Operand, to: isize) {
    // SAFETY: the caller's contract.
    unsafe {
        match data.dtype {
            DType::F32 => walk
                .all(data.ptr.cast::<u32>().cast_const().offset(from), output.ptr.cast::<u32>().offset(to)),
            DType::I64 => walk
                .all(data.ptr.cast::<u64>().cast_const().offset(from), output.ptr.cast::<u64>().offset(to)),
            DType::Bool => walk.all(data.ptr.cast_const().offset(from), output.ptr.offset(to)),
        }
    }
}

/// The layout without `axis`, which moves to the end, where it is one row.
fn lanes(layout: &Layout, axis: usize) -> Layout {
    let mut out = *layout;
    let last = layout.rank() - 1;
    out.dims.copy_within(axis + 1..last + 1, axis);
    out.strides.copy_within(axis + 1..last + 1, axis);
    (out.dims[last], out.strides[last]) = (layout.dims[axis], layout.strides[axis]);
    out
}

/// Lines along the axis of one task.
fn lane_step(args: &CumSumArgs) -> usize {
    (TASK / args.input.layout.dim(args.axis).max(1)).max(1)
}

pub fn cumsum_tasks(args: &CumSumArgs) -> usize {
    let lines = args.input.layout.len().checked_div(args.input.layout.dim(args.axis)).unwrap_or(0);
    lines.div_ceil(lane_step(args))
}

/// # Safety
/// The contract of [`CumSumArgs`]; the task is below the count.
pub unsafe fn cumsum(args: &CumSumArgs, task: usize) {
    let (input, output) = (lanes(&args.input.layout, args.axis), lanes(&args.output.layout, args.axis));
    let n = args.input.layout.dim(args.axis);
    let lines = input.len().checked_div(n).unwrap_or(0);
    let step = lane_step(args);
    for line in task * step..((task + 1) * step).min(lines) {
        let index = Index::new(&input, line);
        let (from, to) = (index.offset(&input), index.offset(&output));
        // SAFETY: a line of both operands.
        unsafe {
            match args.input.dtype {
                DType::F32 => {
                    let (x, y) =
                        (args.input.ptr.cast::<f32>().offset(from), args.output.ptr.cast::<f32>().offset(to));
                    cumsum_line(args, x, y, n, |sum: f64, x: f32| sum + f64::from(x), |sum| sum as f32);
                }
                _ => {
                    let (x, y) =
                        (args.input.ptr.cast::<i64>().offset(from), args.output.ptr.cast::<i64>().offset(to));
                    cumsum_line(args, x, y, n, i64::wrapping_add, |sum| sum);
                }
            }
        }
    }
}

unsafe fn cumsum_line<T: Copy, S: Copy + Default>(
    args: &CumSumArgs,
    x: *const T,
    y: *mut T,
    n: usize,
    add: impl Fn(S, T) -> S,
    round: impl Fn(S) -> T,
) {
    let mut sum = S::default();
    for i in 0..n {
        let i = if args.reverse { n - 1 - i } else { i } as isize;
        // SAFETY: the caller vouches for n elements of the line.
        unsafe {
            let before = sum;
            sum = add(sum, *x.offset(i * args.input.layout.stride(args.axis)));
            *y.offset(i * args.output.layout.stride(args.axis)) =
                round(if args.exclusive { before } else { sum });
        }
    }
}
