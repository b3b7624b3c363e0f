//! Padding.

use super::{Call, Gather, OpError, Operator, Slice, normal_axis, problem};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::kernels::DType;
use crate::plan::Lower;
use std::vec::Vec;

/// A constant around a tensor and, `interior` times, between its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// One entry an axis each.
    pub low: Vec<usize>,
    pub high: Vec<usize>,
    pub interior: Vec<usize>,
    pub value: f32,
}

impl Operator for Pad {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        let shape = (0..x.rank())
            .map(|a| {
                let inner = x.shape[a].saturating_sub(1).saturating_mul(self.interior[a]);
                x.shape[a].checked_add(inner)?.checked_add(self.low[a])?.checked_add(self.high[a])
            })
            .collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| problem!("the paddings of {x} are too large"))?;
        Ok(std::vec![Fact { dtype: x.dtype, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let shape = self.shapes(&[&x.fact()])?.remove(0).shape;
        let own = contiguous_strides(&shape);
        let strides: Vec<isize> = (0..x.rank()).map(|a| own[a] * (self.interior[a] + 1) as isize).collect();
        let offset: isize = (0..x.rank()).map(|a| own[a] * self.low[a] as isize).sum();
        let count = shape.iter().product();
        let mut source = std::vec![usize::MAX; count];
        for (i, at) in crate::graph::strided_offsets(x.shape(), &strides, offset).enumerate() {
            source[at] = i;
        }
        let mut data = x.data().select(source.iter().copied());
        let holes = source.iter().enumerate().filter(|(_, s)| **s == usize::MAX).map(|(i, _)| i);
        match &mut data {
            Data::F32(v) => holes.for_each(|i| v[i] = self.value),
            Data::I64(v) => holes.for_each(|i| v[i] = self.value as i64),
            Data::Bool(v) => holes.for_each(|i| v[i] = self.value != 0.0),
        }
        Ok(std::vec![Tensor::new(&shape, data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let fact = lower.fact(node.outputs[0]);
        let result = lower.result(node.outputs[0], &place.order());
        let value = match fact.dtype {
            DType::F32 => Data::F32(std::vec![self.value]),
            DType::I64 => Data::I64(std::vec![self.value as i64]),
            DType::Bool => Data::Bool(std::vec![self.value != 0.0]),
        };
        let value = lower.constant(&Tensor::new(&[], value)?);
        lower.copy(&value.broadcast(&fact.shape), &result)?;
        let mut inner = result;
        for axis in 0..place.rank() {
            inner.offset += self.low[axis] as isize * inner.strides[axis];
            inner.strides[axis] *= (self.interior[axis] + 1) as isize;
        }
        inner.dims.clone_from(&place.dims);
        lower.copy(&place, &inner)
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    let pads = call.ints_at(b, 1, "pads")?.ok_or_else(|| problem!("Pad has no pads"))?;
    let axes = call.ints_at(b, 3, "axes")?.unwrap_or_else(|| (0..rank as i64).collect());
    if pads.len() != 2 * axes.len() {
        return Err(problem!("pads {pads:?} need two entries for each of {} axes", axes.len()));
    }
    let (mut low, mut high) = (std::vec![0i64; rank], std::vec![0i64; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normal_axis(axis, rank)?;
        (low[axis], high[axis]) = (pads[i], pads[i + axes.len()]);
    }
    let value = match call.known(b, 2)? {
        Some(value) => value.to_f32().first().copied().unwrap_or(0.0),
        None => call.float("value", 0.0)?,
    };
    let mode = call.string("mode", "constant")?;
    let result = if mode == "constant" {
        constant(b, x, &low, &high, value)?
    } else {
        (0..rank).try_fold(x, |x, axis| mirrored(b, x, axis, (low[axis], high[axis]), mode))?
    };
    Ok(std::vec![result])
}

fn constant(b: &mut Builder, x: ValueId, low: &[i64], high: &[i64], value: f32) -> Result<ValueId, OpError> {
    let mut shape = b.shape(x).to_vec();
    let mut x = x;
    for axis in 0..shape.len() {
        let (front, back) = ((-low[axis]).max(0) as usize, (-high[axis]).max(0) as usize);
        if front + back > 0 {
            let left = shape[axis].checked_sub(front + back);
            let left = left.ok_or_else(|| problem!("negative pads leave nothing of axis {axis}"))?;
            x = b.push(Slice::part(&shape, axis, front, left), &[x])?;
            shape[axis] = left;
        }
    }
    let positive = |v: &[i64]| v.iter().map(|&p| p.max(0) as usize).collect::<Vec<_>>();
    let (low, high) = (positive(low), positive(high));
    if low.iter().chain(&high).all(|&p| p == 0) {
        return Ok(x);
    }
    b.push(Pad { interior: std::vec![0; low.len()], low, high, value }, &[x])
}

/// Padding with elements of the tensor itself, along one axis: a gather of known indices.
fn mirrored(
    b: &mut Builder,
    x: ValueId,
    axis: usize,
    (low, high): (i64, i64),
    mode: &str,
) -> Result<ValueId, OpError> {
    let n = b.shape(x)[axis] as i64;
    if low == 0 && high == 0 {
        return Ok(x);
    }
    if n == 0 || n + low + high < 0 {
        return Err(problem!("axis {axis} of {} can not be padded by {low} and {high}", b.fact(x)));
    }
    let period = (2 * (n - 1)).max(1);
    let source = |i: i64| match mode {
        "edge" => Some(i.clamp(0, n - 1)),
        "wrap" => Some(i.rem_euclid(n)),
        "reflect" => Some((n - 1) - ((n - 1) - i.rem_euclid(period)).abs()),
        _ => None,
    };
    let indices: Option<Vec<i64>> = (-low..n + high).map(source).collect();
    let indices = b.integers(indices.ok_or_else(|| problem!("Pad has no mode {mode:?}"))?);
    b.push(Gather { axis }, &[x, indices])
}
