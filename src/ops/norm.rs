//! Normalisations: group, instance, layer and RMS.

use super::epilogue::activate;
use super::{Call, OpError, Operator, normal_axis, problem, unsupported};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::kernels::{Activation, DType, MapCode, norm_scratch};
use crate::plan::{Instruction, Lower, Place, canonical, channels_last};
use std::vec::Vec;

/// What shares one mean and variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A group of channels of x [n, c, ..] and all positions: GroupNorm; with as many groups as channels InstanceNorm.
    Groups(usize),
    /// All dimensions from this one on: LayerNorm.
    Trailing(usize),
}

/// `activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)`; RMS normalisation if it does not `center`.
/// Inputs: x, then gamma and beta where there are any: one value a channel, or one for each normalised element.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    pub over: Over,
    pub center: bool,
    pub epsilon: f32,
    pub gamma: bool,
    pub beta: bool,
    pub activation: Activation,
}

impl Norm {
    /// Number of values in gamma and in beta.
    pub fn scales(&self, shape: &[usize]) -> usize {
        match self.over {
            Over::Groups(_) => shape[1],
            Over::Trailing(axis) => shape[axis..].iter().product(),
        }
    }
}

impl Operator for Norm {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        let fits = match self.over {
            Over::Groups(groups) => x.rank() >= 2 && groups > 0 && x.shape[1].is_multiple_of(groups),
            Over::Trailing(axis) => axis < x.rank(),
        };
        if x.dtype != DType::F32 || !fits {
            return Err(problem!("{x} can not be normalised over {:?}", self.over));
        }
        if let Some(scale) = inputs[1..].iter().find(|f| f.len() != self.scales(&x.shape)) {
            return Err(problem!("normalising {x} needs {} scales, not {scale}", self.scales(&x.shape)));
        }
        Ok(std::vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].as_f32()?;
        let shape = inputs[0].shape();
        let scales = self.scales(shape);
        let (set, inner) = match self.over {
            Over::Groups(groups) => {
                (shape[1..].iter().product::<usize>() / groups, shape[2..].iter().product::<usize>())
            }
            Over::Trailing(_) => (scales, 1),
        };
        let operand = |present: bool, at: usize, default: f32| match present {
            true => inputs[at].as_f32().map(<[f32]>::to_vec),
            false => Ok(std::vec![default; scales]),
        };
        let gamma = operand(self.gamma, 1, 1.0)?;
        let beta = operand(self.beta, 1 + usize::from(self.gamma), 0.0)?;
        let mut y = Vec::with_capacity(x.len());
        for chunk in x.chunks(set.max(1)) {
            let count = chunk.len() as f64;
            let sum = chunk.iter().map(|&v| f64::from(v)).sum::<f64>();
            let mean = if self.center { sum / count } else { 0.0 };
            let variance = chunk.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
            let scale = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            for &v in chunk {
                let channel = y.len() / inner.max(1) % scales;
                let normal = (f64::from(v) - mean) * scale;
                let scaled = (normal * f64::from(gamma[channel]) + f64::from(beta[channel])) as f32;
                y.push(activate(self.activation, scaled));
            }
        }
        Ok(std::vec![Tensor::f32(shape, y)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let shape = place.dims.clone();
        let (order, groups, dims) = match self.over {
            Over::Groups(groups) => {
                let positions = shape[2..].iter().product();
                (channels_last(shape.len()), groups, [shape[0], positions, shape[1]])
            }
            Over::Trailing(axis) => {
                let rows = shape[..axis].iter().product();
                (canonical(shape.len()), 1, [rows, 1, shape[axis..].iter().product()])
            }
        };
        let as_rows =
            |p: &Place| p.permuted(&order).reshaped(&dims).filter(|p| dims[2] == 1 || p.strides[2] == 1);
        let x = match as_rows(&place) {
            Some(x) => x,
            None => {
                let dense = lower.dense(place, &order)?;
                as_rows(&dense).ok_or_else(|| problem!("an operand of shape {shape:?} has no rows"))?
            }
        };
        let place = lower.output(node.outputs[0], &order)?;
        let y = match as_rows(&place) {
            Some(y) => y,
            None => as_rows(&lower.result(node.outputs[0], &order))
                .ok_or_else(|| problem!("a result of shape {shape:?} has no rows"))?,
        };
        let gamma = lower.vector(self.gamma.then(|| node.inputs[1]))?;
        let gamma = lower.optional_view(gamma.as_ref())?;
        let beta = lower.vector(self.beta.then(|| node.inputs[1 + usize::from(self.gamma)]))?;
        let beta = lower.optional_view(beta.as_ref())?;
        let floats = norm_scratch(dims[0], dims[1], dims[2], groups);
        let scratch = lower.allocate(&Fact::new(DType::F32, &[floats]), &[0]);
        let [x, scratch, y] = lower.view_each([&x, &scratch, &y])?;
        let Norm { center, epsilon, activation, .. } = *self;
        let groups = groups as u32;
        lower.emit(Instruction::Norm { x, gamma, beta, groups, center, epsilon, activation, scratch, y });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        7 * outputs[0].len() as u64
    }
}

pub fn import_grouped(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let (x, mut gamma, mut beta) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let channels = *b.shape(x).get(1).ok_or_else(|| problem!("{} has no channels", b.fact(x)))?;
    let mut groups = channels;
    if call.operator == "GroupNormalization" {
        groups = usize::try_from(call.int("num_groups", 0)?).unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(problem!("{channels} channels do not split into num_groups={groups}"));
        }
        // Before operator set 21 there was one scale a group.
        if b.fact(gamma).len() == groups && groups != channels {
            gamma = spread(b, gamma, groups, channels / groups)?;
            beta = spread(b, beta, groups, channels / groups)?;
        }
    }
    let norm = Norm {
        over: Over::Groups(groups),
        center: true,
        epsilon: call.float("epsilon", 1e-5)?,
        gamma: true,
        beta: true,
        activation: Activation::None,
    };
    Ok(std::vec![b.push(norm, &[x, gamma, beta])?])
}

/// Repeats each of `groups` values.
fn spread(b: &mut Builder, x: ValueId, groups: usize, times: usize) -> Result<ValueId, OpError> {
    let column = b.reshape(x, &[groups, 1])?;
    let wide = b.expand(column, &[groups, times])?;
    b.reshape(wide, &[groups * times])
}

pub fn import_layer(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    if call.outputs > 1 {
        return Err(unsupported!("{} has a kernel for its first output only", call.operator));
    }
    let axis = normal_axis(call.int("axis", -1)?, b.shape(x).len())?;
    let center = call.operator == "LayerNormalization";
    let norm = Norm {
        over: Over::Trailing(axis),
        center,
        epsilon: call.float("epsilon", 1e-5)?,
        gamma: false,
        beta: false,
        activation: Activation::None,
    };
    let scales = norm.scales(b.shape(x));
    let mut inputs = std::vec![x, call.input(1)?];
    inputs.extend(call.optional(2).filter(|_| center));
    if inputs[1..].iter().all(|&i| b.fact(i).len() == scales) {
        let norm = Norm { gamma: true, beta: inputs.len() > 2, ..norm };
        return Ok(std::vec![b.push(norm, &inputs)?]);
    }
    // Scales that broadcast are applied on their own.
    let mut y = b.push(norm, &[x])?;
    y = b.map2(MapCode::Mul, y, inputs[1])?;
    if let Some(&beta) = inputs.get(2) {
        y = b.map2(MapCode::Add, y, beta)?;
    }
    Ok(std::vec![y])
}

pub fn import_scaling(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    if call.operator == "LpNormalization" {
        let axis = normal_axis(call.int("axis", -1)?, b.shape(x).len())?;
        let kind = match call.int("p", 2)? {
            1 => crate::kernels::ReduceKind::L1,
            2 => crate::kernels::ReduceKind::L2,
            p => return Err(problem!("LpNormalization has no norm p={p}")),
        };
        let length = b.push(super::Reduce { kind, axes: std::vec![axis], keep: true }, &[x])?;
        return Ok(std::vec![b.map2(MapCode::Div, x, length)?]);
    }
    if call.flag("training_mode", false)? {
        return Err(problem!("BatchNormalization is in training mode; export the model with model.eval()"));
    }
    let mut shape = std::vec![1; b.shape(x).len().max(2)];
    shape[1] = b.fact(call.input(1)?).len();
    let mut column = |i: usize| call.input(i).and_then(|id| b.reshape(id, &shape));
    let (gamma, beta, mean, variance) = (column(1)?, column(2)?, column(3)?, column(4)?);
    let epsilon = b.scalar(call.float("epsilon", 1e-5)?);
    let variance = b.map2(MapCode::Add, variance, epsilon)?;
    let deviation = b.map1(MapCode::Sqrt, variance)?;
    let scale = b.map2(MapCode::Div, gamma, deviation)?;
    let offset = b.map2(MapCode::Mul, mean, scale)?;
    let shift = b.map2(MapCode::Sub, beta, offset)?;
    Ok(std::vec![b.push(super::Map::single(MapCode::MulAdd, 3, DType::F32), &[x, scale, shift])?])
}
