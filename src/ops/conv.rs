//! Convolutions in one and two dimensions.

use super::epilogue::finish;
use super::{Call, OpError, Operator, Pad, Slice, problem, unsupported};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::kernels::{Activation, DType, MapCode, PLACES, winograd_scratch};
use crate::plan::{Geometry, Instruction, Lower, Place, pack};
use std::vec::Vec;

/// `activation(conv(x, weights) + bias + residual)`. Inputs: x [n, c, spatial..], constant weights
/// `[outputs, c / groups, kernel..]`, then bias `[outputs]` and a residual of the result's shape, where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// One entry for each spatial dimension.
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub pad_begin: Vec<usize>,
    pub pad_end: Vec<usize>,
    pub groups: usize,
    pub bias: bool,
    pub residual: bool,
    pub activation: Activation,
}

/// The output size of a window that slides along one axis; `None` if the window does not fit.
pub(crate) fn window_output(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: usize,
) -> Option<usize> {
    let reach = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    Some((input + pads).checked_sub(reach)?.checked_div(stride)? + 1)
}

impl Operator for Conv {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let (x, w) = (inputs[0], inputs[1]);
        let spatial = self.stride.len();
        if x.dtype != DType::F32 || x.rank() != spatial + 2 || w.rank() != spatial + 2 {
            return Err(problem!("a {spatial}-D convolution does not take {x} and weights {w}"));
        }
        let (channels, outputs) = (w.shape[1] * self.groups, w.shape[0]);
        if self.groups == 0 || channels != x.shape[1] || !outputs.is_multiple_of(self.groups) {
            return Err(problem!("{x} does not fit weights {w} in {} groups", self.groups));
        }
        let mut shape = std::vec![x.shape[0], outputs];
        for axis in 0..spatial {
            let pads = self.pad_begin[axis] + self.pad_end[axis];
            let size = window_output(
                x.shape[axis + 2],
                w.shape[axis + 2],
                self.stride[axis],
                self.dilation[axis],
                pads,
            );
            shape.push(size.ok_or_else(|| problem!("the kernel {w} is larger than the padded image {x}"))?);
        }
        Ok(std::vec![Fact { dtype: DType::F32, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let facts = [inputs[0].fact(), inputs[1].fact()];
        let shape = self.shapes(&[&facts[0], &facts[1]])?.remove(0).shape;
        let count: usize = shape.iter().product();
        let (x, w) = ((inputs[0].shape(), inputs[0].as_f32()?), (inputs[1].shape(), inputs[1].as_f32()?));
        let sums = (0..count).map(|i| self.at(&unravel(i, &shape), x, w, shape[1]));
        let bias = self.bias.then(|| inputs[2]);
        let residual = self.residual.then(|| inputs[2 + usize::from(self.bias)]);
        Ok(std::vec![finish(sums, &shape, 1, bias, residual, self.activation)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let x = lower.image(node.inputs[0])?;
        let weights = lower.known(node.inputs[1]).ok_or_else(|| problem!("the weights are not constant"))?;
        let c = lower.image_output(node.outputs[0])?;
        let bias = lower.vector(self.bias.then(|| node.inputs[2]))?;
        if weights.shape()[1] == 1 && self.groups == weights.shape()[0] && self.groups > 1 && !self.residual {
            return self.depthwise(lower, weights, &x, bias.as_ref(), &c);
        }
        let residual = match self.residual {
            true => Some(lower.even_image(node.inputs[2 + usize::from(self.bias)])?),
            false => None,
        };
        self.grouped(lower, node, weights, [&x, &c], [bias.as_ref(), residual.as_ref()])
    }

    fn flops(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        2 * outputs[0].len() as u64 * inputs[1].shape[1..].iter().product::<usize>() as u64
    }
}

impl Conv {
    /// One product of patches and packed weights a group.
    fn grouped(
        &self,
        lower: &mut Lower,
        node: &Node,
        weights: &Tensor,
        [x, c]: [&Place; 2],
        [bias, residual]: [Option<&Place>; 2],
    ) -> Result<(), OpError> {
        let (outputs, depth) = (weights.shape()[0] / self.groups, weights.shape()[1]);
        let (elements, taps) = (weights.as_f32()?, weights.shape()[2..].iter().product());
        let (geometry, activation) = (self.geometry(&weights.shape()[2..]), self.activation);
        let zeros = lower.zeros(depth);
        let minimal = !lower.is_frugal() && self.is_minimal(c, outputs, depth, &weights.shape()[2..]);
        let half = (!minimal || lower.halves_winograd()) && !lower.is_thin(depth, outputs);
        for group in 0..self.groups {
            let own = &elements[group * outputs * depth * taps..][..outputs * depth * taps];
            let scales = half.then(|| lower.scales(node, node.inputs[0], group * depth, depth)).flatten();
            let packing = lower.packing;
            let (weights, scratch) = if minimal {
                let [images, height, width] = [0, 1, 2].map(|axis| c.dims[axis]);
                let format = packing.format(scales.is_some());
                let floats = winograd_scratch(images, [height, width], depth, format);
                let scratch = lower.allocate(&Fact::new(DType::F32, &[floats]), &[0]);
                let rows = pack::winograd(own, depth);
                let weights = pack::Weights { depth: PLACES * depth, n: outputs, rows: &rows };
                (lower.panels(&weights, scales.as_deref())?, Some(scratch))
            } else {
                let rows = pack::convolution(own, depth, taps);
                let weights = pack::Weights { depth: taps * depth, n: outputs, rows: &rows };
                (lower.panels(&weights, scales.as_deref())?, None)
            };
            let part = |p: &Place| p.part(p.rank() - 1, group * outputs, outputs);
            let input = x.part(3, group * depth, depth);
            let [x, zeros, c] = lower.view_each([&input, &zeros, &part(c)])?;
            let bias = lower.optional_view(bias.map(part).as_ref())?;
            let residual = lower.optional_view(residual.map(part).as_ref())?;
            let scratch = lower.optional_view(scratch.as_ref())?;
            lower.note_product(x, node.inputs[0], group * depth);
            lower.emit(Instruction::Conv {
                x,
                weights,
                bias,
                residual,
                activation,
                geometry,
                zeros,
                scratch,
                c,
            });
        }
        Ok(())
    }

    /// Whether Winograd's method pays: its transforms cost about 250 operations a patch and channel, which the 108
    /// multiplications have to make good that it saves for each patch, channel and output; and four times the weights
    /// have to come from memory.
    fn is_minimal(&self, c: &Place, outputs: usize, channels: usize, kernel: &[usize]) -> bool {
        let plain = kernel == [3, 3] && self.stride == [1, 1] && self.dilation == [1, 1];
        let [images, height, width] = [0, 1, 2].map(|axis| c.dims[axis]);
        let patches = images * height.div_ceil(4) * width.div_ceil(4);
        let saved = 108.0 - 250.0 * (1.0 / outputs as f64 + 1.0 / channels as f64);
        let pays = saved > 25.0 && patches >= 16;
        plain && pays
    }

    /// One filter a channel.
    fn depthwise(
        &self,
        lower: &mut Lower,
        weights: &Tensor,
        x: &Place,
        bias: Option<&Place>,
        c: &Place,
    ) -> Result<(), OpError> {
        let (geometry, activation) = (self.geometry(&weights.shape()[2..]), self.activation);
        let taps = weights.shape()[2..].iter().product();
        let packed = lower.floats(&pack::depthwise(weights.as_f32()?, self.groups, taps));
        let zeros = lower.zeros(self.groups);
        let [x, weights, zeros, c] = lower.view_each([x, &packed, &zeros, c])?;
        let bias = lower.optional_view(bias)?;
        lower.emit(Instruction::Depthwise { x, weights, bias, activation, geometry, zeros, c });
        Ok(())
    }

    fn geometry(&self, kernel: &[usize]) -> Geometry {
        geometry(kernel, &self.stride, &self.dilation, &self.pad_begin)
    }

    /// One output element, of shapes and elements.
    fn at(&self, output: &[usize], x: (&[usize], &[f32]), w: (&[usize], &[f32]), outputs: usize) -> f64 {
        let x_strides = contiguous_strides(x.0);
        let first_channel = output[1] / (outputs / self.groups) * w.0[1];
        let taps: usize = w.0[1..].iter().product();
        let mut sum = 0f64;
        for tap in 0..taps {
            let index = unravel(tap, &w.0[1..]);
            let mut at =
                output[0] as isize * x_strides[0] + (first_channel + index[0]) as isize * x_strides[1];
            let mut inside = true;
            for axis in 0..self.stride.len() {
                let position = (output[axis + 2] * self.stride[axis] + index[axis + 1] * self.dilation[axis])
                    as isize
                    - self.pad_begin[axis] as isize;
                inside &= (0..x.0[axis + 2] as isize).contains(&position);
                at += position * x_strides[axis + 2];
            }
            if inside {
                sum += f64::from(x.1[at as usize]) * f64::from(w.1[output[1] * taps + tap]);
            }
        }
        sum
    }
}

/// A window's geometry on a plane; a line is a plane of height 1.
pub(super) fn geometry(kernel: &[usize], stride: &[usize], dilation: &[usize], pad: &[usize]) -> Geometry {
    Geometry {
        kernel: plane_or(kernel, 1).map(|v| v as u32),
        stride: plane_or(stride, 1).map(|v| v as u32),
        dilation: plane_or(dilation, 1).map(|v| v as u32),
        pad: plane_or(pad, 0).map(|v| v as u32),
    }
}

/// One or two spatial sizes as height and width; a missing height is `fill`.
pub(super) fn plane_or(sizes: &[usize], fill: usize) -> [usize; 2] {
    match sizes {
        [w] => [fill, *w],
        [h, w] => [*h, *w],
        _ => [fill; 2],
    }
}

/// The indices of a row-major position.
fn unravel(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = std::vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = position % shape[axis];
        position /= shape[axis];
    }
    index
}

/// Larger sizes of a window are mistakes, and their sums would overflow.
const MAX_WINDOW: usize = 1 << 20;

/// What every window operator (convolution, pooling) says in its attributes.
pub(crate) struct Window {
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub pad_begin: Vec<usize>,
    pub pad_end: Vec<usize>,
}

impl Window {
    /// # Errors
    /// If there are not 1 or 2 spatial dimensions, or attributes do not fit.
    pub fn of(call: &Call, spatial: &[usize], kernel: &[usize]) -> Result<Window, OpError> {
        let count = spatial.len();
        if !(1..=2).contains(&count) || kernel.len() != count {
            return Err(unsupported!(
                "{} has kernels for 1 and 2 spatial dimensions, not {count}",
                call.operator
            ));
        }
        let stride = call.sizes("strides", count, 1)?;
        let dilation = call.sizes("dilations", count, 1)?;
        if stride.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
            return Err(problem!("{} has a stride, dilation or kernel of 0", call.operator));
        }
        let (mut pad_begin, mut pad_end) = (std::vec![0; count], std::vec![0; count]);
        match call.string("auto_pad", "NOTSET")? {
            "NOTSET" => {
                let pads = call.sizes("pads", 2 * count, 0)?;
                pad_begin.copy_from_slice(&pads[..count]);
                pad_end.copy_from_slice(&pads[count..]);
            }
            "VALID" => {}
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..count {
                    let output = spatial[axis].div_ceil(stride[axis]);
                    let reach = (output.max(1) - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1;
                    let total = reach.saturating_sub(spatial[axis]);
                    let small = total / 2;
                    (pad_begin[axis], pad_end[axis]) =
                        if same == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
                }
            }
            other => return Err(problem!("auto_pad {other:?} is not one of ONNX's")),
        }
        let sizes = kernel.iter().chain(&stride).chain(&dilation).chain(&pad_begin).chain(&pad_end);
        if let Some(size) = sizes.copied().find(|&size| size >= MAX_WINDOW) {
            return Err(problem!("{} has a kernel, stride, dilation or padding of {size}", call.operator));
        }
        Ok(Window { stride, dilation, pad_begin, pad_end })
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    if b.known(weights).is_none() {
        return Err(unsupported!("{} has kernels for constant weights only", call.operator));
    }
    if b.shape(x).len() < 3 || b.shape(x).len() != b.shape(weights).len() {
        return Err(problem!(
            "{} does not take {} and weights {}",
            call.operator,
            b.fact(x),
            b.fact(weights)
        ));
    }
    let groups = usize::try_from(call.int("group", 1)?).map_err(|_| problem!("group is negative"))?;
    let kernel = b.shape(weights)[2..].to_vec();
    let result = if call.operator == "Conv" {
        let window = Window::of(call, &b.shape(x)[2..], &kernel)?;
        convolve(b, x, weights, window, groups)?
    } else {
        transposed(b, call, x, weights, groups)?
    };
    let Some(bias) = call.optional(2) else { return Ok(std::vec![result]) };
    let mut shape = std::vec![1; b.shape(result).len()];
    shape[1] = b.shape(result)[1];
    let bias = b.reshape(bias, &shape)?;
    Ok(std::vec![b.map2(MapCode::Add, result, bias)?])
}

fn convolve(
    b: &mut Builder,
    x: ValueId,
    weights: ValueId,
    window: Window,
    groups: usize,
) -> Result<ValueId, OpError> {
    let conv = Conv {
        stride: window.stride,
        dilation: window.dilation,
        pad_begin: window.pad_begin,
        pad_end: window.pad_end,
        groups,
        bias: false,
        residual: false,
        activation: Activation::None,
    };
    b.push(conv, &[x, weights])
}

/// A transposed convolution is a convolution, with the kernel turned around, of the image with zeros between its pixels
/// (Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv 1603.07285, section 4).
fn transposed(
    b: &mut Builder,
    call: &Call,
    x: ValueId,
    weights: ValueId,
    groups: usize,
) -> Result<ValueId, OpError> {
    let kernel = b.shape(weights)[2..].to_vec();
    let count = kernel.len();
    let input = b.shape(x)[2..].to_vec();
    let window = Window::of(call, &input, &kernel)?;
    let extra = call.sizes("output_padding", count, 0)?;
    let full: Vec<usize> = (0..count)
        .map(|i| {
            (input[i].max(1) - 1) * window.stride[i] + window.dilation[i] * (kernel[i] - 1) + 1 + extra[i]
        })
        .collect();
    let (begin, end) = transposed_pads(call, &window, &input, &full)?;
    let reach: Vec<i64> = (0..count).map(|i| (window.dilation[i] * (kernel[i] - 1)) as i64).collect();
    let low: Vec<i64> = (0..count).map(|i| reach[i] - begin[i]).collect();
    let high: Vec<i64> = (0..count).map(|i| reach[i] - end[i] + extra[i] as i64).collect();
    let spread = Pad {
        low: [&[0, 0], &low.iter().map(|&p| p.max(0) as usize).collect::<Vec<_>>()[..]].concat(),
        high: [&[0, 0], &high.iter().map(|&p| p.max(0) as usize).collect::<Vec<_>>()[..]].concat(),
        interior: [&[0, 0], &window.stride.iter().map(|&s| s - 1).collect::<Vec<_>>()[..]].concat(),
        value: 0.0,
    };
    let mut spread = b.push(spread, &[x])?;
    if low.iter().chain(&high).any(|&p| p < 0) {
        spread = crop(b, spread, &low, &high)?;
    }
    let weights = turned(b, weights, groups)?;
    let window = Window {
        stride: std::vec![1; count],
        dilation: window.dilation,
        pad_begin: std::vec![0; count],
        pad_end: std::vec![0; count],
    };
    convolve(b, spread, weights, window, groups)
}

/// Cuts off what a negative padding says.
fn crop(b: &mut Builder, x: ValueId, low: &[i64], high: &[i64]) -> Result<ValueId, OpError> {
    let shape = b.shape(x).to_vec();
    let mut starts = std::vec![0; shape.len()];
    let mut sizes = shape.clone();
    for i in 0..low.len() {
        starts[i + 2] = (-low[i]).max(0);
        let cut = (-low[i]).max(0) + (-high[i]).max(0);
        sizes[i + 2] = usize::try_from(shape[i + 2] as i64 - cut).map_err(|_| problem!("nothing is left"))?;
    }
    b.push(Slice { starts, steps: std::vec![1; shape.len()], sizes }, &[x])
}

/// Padding of a transposed convolution: what is cut off its full output, before and after.
fn transposed_pads(
    call: &Call,
    window: &Window,
    input: &[usize],
    full: &[usize],
) -> Result<(Vec<i64>, Vec<i64>), OpError> {
    let count = full.len();
    let wide = |v: &[usize]| v.iter().map(|&p| p as i64).collect::<Vec<_>>();
    let auto = call.string("auto_pad", "NOTSET")?;
    let target = match call.ints("output_shape")? {
        Some(shape) if shape.len() >= count => shape[shape.len() - count..].to_vec(),
        _ if auto.starts_with("SAME") => (0..count).map(|i| (input[i] * window.stride[i]) as i64).collect(),
        _ => return Ok((wide(&window.pad_begin), wide(&window.pad_end))),
    };
    let totals: Vec<i64> = (0..count).map(|i| full[i] as i64 - target[i]).collect();
    let halves: Vec<i64> = totals.iter().map(|&t| t / 2).collect();
    let rest: Vec<i64> = totals.iter().zip(&halves).map(|(t, h)| t - h).collect();
    Ok(if auto == "SAME_UPPER" { (halves, rest) } else { (rest, halves) })
}

/// Weights of a transposed convolution [inputs, outputs / groups, kernel..] as those of a convolution.
fn turned(b: &mut Builder, weights: ValueId, groups: usize) -> Result<ValueId, OpError> {
    let shape = b.shape(weights).to_vec();
    if groups == 0 || !shape[0].is_multiple_of(groups) {
        return Err(problem!("{} input channels do not split into {groups} groups", shape[0]));
    }
    let (inputs, outputs, kernel) = (shape[0] / groups, shape[1], &shape[2..]);
    let mut steps = std::vec![1; shape.len()];
    let mut starts = std::vec![0; shape.len()];
    for axis in 2..shape.len() {
        steps[axis] = -1;
        starts[axis] = shape[axis] as i64 - 1;
    }
    let flipped = b.push(Slice { starts, steps, sizes: shape.clone() }, &[weights])?;
    let split = b.reshape(flipped, &[&[groups, inputs, outputs], kernel].concat())?;
    let mut order: Vec<usize> = (0..shape.len() + 1).collect();
    order.swap(1, 2);
    let swapped = b.transpose(split, &order)?;
    b.reshape(swapped, &[&[groups * outputs, inputs], kernel].concat())
}
