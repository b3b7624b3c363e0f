//! Pooling over windows.

use super::conv::{Window, geometry, plane_or, window_output};
use super::{Call, OpError, Operator, Reduce, problem, unsupported};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::kernels::{DType, PoolKind, ReduceKind};
use crate::plan::{Instruction, Lower};
use std::vec::Vec;

/// Maximum or average over a window of x [n, c, spatial..].
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub kind: PoolKind,
    /// One entry for each spatial dimension.
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub pad_begin: Vec<usize>,
    pub pad_end: Vec<usize>,
    /// Extra room behind, beyond the padding, that rounding up the output size needs.
    pub ceil: Vec<usize>,
}

impl Operator for Pool {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        if x.dtype != DType::F32 || x.rank() != self.kernel.len() + 2 {
            return Err(problem!("{}-D pooling does not take {x}", self.kernel.len()));
        }
        let mut shape = x.shape[..2].to_vec();
        for axis in 0..self.kernel.len() {
            let pads = self.pad_begin[axis] + self.pad_end[axis] + self.ceil[axis];
            let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            let size = window_output(x.shape[axis + 2], kernel, stride, dilation, pads);
            shape.push(size.ok_or_else(|| problem!("the window is larger than the padded image {x}"))?);
        }
        Ok(std::vec![Fact { dtype: DType::F32, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let shape = self.shapes(&[&x.fact()])?.remove(0).shape;
        let (input, output) = (plane_or(&x.shape()[2..], 1), plane_or(&shape[2..], 1));
        let images = x.shape()[0] * x.shape()[1];
        let elements = x.as_f32()?;
        let mut y = Vec::with_capacity(images * output[0] * output[1]);
        for image in elements.chunks((input[0] * input[1]).max(1)).take(images) {
            for position in 0..output[0] * output[1] {
                y.push(self.window(image, input, [position / output[1], position % output[1]]));
            }
        }
        Ok(std::vec![Tensor::f32(&shape, y)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let x = lower.image(node.inputs[0])?;
        let y = lower.image_output(node.outputs[0])?;
        let geometry = geometry(&self.kernel, &self.stride, &self.dilation, &self.pad_begin);
        let pad_end = plane_or(&self.pad_end, 0).map(|p| p as u32);
        let [x, y] = lower.view_each([&x, &y])?;
        lower.emit(Instruction::Pool { kind: self.kind, x, geometry, pad_end, y });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        (outputs[0].len() * self.kernel.iter().product::<usize>()) as u64
    }
}

impl Pool {
    fn window(&self, image: &[f32], input: [usize; 2], at: [usize; 2]) -> f32 {
        let (kernel, stride) = (plane_or(&self.kernel, 1), plane_or(&self.stride, 1));
        let (dilation, begin) = (plane_or(&self.dilation, 1), plane_or(&self.pad_begin, 0));
        let end = plane_or(&self.pad_end, 0);
        let (mut values, mut padded) = (Vec::new(), 0);
        for tap in 0..kernel[0] * kernel[1] {
            let tap = [tap / kernel[1], tap % kernel[1]];
            let position = [0, 1].map(|a| at[a] * stride[a] + tap[a] * dilation[a]);
            padded += usize::from((0..2).all(|a| position[a] < input[a] + begin[a] + end[a]));
            if (0..2).all(|a| (begin[a]..input[a] + begin[a]).contains(&position[a])) {
                values.push(image[(position[0] - begin[0]) * input[1] + position[1] - begin[1]]);
            }
        }
        let sum = || values.iter().map(|&v| f64::from(v)).sum::<f64>();
        match self.kind {
            PoolKind::Max => values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            PoolKind::Average => (sum() / values.len() as f64) as f32,
            PoolKind::AveragePadded => (sum() / padded as f64) as f32,
        }
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    if call.outputs > 1 {
        return Err(unsupported!("{} has a kernel for its first output only", call.operator));
    }
    let spatial = b.shape(x).get(2..).unwrap_or_default().to_vec();
    let kernel = call.sizes("kernel_shape", spatial.len(), 1)?;
    let window = Window::of(call, &spatial, &kernel)?;
    let kind = match (call.operator.as_str(), call.flag("count_include_pad", false)?) {
        ("MaxPool", _) => PoolKind::Max,
        (_, false) => PoolKind::Average,
        (_, true) => PoolKind::AveragePadded,
    };
    let mut ceil = std::vec![0; kernel.len()];
    if call.flag("ceil_mode", false)? {
        for axis in 0..kernel.len() {
            let reach = window.dilation[axis] * (kernel[axis] - 1) + 1;
            let padded = spatial[axis] + window.pad_begin[axis] + window.pad_end[axis];
            let rest = padded.saturating_sub(reach) % window.stride[axis];
            let next = padded.saturating_sub(reach) / window.stride[axis] + 1;
            // A last window that would begin in the padding behind the image is left out.
            if rest > 0 && next * window.stride[axis] < spatial[axis] + window.pad_begin[axis] {
                ceil[axis] = window.stride[axis] - rest;
            }
        }
    }
    let Window { stride, dilation, pad_begin, pad_end } = window;
    Ok(std::vec![b.push(Pool { kind, kernel, stride, dilation, pad_begin, pad_end, ceil }, &[x])?])
}

pub fn import_global(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let kind = if call.operator == "GlobalMaxPool" { ReduceKind::Max } else { ReduceKind::Mean };
    let axes = (2..b.shape(x).len()).collect();
    Ok(std::vec![b.push(Reduce { kind, axes, keep: true }, &[x])?])
}
