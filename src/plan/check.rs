//! Checks a plan once, before anything runs it: every access of every instruction lies inside of the arena or the
//! weights, whatever the bytes say.

use super::instruction::{
    Access, Baked, Geometry, Instruction, Kept, Matrix, Panels, Scales, Space, Span, Stage, View, ViewId,
};
use super::overlap::is_free;
use super::{ALIGNMENT, MAX_HOST_OPERANDS, Plan, SLOT_HEAD, Slots, VERSION};
use crate::kernels::{
    Arithmetic, AttentionShape, DType, F16, IMMEDIATE, Layout, MAX_MAP_STEPS, MAX_RANK, MAX_REGISTERS,
    PLACES, attention_scratch, norm_scratch, winograd_scratch,
};

/// Why bytes are not a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("this is not a plan; make one with `fewstep compile`")]
    NotAPlan,
    #[error(
        "this is the bundle of a pipeline, and not one plan; `fewstep sample FILE --prompt TEXT` draws with it"
    )]
    Bundle,
    #[error("the plan has {found} bytes, but says that it has {needed}; copy it again")]
    Length { needed: u64, found: u64 },
    #[error("the plan is damaged in its {part}; copy it again, or compile the model again")]
    Damaged { part: &'static str },
    #[error("the plan's metadata are damaged; compile the model again")]
    Malformed,
    #[error("the plan has format version {found}, this program reads {VERSION}; compile the model again")]
    Version { found: u32 },
    #[error("the plan does not begin at a multiple of {ALIGNMENT} bytes")]
    Misaligned,
    #[error("instruction {instruction} of the plan is not sound ({problem}); compile the model again")]
    Instruction { instruction: u32, problem: &'static str },
    #[error("the stages of the plan are not sound ({problem}); compile the model again")]
    Stages { problem: &'static str },
    #[error("port {port} of the plan is not sound ({problem}); compile the model again")]
    Port { port: u32, problem: &'static str },
}

type Sound = Result<(), &'static str>;

/// What can be told of a plan without running it.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    if plan.version() != VERSION {
        return Err(PlanError::Version { found: plan.version() });
    }
    for (i, port) in plan.inputs().chain(plan.outputs()).enumerate() {
        let wrong = |problem| PlanError::Port { port: i as u32, problem };
        let view = view(plan, port.view, Access::Write).map_err(wrong)?;
        dense(&view).map_err(wrong)?;
    }
    stages(plan).map_err(|problem| PlanError::Stages { problem })?;
    for stage in Stage::ALL {
        let mut left = plan.cost(stage).flop.saturating_mul(MARGIN);
        for i in plan.stage(stage) {
            let instruction = plan.instruction(i).ok_or(PlanError::Malformed)?;
            let mut sound = || {
                operands(plan, &instruction)?;
                when(is_free(plan, &instruction), "it writes to what it reads")?;
                left = left
                    .checked_sub(work(plan, &instruction))
                    .ok_or("it works for longer than the plan says")?;
                shapes(plan, &instruction)
            };
            sound().map_err(|problem| PlanError::Instruction { instruction: i as u32, problem })?;
        }
    }
    Ok(())
}

/// Stages follow on each other, and the slots of those that are kept have room for what the engine writes there.
fn stages(plan: &Plan) -> Sound {
    let mut end = 0;
    for stage in Stage::ALL {
        let range = plan.stage(stage);
        when(range.start == end && range.start <= range.end, "they overlap")?;
        end = range.end;
    }
    when(end == plan.len(), "they are not all of the plan")?;
    let runs = |stage| !plan.stage(stage).is_empty();
    let inputs = |stage| plan.inputs().filter(move |port| port.stage == stage);
    let mut times = SLOT_HEAD;
    for port in inputs(Stage::Time) {
        let view = plan.view_at(port.view).ok_or("an input does not exist")?;
        times = view.key_bytes().and_then(|key| key.checked_add(times)).ok_or("a time is too large")?;
    }
    let both = runs(Stage::TimeCondition);
    let needed = [
        (Kept::Time, runs(Stage::Time) || both, times),
        (Kept::Condition, runs(Stage::Condition) || both || inputs(Stage::Condition).count() > 0, SLOT_HEAD),
        (Kept::TimeCondition, both, SLOT_HEAD),
    ];
    for (kept, used, least) in needed {
        let bytes = plan.slot_bytes(kept);
        when(bytes.is_multiple_of(ALIGNMENT), "a slot is misaligned")?;
        when(!used || bytes >= least, "a slot is too small")?;
    }
    if let Some(Baked { offset, times }) = plan.baked() {
        let bytes = (plan.slot_bytes(Kept::Time) as u64).checked_mul(u64::from(times));
        let end = bytes.and_then(|bytes| bytes.checked_add(offset));
        let inside = end.is_some_and(|end| end <= plan.weights().len() as u64);
        when(inside && offset.is_multiple_of(ALIGNMENT as u64), "times are outside of the weights")?;
        when(times > 0 && !runs(Stage::Time), "times are computed twice")?;
    }
    when(
        plan.memory_bytes(Slots::ONE).is_some_and(|bytes| bytes <= isize::MAX as usize),
        "they need too much memory",
    )
}

/// Every view that the instruction names exists, lies inside of its memory, and is written only in the arena.
fn operands(plan: &Plan, instruction: &Instruction) -> Sound {
    let mut sound = Ok(());
    instruction.views(&mut |id, access| sound = sound.and_then(|()| view(plan, id, access).map(|_| ())));
    for (span, access) in instruction.spans() {
        when(span.len as usize <= MAX_HOST_OPERANDS, "an operand list is too long")?;
        when(plan.operands(span).count() == span.len as usize, "an operand list is cut off")?;
        for id in plan.operands(span) {
            view(plan, id, access)?;
        }
    }
    sound
}

fn view(plan: &Plan, id: ViewId, access: Access) -> Result<View, &'static str> {
    let view = plan.view_at(id).ok_or("an operand does not exist")?;
    let constant = match view.space {
        Space::Weights => true,
        Space::Slot(Kept::Time) => plan.baked().is_some(),
        Space::Arena | Space::Slot(_) => false,
    };
    if access == Access::Write && constant {
        return Err("it writes into the weights");
    }
    let (rank, layout) = (view.layout.rank as usize, &view.layout);
    when(rank <= MAX_RANK, "an operand has too many dimensions")?;
    // What kernels take for granted of dimensions that are not there.
    let rest = (rank..MAX_RANK).all(|axis| layout.dim(axis) == 1 && layout.stride(axis) == 0);
    when(rest, "an operand has dimensions beyond its last")?;
    let end = match view.space {
        Space::Arena => plan.arena_bytes(),
        Space::Weights => plan.weights().len(),
        Space::Slot(kept) => plan.slot_bytes(kept),
    };
    elements(layout, access)?;
    let size = view.dtype.size() as i128;
    if !view.offset.is_multiple_of(view.dtype.size() as u64) {
        return Err("an operand is misaligned");
    }
    // An empty operand is never touched, but its address is computed.
    let (low, high) = view.layout.reach().unwrap_or((0, -1));
    let offset = i128::from(view.offset);
    let (first, last) = (offset + i128::from(low) * size, offset + (i128::from(high) + 1) * size);
    if first < 0 || last.max(offset) > end as i128 {
        return Err("an operand reaches outside of its memory");
    }
    Ok(view)
}

/// The most elements that an operand may have, repeated ones counted: what is computed of them stays within a `usize`.
const MAX_ELEMENTS: u64 = if usize::BITS > 32 { 1 << 34 } else { 1 << 28 };

/// The most taps of a window.
const MAX_TAPS: usize = 1 << 16;

/// The most channels of an image for Winograd's method, whose scratch grows with them alone.
const MAX_WINOGRAD_CHANNELS: usize = 1 << 14;

/// How far a window may reach, in pixels.
const MAX_REACH: u64 = 1 << 30;

/// How many times the operations that a stage's cost names its instructions may take: how they are carried out is not
/// how they were counted.
const MARGIN: u64 = 4;

/// The most elements that a result without any would have, were its empty dimensions 1.
const MAX_EMPTY: u64 = 1 << 24;

/// A bound on what an operand makes a kernel do; what is written names no element twice.
fn elements(layout: &Layout, access: Access) -> Sound {
    // Of an operand without elements too: products of some of its dimensions are computed, and counted to.
    let dims = layout.dims[..layout.rank()].iter();
    let count = dims.copied().try_fold(1u64, |count, size| count.checked_mul(u64::from(size.max(1))));
    let count = count.filter(|&count| count <= MAX_ELEMENTS).ok_or("an operand has too many elements")?;
    match (access, layout.is_empty()) {
        (Access::Read, _) => Ok(()),
        (Access::Write, true) => when(count <= MAX_EMPTY, "a result without elements is too large"),
        (Access::Write, false) => when(distinct(layout), "a result is written to the same place twice"),
    }
}

/// Whether every element has a place of its own: by their strides, each dimension steps over all of those before it.
fn distinct(layout: &Layout) -> bool {
    let mut axes = [(0, 0); MAX_RANK];
    for (axis, entry) in axes.iter_mut().enumerate().filter(|&(axis, _)| layout.dim(axis) > 1) {
        *entry = (u64::from(layout.strides[axis].unsigned_abs()), u64::from(layout.dims[axis] - 1));
    }
    axes.sort_unstable();
    let mut reach = 0u64;
    axes.into_iter().filter(|&(_, last)| last > 0).all(|(stride, last)| {
        let steps_over = stride > reach;
        reach = reach.saturating_add(stride.saturating_mul(last));
        steps_over
    })
}

/// Multiply-adds, or elements, that an instruction takes beyond one look at each element of its result. Without a limit, a
/// few bytes could keep a CPU busy for years: repeated elements and deep products cost no memory.
fn work(plan: &Plan, instruction: &Instruction) -> u64 {
    let layout = |id| plan.view_at(id).map(|view| view.layout);
    let size = |id, axis: usize| {
        layout(id).map_or(1, |layout| u64::from(layout.dims[axis.min(MAX_RANK - 1)].max(1)))
    };
    let last = |id| layout(id).map_or(1, |of| of.rank().checked_sub(1).map_or(1, |axis| size(id, axis)));
    let len = |id| (0..MAX_RANK).map(|axis| size(id, axis)).fold(1, u64::saturating_mul);
    let taps = |Geometry { kernel, .. }: Geometry| u64::from(kernel[0]) * u64::from(kernel[1]);
    match *instruction {
        Instruction::Gemm { a, c, .. } => len(c).saturating_mul(last(a)),
        Instruction::Attention { q, k, y, .. } => len(q).saturating_add(len(y)).saturating_mul(last(k)),
        Instruction::Conv { x, geometry, c, .. } => {
            len(c).saturating_mul(taps(geometry)).saturating_mul(size(x, 3))
        }
        Instruction::Depthwise { geometry, c: y, .. } | Instruction::Pool { geometry, y, .. } => {
            len(y).saturating_mul(taps(geometry))
        }
        Instruction::Resample { indices, y, .. } => len(y).saturating_mul(size(indices, 1)),
        Instruction::Reduce { input, .. } => len(input),
        // Their results lie in memory, every element once.
        Instruction::Map { .. }
        | Instruction::Int { .. }
        | Instruction::Copy { .. }
        | Instruction::Gather { .. }
        | Instruction::CumSum { .. }
        | Instruction::Norm { .. }
        | Instruction::Softmax { .. } => 0,
        // The host answers for its own.
        Instruction::Host { .. } => 0,
    }
}

/// The operands' dimensions fit together as the kernel takes for granted.
fn shapes(plan: &Plan, instruction: &Instruction) -> Sound {
    let at = |id| plan.view_at(id).ok_or("an operand does not exist");
    match *instruction {
        Instruction::Map { steps, inputs, output } => map(plan, steps, inputs, at(output)?),
        Instruction::Int { operands, output, .. } => {
            let output = at(output)?;
            for id in operands {
                same_dims(&at(id)?, &output)?;
            }
            let float = operands.iter().filter_map(|&id| plan.view_at(id)).any(|v| v.dtype == DType::F32);
            when(!float && output.dtype != DType::F32, "integers are floats")
        }
        Instruction::Copy { input, output } => {
            let (input, output) = (at(input)?, at(output)?);
            same_dims(&input, &output)?;
            when(input.dtype == output.dtype, "a copy changes the type")
        }
        Instruction::Gather { data, indices, output, axis } => {
            gather(at(data)?, at(indices)?, at(output)?, axis as usize)
        }
        Instruction::CumSum { input, output, axis, .. } => {
            let (input, output) = (at(input)?, at(output)?);
            same_dims(&input, &output)?;
            when(input.dtype == output.dtype && input.dtype != DType::Bool, "types differ")?;
            when((axis as usize) < input.layout.rank(), "an axis does not exist")
        }
        Instruction::Reduce { input, output, .. } => {
            let (input, output) = (at(input)?, at(output)?);
            let rank = output.layout.rank();
            let leading =
                rank <= input.layout.rank() && (0..rank).all(|a| input.layout.dim(a) == output.layout.dim(a));
            when(input.dtype != DType::Bool && output.dtype != DType::Bool, "truth values are reduced")?;
            when(leading, "the dimensions of a reduction do not fit")
        }
        Instruction::Gemm { a, b, bias, residual, c, .. } => gemm(plan, at(a)?, b, bias, residual, at(c)?),
        Instruction::Attention { q, k, v, scale, scratch, y } => {
            when(scale.is_finite() && scale > 0.0, "an attention's scale is not above 0")?;
            attention(plan, [at(q)?, at(k)?, at(v)?, at(scratch)?, at(y)?])
        }
        Instruction::Conv { x, weights, bias, residual, geometry, zeros, scratch, c, .. } => {
            if let Some(residual) = residual {
                pixels(&at(residual)?)?;
                same_dims(&at(residual)?, &at(c)?)?;
            }
            let scratch = scratch.map(at).transpose()?;
            convolution(plan, at(x)?, weights, at(zeros)?, (bias, geometry, scratch), at(c)?)
        }
        Instruction::Depthwise { x, weights, bias, geometry, zeros, c, .. } => {
            let (x, c) = (at(x)?, at(c)?);
            image(&x)?;
            pixels(&c)?;
            let channels = x.layout.dim(3);
            window(&x, &c, geometry)?;
            when(c.layout.dim(3) == channels, "channels differ")?;
            let filters = taps(geometry)?.checked_mul(channels).ok_or("a matrix is too large")?;
            vector(&at(weights)?, filters)?;
            vector(&at(zeros)?, channels)?;
            optional_vector(plan, bias, channels)
        }
        Instruction::Norm { x, gamma, beta, groups, scratch, y, .. } => {
            norm(plan, [at(x)?, at(y)?], [gamma, beta], groups as usize, &at(scratch)?)
        }
        Instruction::Softmax { x, y, .. } => {
            let (x, y) = (at(x)?, at(y)?);
            same_dims(&x, &y)?;
            rows(&x, 2)?;
            rows(&y, 2)
        }
        Instruction::Resample { x, indices, weights, y } => resample(plan, at(x)?, indices, weights, at(y)?),
        Instruction::Pool { x, geometry, y, .. } => {
            let (x, y) = (at(x)?, at(y)?);
            image(&x)?;
            pixels(&y)?;
            taps(geometry)?;
            window(&x, &y, geometry)?;
            when(x.layout.dim(3) == y.layout.dim(3), "channels differ")
        }
        Instruction::Host { inputs, outputs, .. } => {
            for id in plan.operands(inputs).chain(plan.operands(outputs)) {
                dense(&at(id)?)?;
            }
            Ok(())
        }
    }
}

fn when(sound: bool, problem: &'static str) -> Sound {
    if sound { Ok(()) } else { Err(problem) }
}

fn same_dims(a: &View, b: &View) -> Sound {
    let (a, b) = (&a.layout, &b.layout);
    when(a.rank == b.rank && a.dims[..a.rank()] == b.dims[..b.rank()], "the dimensions of operands differ")
}

/// Elements one after the other in row-major order.
fn dense(view: &View) -> Sound {
    let mut expected = 1;
    for axis in (0..view.layout.rank()).rev().filter(|&a| view.layout.dim(a) != 1) {
        when(view.layout.stride(axis) == expected, "an operand is not dense")?;
        expected *= view.layout.dim(axis) as isize;
    }
    Ok(())
}

/// f32[`len` or more], dense.
fn vector(view: &View, len: usize) -> Sound {
    when(view.dtype == DType::F32, "a vector is not f32")?;
    dense(view)?;
    when(view.layout.len() >= len, "a vector is too short")
}

fn optional_vector(plan: &Plan, id: Option<ViewId>, len: usize) -> Sound {
    match id {
        Some(id) => vector(&plan.view_at(id).ok_or("an operand does not exist")?, len),
        None => Ok(()),
    }
}

fn aligned(view: &View) -> Sound {
    when(view.offset.is_multiple_of(ALIGNMENT as u64), "scratch is misaligned")
}

/// f32 of this rank whose last axis has stride 1.
fn rows(view: &View, rank: usize) -> Sound {
    when(view.dtype == DType::F32 && view.layout.rank() == rank, "an operand has the wrong rank or type")?;
    when(view.layout.dim(rank - 1) <= 1 || view.layout.stride(rank - 1) == 1, "rows are not contiguous")
}

fn image(view: &View) -> Sound {
    rows(view, 4)
}

/// An image all of whose pixels are one stride apart.
fn pixels(view: &View) -> Sound {
    image(view)?;
    let layout = &view.layout;
    let mut expected = None;
    for axis in (0..3).rev().filter(|&a| layout.dim(a) != 1) {
        when(expected.is_none_or(|e| e == layout.stride(axis)), "pixels are not evenly spaced")?;
        expected = Some(layout.stride(axis) * layout.dim(axis) as isize);
    }
    Ok(())
}

fn taps(geometry: Geometry) -> Result<usize, &'static str> {
    let Geometry { kernel, stride, dilation, .. } = geometry;
    let positive = kernel.iter().chain(&stride).chain(&dilation).all(|&v| v > 0 && v < 1 << 20);
    when(positive, "a window has a size of 0")?;
    let taps = kernel[0] as usize * kernel[1] as usize;
    when(taps <= MAX_TAPS, "a window is too large")?;
    Ok(taps)
}

/// The window's positions stay within what the kernels' index arithmetic holds; what lies outside of the image is zero.
fn window(x: &View, y: &View, geometry: Geometry) -> Sound {
    when(x.layout.dim(0) == y.layout.dim(0), "the numbers of images differ")?;
    let Geometry { kernel, stride, dilation, pad } = geometry;
    when(pad.iter().all(|&p| p < 1 << 20), "a padding is too large")?;
    let reach = |axis: usize| {
        let [last, tap] =
            [y.layout.dims[axis + 1], kernel[axis]].map(|count| u64::from(count.saturating_sub(1)));
        last * u64::from(stride[axis]) + tap * u64::from(dilation[axis])
    };
    when(reach(0) < MAX_REACH && reach(1) < MAX_REACH, "a window reaches too far")
}

/// Elements of a packed matrix.
fn packed(plan: &Plan, half: bool, depth: usize, n: usize) -> Result<usize, &'static str> {
    let width = plan.packing().columns(half);
    when((1..=1024).contains(&width), "panels have no width")?;
    let columns = n.div_ceil(width).checked_mul(width);
    columns.and_then(|columns| columns.checked_mul(depth)).ok_or("a matrix is too large")
}

/// Packed constants of a product: `taps` times k columns of the left matrix, n of the result.
fn panels(plan: &Plan, panels: Panels, [taps, k, n]: [usize; 3]) -> Sound {
    let half = panels.scales.is_some();
    let pairs = half && plan.packing().arithmetic == Arithmetic::Fixed;
    when(!pairs || k.is_multiple_of(2), "a product in fixed point has an odd depth")?;
    let depth = taps.checked_mul(k).ok_or("a matrix is too large")?;
    let element = if half { size_of::<F16>() } else { size_of::<f32>() };
    let bytes = packed(plan, half, depth, n)?.checked_mul(element).ok_or("a matrix is too large")?;
    when(panels.bytes >= bytes as u64, "packed weights are too short")?;
    let end = panels.offset.checked_add(panels.bytes);
    let inside = end.is_some_and(|end| end <= plan.weights().len() as u64);
    when(inside, "packed weights reach outside of their memory")?;
    when(panels.offset.is_multiple_of(ALIGNMENT as u64), "packed weights are misaligned")?;
    match panels.scales {
        Some(Scales { input, output, .. }) => {
            optional_vector(plan, input, k)?;
            optional_vector(plan, Some(output), n)
        }
        None => Ok(()),
    }
}

fn map(plan: &Plan, steps: Span, inputs: Span, output: View) -> Sound {
    let count = inputs.len as usize;
    when(
        count < MAX_REGISTERS
            && steps.len as usize <= MAX_MAP_STEPS
            && (1..=MAX_MAP_STEPS).contains(&plan.steps(steps).count()),
        "an element-wise program is empty or too large",
    )?;
    for id in plan.operands(inputs) {
        same_dims(&plan.view_at(id).ok_or("an operand does not exist")?, &output)?;
    }
    let mut written = [false; MAX_REGISTERS];
    written[..count].fill(true);
    for step in plan.steps(steps) {
        for operand in [step.a, step.b, step.c].into_iter().take(step.code.arity()) {
            let known = operand == IMMEDIATE || written.get(operand as usize).copied().unwrap_or(false);
            when(known, "an element-wise program reads a register before it is written")?;
        }
        let free = (count..MAX_REGISTERS).contains(&(step.dst as usize));
        when(free, "an element-wise program writes into an input")?;
        written[step.dst as usize] = true;
    }
    Ok(())
}

fn convolution(
    plan: &Plan,
    x: View,
    weights: Panels,
    zeros: View,
    (bias, geometry, scratch): (Option<ViewId>, Geometry, Option<View>),
    c: View,
) -> Sound {
    image(&x)?;
    pixels(&c)?;
    window(&x, &c, geometry)?;
    let (channels, n) = (x.layout.dim(3), c.layout.dim(3));
    let mut taps = taps(geometry)?;
    if let Some(scratch) = scratch {
        let Geometry { kernel, stride, dilation, .. } = geometry;
        let fits = kernel == [3, 3] && stride == [1, 1] && dilation == [1, 1];
        when(fits, "Winograd's method is for 3x3 kernels of stride 1")?;
        let [images, height, width] = [0, 1, 2].map(|axis| c.layout.dim(axis));
        let format = plan.packing().format(weights.scales.is_some());
        when((1..=1024).contains(&format.nr), "panels have no width")?;
        when(channels <= MAX_WINOGRAD_CHANNELS, "Winograd's method is for fewer channels")?;
        vector(&scratch, winograd_scratch(images, [height, width], channels, format))?;
        aligned(&scratch)?;
        taps = PLACES;
    }
    panels(plan, weights, [taps, channels, n])?;
    vector(&zeros, channels)?;
    optional_vector(plan, bias, n)
}

fn norm(plan: &Plan, [x, y]: [View; 2], scales: [Option<ViewId>; 2], groups: usize, scratch: &View) -> Sound {
    same_dims(&x, &y)?;
    rows(&x, 3)?;
    rows(&y, 3)?;
    let [n, s, c] = [0, 1, 2].map(|a| x.layout.dim(a));
    when(groups > 0 && c.is_multiple_of(groups), "the groups do not divide the channels")?;
    vector(scratch, norm_scratch(n, s, c, groups))?;
    scales.into_iter().try_for_each(|id| optional_vector(plan, id, c))
}

fn gather(data: View, indices: View, output: View, axis: usize) -> Sound {
    let (d, i, o) = (&data.layout, &indices.layout, &output.layout);
    when(data.dtype == output.dtype && indices.dtype == DType::I64, "types differ")?;
    when(axis < d.rank() && o.rank() + 1 == d.rank() + i.rank(), "the ranks of a gather do not fit")?;
    let lead = (0..axis).all(|a| o.dim(a) == d.dim(a));
    let middle = (0..i.rank()).all(|a| o.dim(axis + a) == i.dim(a));
    let tail = (axis + 1..d.rank()).all(|a| o.dim(a + i.rank() - 1) == d.dim(a));
    when(lead && middle && tail, "the dimensions of a gather do not fit")?;
    when(d.dim(axis) > 0 || i.is_empty(), "a gather from nothing")
}

fn gemm(plan: &Plan, a: View, b: Matrix, bias: Option<ViewId>, residual: Option<ViewId>, c: View) -> Sound {
    let rank = c.layout.rank();
    when(rank >= 2, "a matrix has less than two dimensions")?;
    rows(&a, rank)?;
    rows(&c, rank)?;
    when((0..rank - 1).all(|axis| a.layout.dim(axis) == c.layout.dim(axis)), "the rows of a product differ")?;
    let (k, n) = (a.layout.dim(rank - 1), c.layout.dim(rank - 1));
    let at = |id| plan.view_at(id).ok_or("an operand does not exist");
    match b {
        Matrix::Packed(constants) => panels(plan, constants, [1, k, n])?,
        Matrix::Dynamic { matrix, scratch } => {
            let (matrix, scratch) = (at(matrix)?, at(scratch)?);
            let batches = (0..rank - 2).all(|axis| matrix.layout.dim(axis) == c.layout.dim(axis));
            let fits = matrix.layout.rank() == rank
                && matrix.layout.dim(rank - 2) == k
                && matrix.layout.dim(rank - 1) == n;
            when(
                matrix.dtype == DType::F32 && batches && fits,
                "the right matrix of a product does not fit",
            )?;
            let count: usize = (0..rank - 2).map(|axis| c.layout.dim(axis)).product();
            vector(&scratch, packed(plan, false, k, n)?.checked_mul(count).ok_or("a matrix is too large")?)?;
            aligned(&scratch)?;
        }
    }
    if let Some(id) = residual {
        let residual = at(id)?;
        rows(&residual, rank)?;
        same_dims(&residual, &c)?;
    }
    optional_vector(plan, bias, n)
}

fn attention(plan: &Plan, [q, k, v, scratch, y]: [View; 5]) -> Sound {
    let rank = y.layout.rank();
    when(rank >= 2, "a matrix has less than two dimensions")?;
    rows(&q, rank)?;
    rows(&y, rank)?;
    let floats = [k, v].iter().all(|view| view.dtype == DType::F32 && view.layout.rank() == rank);
    when(floats, "keys or values have the wrong rank or type")?;
    let batches = |view: &View| (0..rank - 2).all(|axis| view.layout.dim(axis) == y.layout.dim(axis));
    let [m, values] = [y.layout.dim(rank - 2), y.layout.dim(rank - 1)];
    let [depth, n] = [k.layout.dim(rank - 2), k.layout.dim(rank - 1)];
    let fits = [q.layout.dim(rank - 2), q.layout.dim(rank - 1)] == [m, depth]
        && [v.layout.dim(rank - 2), v.layout.dim(rank - 1)] == [n, values];
    when(fits && n > 0 && [q, k, v].iter().all(batches), "the operands of an attention do not fit")?;
    let heads = (0..rank - 2).try_fold(1usize, |heads, axis| heads.checked_mul(y.layout.dim(axis)));
    let heads = heads.ok_or("an attention is too large")?;
    let shape = AttentionShape { heads, m, n, depth, values };
    let floats =
        attention_scratch(&shape, plan.packing().columns(false)).ok_or("an attention is too large")?;
    vector(&scratch, floats)?;
    aligned(&scratch)
}

fn resample(plan: &Plan, x: View, indices: ViewId, weights: ViewId, y: View) -> Sound {
    let (indices, weights) = (plan.view_at(indices), plan.view_at(weights));
    let (Some(indices), Some(weights)) = (indices, weights) else { return Err("an operand does not exist") };
    for view in [&x, &y] {
        when(
            view.dtype == DType::F32 && view.layout.rank() == 3,
            "a resized operand has the wrong rank or type",
        )?;
        dense(view)?;
    }
    let outer = x.layout.dim(0) == y.layout.dim(0) && x.layout.dim(2) == y.layout.dim(2);
    when(outer && indices.layout.rank() == 2 && indices.dtype == DType::I64, "a resampling does not fit")?;
    dense(&indices)?;
    vector(&weights, indices.layout.len())?;
    when(indices.layout.dim(0) == y.layout.dim(1), "a resampling table has the wrong size")?;
    // The kernel trusts the table, so it must be constant and every index of it in range.
    when(indices.space == Space::Weights, "a resampling table is not constant")?;
    let start = indices.offset as usize;
    let bytes = plan.weights().get(start..start + indices.layout.len() * 8).ok_or("a table is cut off")?;
    let (table, _) = bytes.as_chunks::<8>();
    let range = 0..x.layout.dim(1) as i64;
    when(table.iter().all(|b| range.contains(&i64::from_le_bytes(*b))), "a resampling table points outside")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dims: &[usize], strides: &[isize]) -> Layout {
        Layout::new(dims, strides).unwrap()
    }

    #[test]
    fn elements_of_a_result_are_told_apart() {
        for (dims, strides) in [
            (&[][..], &[][..]),
            (&[2, 3, 4], &[12, 4, 1]),
            (&[2, 3, 4], &[1, -2, 6]),
            // A part of a concatenation, every second element, and what has one dimension at most.
            (&[5, 3], &[8, 1]),
            (&[5, 3], &[6, 2]),
            (&[1, 7, 1], &[0, 3, 0]),
        ] {
            assert!(distinct(&layout(dims, strides)), "{dims:?} {strides:?}");
        }
        for (dims, strides) in [([2, 3], [0, 1]), ([2, 3], [1, 1]), ([2, 3], [2, -1]), ([3, 3], [2, 3])] {
            assert!(!distinct(&layout(&dims, &strides)), "{dims:?} {strides:?}");
        }
        let most = layout(&[u32::MAX as usize; 8], &[i32::MAX as isize; 8]);
        assert!(!distinct(&most));
        assert_eq!(most.reach(), Some((0, i64::MAX)));
    }

    #[test]
    fn empty_results_are_bounded_too() {
        let check = |dims: &[usize]| elements(&layout(dims, &[0; 8][..dims.len()]), Access::Write);
        assert_eq!(check(&[0]), Ok(()));
        assert_eq!(check(&[0, 1 << 24]), Ok(()));
        assert!(check(&[1 << 24, 0, 2]).is_err());
        assert!(check(&[u32::MAX as usize, u32::MAX as usize, 0]).is_err());
    }
}
