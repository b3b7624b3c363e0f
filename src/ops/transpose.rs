//! Permuted dimensions.

use super::{Call, OpError, Operator, normal_axis, problem};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::plan::Lower;
use std::vec::Vec;

/// `y`'s axis i is x's axis `order[i]`. A view, no copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    pub order: Vec<usize>,
}

impl Operator for Transpose {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<_>>() {
            return Err(problem!("{:?} does not permute the axes of {x}", self.order));
        }
        Ok(std::vec![Fact { dtype: x.dtype, shape: self.order.iter().map(|&a| x.shape[a]).collect() }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let own = contiguous_strides(inputs[0].shape());
        let shape: Vec<usize> = self.order.iter().map(|&a| inputs[0].shape()[a]).collect();
        let strides: Vec<isize> = self.order.iter().map(|&a| own[a]).collect();
        Ok(std::vec![inputs[0].strided(&shape, &strides, 0)])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let turned = lower.place(node.inputs[0])?.permuted(&self.order);
        lower.bind(node.outputs[0], turned);
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import_transpose(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    let order = match call.ints("perm")? {
        Some(perm) => perm.iter().map(|&a| normal_axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    Ok(std::vec![b.transpose(x, &order)?])
}

/// DepthToSpace and SpaceToDepth on [n, c, h, w].
pub fn import_depth_space(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let &[n, c, h, w] = b.shape(x) else {
        return Err(problem!("{} needs 4 dimensions, not {}", call.operator, b.fact(x)));
    };
    let s = usize::try_from(call.int("blocksize", 0)?).unwrap_or(0);
    if s == 0 {
        return Err(problem!("{} needs a positive blocksize", call.operator));
    }
    let (split, order, shape): ([usize; 6], [usize; 6], [usize; 4]) = if call.operator == "SpaceToDepth" {
        ([n, c, h / s, s, w / s, s], [0, 3, 5, 1, 2, 4], [n, c * s * s, h / s, w / s])
    } else if call.string("mode", "DCR")? == "DCR" {
        ([n, s, s, c / (s * s), h, w], [0, 3, 4, 1, 5, 2], [n, c / (s * s), h * s, w * s])
    } else {
        ([n, c / (s * s), s, s, h, w], [0, 1, 4, 2, 5, 3], [n, c / (s * s), h * s, w * s])
    };
    let blocks = b.reshape(x, &split)?;
    let moved = b.transpose(blocks, &order)?;
    Ok(std::vec![b.reshape(moved, &shape)?])
}

impl Builder {
    /// The value with its axes in another order.
    pub fn transpose(&mut self, x: ValueId, order: &[usize]) -> Result<ValueId, OpError> {
        if order.iter().enumerate().all(|(i, &a)| i == a) && order.len() == self.shape(x).len() {
            return Ok(x);
        }
        self.push(Transpose { order: order.to_vec() }, &[x])
    }
}
