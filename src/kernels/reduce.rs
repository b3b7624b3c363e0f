//! Reductions over trailing dimensions.

use super::args::{Operand, ReduceArgs, ReduceKind};
use super::data::place;
use super::map::Index;
use super::simd::{MAX_LANES, Simd};
use super::view::{DType, Layout};

/// Elements that a task reads, about.
const TASK: usize = 1 << 15;
/// Vectors that are summed in f32 before the sum goes on in f64.
const RUN: usize = 64;

/// The reduced dimensions of the input as a layout.
fn reduced(args: &ReduceArgs) -> Layout {
    let (kept, rank) = (args.output.layout.rank(), args.input.layout.rank());
    let mut layout = Layout { rank: (rank - kept) as u8, ..args.input.layout };
    for axis in kept..rank {
        layout.dims[axis - kept] = args.input.layout.dims[axis];
        layout.strides[axis - kept] = args.input.layout.strides[axis];
    }
    layout.merged()
}

/// Outputs of a task.
fn step(args: &ReduceArgs) -> usize {
    (TASK / reduced(args).len().max(1)).max(MAX_LANES)
}

pub(super) fn tasks(args: &ReduceArgs) -> usize {
    args.output.layout.len().div_ceil(step(args))
}

/// # Safety
/// The CPU has V's instruction set; the contract of [`ReduceArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(args: &ReduceArgs, task: usize) {
    let (step, over) = (step(args), reduced(args));
    let kept = kept(args);
    let float = args.input.dtype == DType::F32;
    let fast = float && vector_kind(args.kind);
    let last = kept.rank() - 1;
    let (run, column) = (over.rank() > 0 && over.stride(over.rank() - 1) == 1, kept.stride(last) == 1);
    let end = ((task + 1) * step).min(kept.len());
    let mut i = task * step;
    while i < end {
        let row = Index::new(&kept, i / kept.dim(last));
        let at = (i % kept.dim(last)) as isize;
        let from = row.offset(&kept) + at * kept.stride(last);
        let side = V::LANES.min(kept.dim(last) - at as usize).min(end - i);
        // SAFETY: `from` and the `side` elements after it in the last kept dimension are elements of the input, the
        // reduced dimensions reach no further; output i is the caller's.
        unsafe {
            if fast && column && side == V::LANES && !(run && over.dim(over.rank() - 1) >= V::LANES) {
                let values = columns::<V>(args, &over, from);
                for (lane, value) in values[..V::LANES].iter().enumerate() {
                    put(&args.output, i + lane, finish(args.kind, *value, over.len()));
                }
                i += V::LANES;
                continue;
            }
            if fast && run {
                let value = contiguous::<V>(args, &over, from);
                put(&args.output, i, finish(args.kind, value, over.len()));
            } else if float {
                put(&args.output, i, scalar(args, &over, from));
            } else {
                put_int(&args.output, i, integer(args, &over, from));
            }
        }
        i += 1;
    }
}

/// The kept dimensions with the input's strides; at least one.
fn kept(args: &ReduceArgs) -> Layout {
    let rank = args.output.layout.rank();
    let mut layout = Layout { rank: rank.max(1) as u8, ..args.input.layout };
    if rank == 0 {
        layout.dims[0] = 1;
        layout.strides[0] = 0;
    }
    layout
}

fn vector_kind(kind: ReduceKind) -> bool {
    use ReduceKind::*;
    matches!(kind, Sum | Mean | Max | Min | L1 | L2 | SumSquare)
}

/// What a reduction starts from.
fn start(kind: ReduceKind) -> f64 {
    match kind {
        ReduceKind::Max => f64::NEG_INFINITY,
        ReduceKind::Min => f64::INFINITY,
        ReduceKind::Prod => 1.0,
        _ => 0.0,
    }
}

/// Adds an element to a running result.
fn fold(kind: ReduceKind, acc: f64, x: f64) -> f64 {
    match kind {
        ReduceKind::Max => {
            if acc.is_nan() || acc > x {
                acc
            } else {
                x
            }
        }
        ReduceKind::Min => {
            if acc.is_nan() || acc < x {
                acc
            } else {
                x
            }
        }
        ReduceKind::Prod => acc * x,
        ReduceKind::L1 => acc + libm::fabs(x),
        ReduceKind::L2 | ReduceKind::SumSquare => acc + x * x,
        _ => acc + x,
    }
}

/// Joins two running results.
fn join(kind: ReduceKind, a: f64, b: f64) -> f64 {
    match kind {
        ReduceKind::Max | ReduceKind::Min => fold(kind, a, b),
        _ => a + b,
    }
}

fn finish(kind: ReduceKind, acc: f64, count: usize) -> f64 {
    match kind {
        ReduceKind::Mean => acc / count as f64,
        ReduceKind::L2 => libm::sqrt(acc),
        _ => acc,
    }
}

/// [`fold`] for vectors.
#[inline(always)]
fn fold_vector<V: Simd>(kind: ReduceKind, acc: V, x: V) -> V {
    match kind {
        ReduceKind::Max => acc.max_nan(x),
        ReduceKind::Min => acc.min_nan(x),
        ReduceKind::L1 => acc.add(x.abs()),
        ReduceKind::L2 | ReduceKind::SumSquare => x.mul_add(x, acc),
        _ => acc.add(x),
    }
}

/// LANES outputs side by side.
#[inline(always)]
unsafe fn columns<V: Simd>(args: &ReduceArgs, over: &Layout, from: isize) -> [f64; MAX_LANES] {
    let mut totals = [start(args.kind); MAX_LANES];
    let (rows, inner, stride) = split(over);
    let mut index = Index::new(over, 0);
    // SAFETY: the caller vouches for the elements.
    unsafe {
        let ptr = args.input.ptr.cast::<f32>().cast_const().offset(from);
        for _ in 0..rows {
            let row = ptr.offset(index.offset(over));
            for first in (0..inner).step_by(RUN) {
                let mut acc = V::splat(start(args.kind) as f32);
                for j in first..(first + RUN).min(inner) {
                    acc = fold_vector(args.kind, acc, V::load(row.offset(j as isize * stride)));
                }
                for (total, x) in totals.iter_mut().zip(acc.to_array()) {
                    *total = join(args.kind, *total, f64::from(x));
                }
            }
            index.next(over);
        }
    }
    totals
}

/// One output whose reduced elements come in contiguous runs.
#[inline(always)]
unsafe fn contiguous<V: Simd>(args: &ReduceArgs, over: &Layout, from: isize) -> f64 {
    let mut total = start(args.kind);
    let (rows, inner, _) = split(over);
    let whole = inner / V::LANES * V::LANES;
    let mut index = Index::new(over, 0);
    // SAFETY: the caller vouches for the elements.
    unsafe {
        let ptr = args.input.ptr.cast::<f32>().cast_const().offset(from);
        for _ in 0..rows {
            let row = ptr.offset(index.offset(over));
            for first in (0..whole).step_by(RUN * V::LANES) {
                let mut acc = V::splat(start(args.kind) as f32);
                for j in (first..(first + RUN * V::LANES).min(whole)).step_by(V::LANES) {
                    acc = fold_vector(args.kind, acc, V::load(row.add(j)));
                }
                for &x in &acc.to_array()[..V::LANES] {
                    total = join(args.kind, total, f64::from(x));
                }
            }
            for j in whole..inner {
                total = fold(args.kind, total, f64::from(*row.add(j)));
            }
            index.next(over);
        }
    }
    total
}

/// Rows of the reduced dimensions, their length and the stride within.
fn split(over: &Layout) -> (usize, usize, isize) {
    if over.rank() == 0 {
        return (1, 1, 0);
    }
    let inner = over.dim(over.rank() - 1);
    (over.len().checked_div(inner).unwrap_or(0), inner, over.stride(over.rank() - 1))
}

/// One output of any kind, element by element.
unsafe fn scalar(args: &ReduceArgs, over: &Layout, from: isize) -> f64 {
    // SAFETY: the caller vouches for the elements that `visit` names.
    let read = |offset: isize| f64::from(unsafe { *args.input.ptr.cast::<f32>().offset(from + offset) });
    let mut acc = start(args.kind);
    match args.kind {
        ReduceKind::LogSumExp => {
            let mut top = f64::NEG_INFINITY;
            visit(over, |_, offset| top = fold(ReduceKind::Max, top, read(offset)));
            let center = if top.is_finite() { top } else { 0.0 };
            visit(over, |_, offset| acc += libm::exp(read(offset) - center));
            libm::log(acc) + center
        }
        kind if is_arg(kind) => {
            let mut best: Option<f64> = None;
            visit(over, |i, offset| {
                let x = read(offset);
                if best.is_none_or(|b| better(kind, x, b)) {
                    best = Some(x);
                    acc = i as f64;
                }
            });
            acc
        }
        kind => {
            visit(over, |_, offset| acc = fold(kind, acc, read(offset)));
            finish(kind, acc, over.len())
        }
    }
}

fn is_arg(kind: ReduceKind) -> bool {
    use ReduceKind::*;
    matches!(kind, ArgMax | ArgMin | ArgMaxLast | ArgMinLast)
}

/// Whether a later element takes the place of the best one so far.
fn better<T: PartialOrd>(kind: ReduceKind, x: T, best: T) -> bool {
    match kind {
        ReduceKind::ArgMax => x > best,
        ReduceKind::ArgMaxLast => x >= best,
        ReduceKind::ArgMin => x < best,
        _ => x <= best,
    }
}

/// One output over integers.
unsafe fn integer(args: &ReduceArgs, over: &Layout, from: isize) -> i64 {
    // SAFETY: the caller vouches for the elements that `visit` names.
    let read = |offset: isize| unsafe {
        match args.input.dtype {
            DType::Bool => i64::from(*args.input.ptr.offset(from + offset) != 0),
            _ => *args.input.ptr.cast::<i64>().offset(from + offset),
        }
    };
    let mut acc: Option<i64> = None;
    let mut position = 0;
    visit(over, |i, offset| {
        let x = read(offset);
        acc = Some(match (acc, args.kind) {
            (None, _) => x,
            (Some(a), ReduceKind::Max) => a.max(x),
            (Some(a), ReduceKind::Min) => a.min(x),
            (Some(a), ReduceKind::Prod) => a.wrapping_mul(x),
            (Some(a), kind) if is_arg(kind) => {
                if better(kind, x, a) {
                    position = i as i64;
                    x
                } else {
                    a
                }
            }
            (Some(a), _) => a.wrapping_add(x),
        });
    });
    match args.kind {
        kind if is_arg(kind) => position,
        ReduceKind::Prod => acc.unwrap_or(1),
        ReduceKind::Max => acc.unwrap_or(i64::MIN),
        ReduceKind::Min => acc.unwrap_or(i64::MAX),
        ReduceKind::Mean => acc.unwrap_or(0).checked_div(over.len() as i64).unwrap_or(0),
        _ => acc.unwrap_or(0),
    }
}

/// Calls `f` with the position and offset of each element of a layout.
fn visit(layout: &Layout, mut f: impl FnMut(usize, isize)) {
    let (rows, inner, stride) = split(layout);
    let mut index = Index::new(layout, 0);
    let mut i = 0;
    for _ in 0..rows {
        let mut offset = index.offset(layout);
        for _ in 0..inner {
            f(i, offset);
            i += 1;
            offset += stride;
        }
        index.next(layout);
    }
}

unsafe fn put(output: &Operand, i: usize, value: f64) {
    let at = place(&output.layout, i);
    // SAFETY: the caller vouches for output i.
    unsafe {
        match output.dtype {
            DType::F32 => *output.ptr.cast::<f32>().offset(at) = value as f32,
            DType::I64 => *output.ptr.cast::<i64>().offset(at) = value as i64,
            DType::Bool => *output.ptr.offset(at) = u8::from(value != 0.0),
        }
    }
}

unsafe fn put_int(output: &Operand, i: usize, value: i64) {
    let at = place(&output.layout, i);
    // SAFETY: the caller vouches for output i.
    unsafe {
        match output.dtype {
            DType::F32 => *output.ptr.cast::<f32>().offset(at) = value as f32,
            DType::I64 => *output.ptr.cast::<i64>().offset(at) = value,
            DType::Bool => *output.ptr.offset(at) = u8::from(value != 0),
        }
    }
}
