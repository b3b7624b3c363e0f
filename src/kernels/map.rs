//! Element-wise programs: an interpreter that runs each step over a chunk of elements that stays in L1.
//!
//! Steps take whole vectors: what a row leaves over is padded in registers, once for the program and not in each step.

use super::args::{IMMEDIATE, MAX_REGISTERS, MapArgs, MapCode, MapStep, Operand};
use super::math;
use super::simd::{MAX_LANES, Simd};
use super::view::{DType, Layout, MAX_RANK};
use core::mem::MaybeUninit;

/// Elements of a register.
const CHUNK: usize = 256;
/// Below this, several rows share a chunk: copying them costs less than starting every step again for each.
const SHORT: usize = CHUNK / 2;
/// Elements of a task.
const TASK: usize = 16384;

#[repr(C, align(64))]
struct Registers([[f32; CHUNK]; MAX_REGISTERS]);

/// Where a step reads an operand: element i is at `ptr + i * advance`. Without advance there are [`MAX_LANES`] copies.
#[derive(Clone, Copy)]
struct Source {
    ptr: *const f32,
    advance: usize,
}

/// How the output is cut: rows of `inner` elements, and tasks of `rows` rows or, of one row, `columns` elements.
struct Grid {
    outer: usize,
    inner: usize,
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new(layout: &Layout) -> Grid {
        let inner = if layout.rank() == 0 { 1 } else { layout.dim(layout.rank() - 1) };
        let outer = layout.len().checked_div(inner).unwrap_or(0);
        let rows = (TASK / inner.max(1)).max(1);
        Grid { outer, inner, rows, columns: if rows > 1 { inner } else { inner.min(TASK) } }
    }

    fn across(&self) -> usize {
        self.inner.div_ceil(self.columns.max(1))
    }
}

pub(super) fn tasks(args: &MapArgs) -> usize {
    let grid = Grid::new(&args.output.layout);
    grid.outer.div_ceil(grid.rows) * grid.across()
}

/// # Safety
/// The CPU has V's instruction set; the contract of [`MapArgs`].
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(args: &MapArgs, task: usize) {
    let grid = Grid::new(&args.output.layout);
    let first = task / grid.across() * grid.rows;
    let column = task % grid.across() * grid.columns;
    let columns = grid.columns.min(grid.inner - column);
    let rows = grid.rows.min(grid.outer - first);
    let row_step = if columns < SHORT { CHUNK / columns } else { 1 };
    let mut scratch = MaybeUninit::<Registers>::uninit();
    let scratch = scratch.as_mut_ptr().cast::<[f32; CHUNK]>();
    let mut index = Index::new(&args.output.layout, first);
    for row in (0..rows).step_by(row_step) {
        let rows = row_step.min(rows - row);
        let mut start = 0;
        while start < columns {
            let left = columns - start;
            let whole = CHUNK.min(left - left % V::LANES);
            let part = Part {
                rows,
                column: column + start,
                columns: if rows > 1 || whole == 0 { left } else { whole },
            };
            // SAFETY: the part lies within the output, hence within every input.
            unsafe { chunk::<V>(args, &index, &part, scratch) };
            start += part.columns;
        }
        for _ in 0..rows {
            index.next(&args.output.layout);
        }
    }
}

/// Rows from the current index on, and a range of their elements. More than one row only if they are whole.
struct Part {
    rows: usize,
    column: usize,
    columns: usize,
}

impl Part {
    /// Elements that steps compute: whole vectors, some of whose lanes may be nobody's.
    fn padded<V: Simd>(&self) -> usize {
        (self.rows * self.columns).next_multiple_of(V::LANES)
    }

    /// Whether its memory may be read and written in place, if contiguous.
    fn is_whole<V: Simd>(&self) -> bool {
        self.rows == 1 && self.columns.is_multiple_of(V::LANES)
    }
}

/// The position of a row: an index for every dimension but the last.
#[derive(Clone, Copy)]
pub(super) struct Index([u32; MAX_RANK]);

impl Index {
    pub(super) fn new(layout: &Layout, mut row: usize) -> Index {
        let mut index = [0; MAX_RANK];
        for axis in (0..layout.rank().saturating_sub(1)).rev() {
            let dim = layout.dim(axis).max(1);
            index[axis] = (row % dim) as u32;
            row /= dim;
        }
        Index(index)
    }

    #[inline(always)]
    pub(super) fn next(&mut self, layout: &Layout) {
        for axis in (0..layout.rank().saturating_sub(1)).rev() {
            self.0[axis] += 1;
            if self.0[axis] < layout.dims[axis] {
                return;
            }
            self.0[axis] = 0;
        }
    }

    /// Element offset of the row in an operand.
    #[inline(always)]
    pub(super) fn offset(&self, layout: &Layout) -> isize {
        let mut offset = 0;
        for axis in 0..layout.rank().saturating_sub(1) {
            offset += self.0[axis] as isize * layout.stride(axis);
        }
        offset
    }
}

/// The stride of the last dimension.
pub(super) fn inner_stride(layout: &Layout) -> isize {
    if layout.rank() == 0 { 0 } else { layout.stride(layout.rank() - 1) }
}

#[inline(always)]
unsafe fn chunk<V: Simd>(args: &MapArgs, index: &Index, part: &Part, scratch: *mut [f32; CHUNK]) {
    let (len, whole) = (part.padded::<V>(), part.is_whole::<V>());
    let mut sources = [Source { ptr: core::ptr::null(), advance: 1 }; MAX_REGISTERS];
    let count = args.inputs.len().min(MAX_REGISTERS - 1);
    let Some(last) = args.steps.len().checked_sub(1) else { return };
    // SAFETY: the caller's contract: the part lies within every operand; registers are below MAX_REGISTERS.
    unsafe {
        for (r, input) in args.inputs[..count].iter().enumerate() {
            sources[r] = fetch::<V>(input, index, part, &args.output.layout, scratch.add(r).cast());
        }
        for (i, s) in args.steps.iter().enumerate() {
            let dst = (s.dst as usize).min(MAX_REGISTERS - 1);
            let mut out = scratch.add(dst).cast::<f32>();
            if i == last && whole {
                out = in_place(&args.output, index, part).map_or(out, |p| p.cast_mut());
            }
            step::<V>(s, &sources, out, len);
            sources[dst] = Source { ptr: out, advance: 1 };
        }
        let result = sources[(args.steps[last].dst as usize).min(MAX_REGISTERS - 1)].ptr;
        if !whole || in_place(&args.output, index, part).is_none() {
            scatter(&args.output, *index, part, result);
        }
    }
}

/// The memory of a part of one row, if it is contiguous f32.
#[inline(always)]
unsafe fn in_place(operand: &Operand, index: &Index, part: &Part) -> Option<*const f32> {
    let stride = inner_stride(&operand.layout);
    if operand.dtype != DType::F32 || (stride != 1 && part.columns > 1) {
        return None;
    }
    let offset = index.offset(&operand.layout) + part.column as isize * stride;
    // SAFETY: an element of the operand.
    Some(unsafe { operand.ptr.cast::<f32>().offset(offset) })
}

/// Makes an input readable for the steps: in place, as one splatted value, or gathered into its register.
#[inline(always)]
unsafe fn fetch<V: Simd>(
    input: &Operand,
    index: &Index,
    part: &Part,
    output: &Layout,
    register: *mut f32,
) -> Source {
    // SAFETY: the caller's contract: the part lies within the operand, and a register holds a chunk.
    unsafe {
        if part.rows == 1 {
            if inner_stride(&input.layout) == 0 || part.columns == 1 {
                let at = index.offset(&input.layout) + part.column as isize * inner_stride(&input.layout);
                let value = load(input, at);
                core::slice::from_raw_parts_mut(register.cast::<MaybeUninit<f32>>(), MAX_LANES)
                    .fill(MaybeUninit::new(value));
                return Source { ptr: register, advance: 0 };
            }
            if part.is_whole::<V>()
                && let Some(ptr) = in_place(input, index, part)
            {
                return Source { ptr, advance: 1 };
            }
        }
        V::splat(0.0).store(register.add(part.padded::<V>() - V::LANES));
        gather(input, *index, part, output, register);
    }
    Source { ptr: register, advance: 1 }
}

unsafe fn gather(input: &Operand, mut index: Index, part: &Part, output: &Layout, mut to: *mut f32) {
    let stride = inner_stride(&input.layout);
    for _ in 0..part.rows {
        let from = index.offset(&input.layout) + part.column as isize * stride;
        // SAFETY: the caller's contract.
        unsafe {
            if input.dtype == DType::F32 {
                let from = input.ptr.cast::<f32>().offset(from);
                if stride == 1 {
                    core::ptr::copy_nonoverlapping(from, to, part.columns);
                } else {
                    for i in 0..part.columns {
                        *to.add(i) = *from.offset(i as isize * stride);
                    }
                }
            } else {
                for i in 0..part.columns {
                    *to.add(i) = load(input, from + i as isize * stride);
                }
            }
            to = to.add(part.columns);
        }
        index.next(output);
    }
}

unsafe fn scatter(output: &Operand, mut index: Index, part: &Part, mut from: *const f32) {
    let stride = inner_stride(&output.layout);
    for _ in 0..part.rows {
        let mut offset = index.offset(&output.layout) + part.column as isize * stride;
        index.next(&output.layout);
        if output.dtype == DType::F32 && stride == 1 {
            // SAFETY: the caller's contract; no register is the output's memory.
            unsafe {
                let to = output.ptr.cast::<f32>().offset(offset);
                core::ptr::copy_nonoverlapping(from, to, part.columns);
                from = from.add(part.columns);
            }
            continue;
        }
        for _ in 0..part.columns {
            // SAFETY: the caller's contract.
            unsafe {
                match output.dtype {
                    DType::F32 => *output.ptr.cast::<f32>().offset(offset) = *from,
                    DType::I64 => *output.ptr.cast::<i64>().offset(offset) = *from as i64,
                    DType::Bool => *output.ptr.offset(offset) = u8::from(*from != 0.0),
                }
                from = from.add(1);
            }
            offset += stride;
        }
    }
}

#[inline(always)]
unsafe fn load(operand: &Operand, offset: isize) -> f32 {
    // SAFETY: the caller vouches for the element.
    unsafe {
        match operand.dtype {
            DType::F32 => *operand.ptr.cast::<f32>().offset(offset),
            DType::I64 => *operand.ptr.cast::<i64>().offset(offset) as f32,
            DType::Bool => f32::from(u8::from(*operand.ptr.offset(offset) != 0)),
        }
    }
}

/// One step over a chunk of whole vectors. `out` may be an operand's memory.
#[inline(always)]
unsafe fn step<V: Simd>(s: &MapStep, sources: &[Source; MAX_REGISTERS], out: *mut f32, len: usize) {
    let immediate = [s.immediate; MAX_LANES];
    let source = |r: u8| match r {
        IMMEDIATE => Source { ptr: immediate.as_ptr(), advance: 0 },
        r => sources[(r as usize).min(MAX_REGISTERS - 1)],
    };
    let (a, b, c) = (source(s.a), source(s.b), source(s.c));
    macro_rules! each {
        (|$($x:ident),+| $value:expr) => {{
            let mut i = 0;
            while i < len {
                // SAFETY: the sources and `out` hold `len` elements, or splatted ones MAX_LANES.
                unsafe {
                    $(let $x = V::load($x.ptr.add(i * $x.advance));)+
                    $value.store(out.add(i));
                }
                i += V::LANES;
            }
        }};
    }
    // SAFETY: a splatted source holds a value.
    let exponent = unsafe { if s.code == MapCode::Pow && b.advance == 0 { *b.ptr } else { 0.0 } };
    match s.code {
        MapCode::Copy => each!(|a| a),
        MapCode::Neg => each!(|a| a.neg()),
        MapCode::Abs => each!(|a| a.abs()),
        MapCode::Sign => each!(|a| {
            let (zero, one) = (a.like(0.0), a.like(1.0));
            V::select(zero.lt(a), one, V::select(a.lt(zero), one.neg(), a))
        }),
        MapCode::Floor => each!(|a| a.floor()),
        MapCode::Ceil => each!(|a| a.neg().floor().neg()),
        MapCode::Round => each!(|a| a.round()),
        MapCode::Sqrt => each!(|a| a.sqrt()),
        MapCode::Reciprocal => each!(|a| a.like(1.0).div(a)),
        MapCode::Exp => each!(|a| math::exp(a)),
        MapCode::Tanh => each!(|a| math::tanh(a)),
        MapCode::Erf => each!(|a| math::erf(a)),
        MapCode::Relu => each!(|a| math::relu(a)),
        MapCode::Sigmoid => each!(|a| math::sigmoid(a)),
        MapCode::Silu => each!(|a| math::silu(a)),
        MapCode::Gelu => each!(|a| math::gelu(a)),
        MapCode::GeluTanh => each!(|a| math::gelu_tanh(a)),
        MapCode::Mish => each!(|a| math::mish(a)),
        MapCode::Softplus => each!(|a| math::softplus(a)),
        MapCode::Not => each!(|a| truth(a.eq(a.like(0.0)), a)),
        MapCode::IsNan => each!(|a| V::select(a.eq(a), a.like(0.0), a.like(1.0))),
        MapCode::IsInf => each!(|a| truth(a.abs().eq(a.like(f32::INFINITY)), a)),
        MapCode::Add => each!(|a, b| a.add(b)),
        MapCode::Sub => each!(|a, b| a.sub(b)),
        MapCode::Mul => each!(|a, b| a.mul(b)),
        MapCode::Div => each!(|a, b| a.div(b)),
        MapCode::Min => each!(|a, b| a.min_nan(b)),
        MapCode::Max => each!(|a, b| a.max_nan(b)),
        MapCode::Pow if exponent == 2.0 => each!(|a| a.mul(a)),
        MapCode::Pow if exponent == 3.0 => each!(|a| a.mul(a).mul(a)),
        MapCode::And => each!(|a, b| boolean(a).mul(boolean(b))),
        MapCode::Or => each!(|a, b| boolean(a).max(boolean(b))),
        MapCode::Xor => each!(|a, b| boolean(a).sub(boolean(b)).abs()),
        MapCode::Equal => each!(|a, b| truth(a.eq(b), a)),
        MapCode::Less => each!(|a, b| truth(a.lt(b), a)),
        MapCode::LessEqual => each!(|a, b| truth(a.le(b), a)),
        MapCode::Greater => each!(|a, b| truth(b.lt(a), a)),
        MapCode::GreaterEqual => each!(|a, b| truth(b.le(a), a)),
        MapCode::Where => each!(|a, b, c| V::select(a.eq(a.like(0.0)), c, b)),
        MapCode::MulAdd => each!(|a, b, c| a.mul_add(b, c)),
        MapCode::Pow | MapCode::Mod | MapCode::Fmod => {
            let f = scalar_of_two(s.code);
            each!(|a, b| a.lanes2(b, f));
        }
        MapCode::Log
        | MapCode::Sin
        | MapCode::Cos
        | MapCode::Tan
        | MapCode::Asin
        | MapCode::Acos
        | MapCode::Atan
        | MapCode::Sinh
        | MapCode::Cosh
        | MapCode::Asinh
        | MapCode::Acosh
        | MapCode::Atanh => {
            let f = scalar(s.code);
            each!(|a| a.lanes(f));
        }
    }
}

/// What has no vector form.
fn scalar(code: MapCode) -> fn(f32) -> f32 {
    match code {
        MapCode::Log => libm::logf,
        MapCode::Sin => libm::sinf,
        MapCode::Cos => libm::cosf,
        MapCode::Tan => libm::tanf,
        MapCode::Asin => libm::asinf,
        MapCode::Acos => libm::acosf,
        MapCode::Atan => libm::atanf,
        MapCode::Sinh => libm::sinhf,
        MapCode::Cosh => libm::coshf,
        MapCode::Asinh => libm::asinhf,
        MapCode::Acosh => acosh,
        MapCode::Atanh => libm::atanhf,
        _ => |x| x,
    }
}

fn scalar_of_two(code: MapCode) -> fn(f32, f32) -> f32 {
    match code {
        MapCode::Mod => floor_mod,
        MapCode::Fmod => libm::fmodf,
        _ => libm::powf,
    }
}

/// 1 where the mask is set, 0 elsewhere.
#[inline(always)]
fn truth<V: Simd>(mask: V::Mask, like: V) -> V {
    V::select(mask, like.like(1.0), like.like(0.0))
}

/// 1 where x is not zero.
#[inline(always)]
fn boolean<V: Simd>(x: V) -> V {
    V::select(x.eq(x.like(0.0)), x.like(0.0), x.like(1.0))
}

/// libm's is wrong far below the domain.
fn acosh(x: f32) -> f32 {
    if x < 1.0 { f32::NAN } else { libm::acoshf(x) }
}

/// Remainder with the sign of the divisor.
fn floor_mod(a: f32, b: f32) -> f32 {
    let r = libm::fmodf(a, b);
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}
