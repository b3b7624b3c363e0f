//! Softmax.

use super::{Call, OpError, Operator, normal_axis, problem};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::kernels::{DType, MapCode, ReduceKind};
use crate::plan::{Instruction, Lower};
use std::vec::Vec;

/// `exp(scale * x) / sum(exp(scale * x))` along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    pub axis: usize,
    pub scale: f32,
}

impl Operator for Softmax {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if inputs[0].dtype != DType::F32 || self.axis >= inputs[0].rank() {
            return Err(problem!("{} has no softmax along axis {}", inputs[0], self.axis));
        }
        Ok(std::vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = inputs[0].shape();
        let x = inputs[0].as_f32()?;
        let inner: usize = shape[self.axis + 1..].iter().product();
        let n = shape[self.axis];
        let mut y = std::vec![0f32; x.len()];
        for row in 0..x.len() / n.max(1) {
            let first = row / inner * n * inner + row % inner;
            let at = |i: usize| f64::from(x[first + i * inner]) * f64::from(self.scale);
            let max = (0..n).map(at).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..n).map(|i| (at(i) - max).exp()).sum();
            for i in 0..n {
                y[first + i * inner] = ((at(i) - max).exp() / sum) as f32;
            }
        }
        Ok(std::vec![Tensor::f32(shape, y)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let order: Vec<usize> = (0..place.rank()).filter(|&a| a != self.axis).chain([self.axis]).collect();
        let n = place.dims[self.axis];
        let dims = [place.len() / n.max(1), n];
        let rows = place.permuted(&order).reshaped(&dims).filter(|p| n == 1 || p.strides[1] == 1);
        let x = match rows {
            Some(x) => x,
            None => {
                let dense = lower.dense(place, &order)?;
                dense.permuted(&order).reshaped(&dims).ok_or_else(|| problem!("softmax has no rows"))?
            }
        };
        let result = lower.result(node.outputs[0], &order);
        let y = result.permuted(&order).reshaped(&dims).ok_or_else(|| problem!("softmax has no rows"))?;
        let [x, y] = lower.view_each([&x, &y])?;
        lower.emit(Instruction::Softmax { x, y, scale: self.scale });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        5 * outputs[0].len() as u64
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let shape = b.shape(x).to_vec();
    let old = call.opset < 13;
    let axis = normal_axis(call.int("axis", if old { 1 } else { -1 })?, shape.len())?;
    if !old {
        return Ok(std::vec![along(b, call, x, axis)?]);
    }
    // Before operator set 13 all dimensions from the axis on were taken together.
    let rows: usize = shape[..axis].iter().product();
    let flat = b.reshape(x, &[rows, shape[axis..].iter().product()])?;
    let y = along(b, call, flat, 1)?;
    Ok(std::vec![b.reshape(y, &shape)?])
}

fn along(b: &mut Builder, call: &Call, x: ValueId, axis: usize) -> Result<ValueId, OpError> {
    if call.operator == "Softmax" {
        return b.push(Softmax { axis, scale: 1.0 }, &[x]);
    }
    let total = super::Reduce { kind: ReduceKind::LogSumExp, axes: std::vec![axis], keep: true };
    let total = b.push(total, &[x])?;
    b.map2(MapCode::Sub, x, total)
}
