//! Other dimensions for the same elements, and broadcasting.

use super::{Call, MAX_ELEMENTS, OpError, Operator, broadcast_shapes, elements, normal_axis, problem};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::plan::Lower;
use std::vec::Vec;

/// The same elements, in row-major order, under other dimensions. A view where strides allow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    pub shape: Vec<usize>,
}

impl Operator for Reshape {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if elements(&self.shape, MAX_ELEMENTS)? != inputs[0].len() {
            return Err(problem!("{} can not take the shape {:?}", inputs[0], self.shape));
        }
        Ok(std::vec![Fact { dtype: inputs[0].dtype, shape: self.shape.clone() }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(std::vec![inputs[0].clone().reshaped(&self.shape)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let reshaped = match place.reshaped(&self.shape) {
            Some(reshaped) => reshaped,
            None => {
                let order = place.order_for(&self.shape);
                let dense = lower.dense(place, &order)?;
                dense
                    .reshaped(&self.shape)
                    .ok_or_else(|| problem!("the shape {:?} does not fit", self.shape))?
            }
        };
        lower.bind(node.outputs[0], reshaped);
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

/// Broadcasting to a shape. A view, no copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Expand {
    pub shape: Vec<usize>,
}

impl Operator for Expand {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if broadcast_shapes([&inputs[0].shape[..], &self.shape].into_iter())? != self.shape {
            return Err(problem!("{} does not broadcast to {:?}", inputs[0], self.shape));
        }
        Ok(std::vec![Fact { dtype: inputs[0].dtype, shape: self.shape.clone() }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(std::vec![inputs[0].broadcast(&self.shape)])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let wide = lower.place(node.inputs[0])?.broadcast(&self.shape);
        lower.bind(node.outputs[0], wide);
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import_reshape(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let shape = b.shape(x).to_vec();
    let target = match call.operator.as_str() {
        "Reshape" => {
            let wanted = call.ints_at(b, 1, "shape")?.ok_or_else(|| problem!("Reshape has no shape"))?;
            reshaped(&shape, &wanted, call.flag("allowzero", false)?)?
        }
        "Flatten" => {
            let axis = call.int("axis", 1)?;
            let axis = if axis == shape.len() as i64 { shape.len() } else { normal_axis(axis, shape.len())? };
            std::vec![shape[..axis].iter().product(), shape[axis..].iter().product()]
        }
        "Squeeze" => squeezed(b, call, &shape)?,
        _ => unsqueezed(b, call, &shape)?,
    };
    Ok(std::vec![b.reshape(x, &target)?])
}

/// ONNX's shape input: 0 keeps a dimension (unless `allow_zero`), one -1 is inferred.
fn reshaped(shape: &[usize], wanted: &[i64], allow_zero: bool) -> Result<Vec<usize>, OpError> {
    let mut target = Vec::with_capacity(wanted.len());
    for (i, &d) in wanted.iter().enumerate() {
        target.push(match d {
            -1 => 1,
            0 if !allow_zero => {
                *shape.get(i).ok_or_else(|| problem!("{wanted:?} keeps a dimension that {shape:?} lacks"))?
            }
            d => usize::try_from(d).map_err(|_| problem!("{wanted:?} has a negative dimension"))?,
        });
    }
    let mut open = wanted.iter().enumerate().filter(|(_, d)| **d == -1).map(|(i, _)| i);
    if let Some(i) = open.next() {
        let (count, known) = (elements(shape, MAX_ELEMENTS)?, elements(&target, MAX_ELEMENTS)?);
        if open.next().is_some() || known == 0 || !count.is_multiple_of(known) {
            return Err(problem!("{shape:?} can not take the shape {wanted:?}"));
        }
        target[i] = count / known;
    }
    Ok(target)
}

fn squeezed(b: &Builder, call: &Call, shape: &[usize]) -> Result<Vec<usize>, OpError> {
    let axes = call.axes_at(b, 1, "axes", shape.len())?;
    let axes = axes.unwrap_or_else(|| (0..shape.len()).filter(|&a| shape[a] == 1).collect());
    if let Some(axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(problem!("axis {axis} of {shape:?} is not 1 and can not be squeezed"));
    }
    Ok((0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).collect())
}

fn unsqueezed(b: &Builder, call: &Call, shape: &[usize]) -> Result<Vec<usize>, OpError> {
    let count = call.ints_at(b, 1, "axes")?.ok_or_else(|| problem!("Unsqueeze has no axes"))?.len();
    let axes = call.axes_at(b, 1, "axes", shape.len() + count)?.unwrap_or_default();
    let mut target = shape.to_vec();
    axes.into_iter().for_each(|axis| target.insert(axis, 1));
    Ok(target)
}

pub fn import_expand(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let shape = b.shape(x).to_vec();
    let list = call.ints_at(b, 1, "shape")?.ok_or_else(|| problem!("{} has no shape", call.operator))?;
    let sizes: Option<Vec<usize>> = list.iter().map(|&d| usize::try_from(d).ok()).collect();
    let sizes = sizes.ok_or_else(|| problem!("{list:?} has a negative dimension"))?;
    if call.operator == "Expand" {
        let target = broadcast_shapes([&shape[..], &sizes].into_iter())?;
        return Ok(std::vec![b.expand(x, &target)?]);
    }
    if sizes.len() != shape.len() {
        return Err(problem!("{list:?} repeats do not fit {shape:?}"));
    }
    // One axis at a time keeps the rank low: [.., 1, d, ..] broadcast to [.., r, d, ..].
    let mut y = x;
    let mut shape = shape;
    for axis in (0..shape.len()).filter(|&a| sizes[a] != 1) {
        let split = [&shape[..axis], &[1], &shape[axis..]].concat();
        let wide = [&shape[..axis], &[sizes[axis]], &shape[axis..]].concat();
        shape[axis] = elements(&[shape[axis], sizes[axis]], MAX_ELEMENTS)?;
        let parts = b.reshape(y, &split)?;
        let parts = b.expand(parts, &wide)?;
        y = b.reshape(parts, &shape)?;
    }
    Ok(std::vec![y])
}

impl Builder {
    /// The value under other dimensions.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, OpError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        self.push(Reshape { shape: shape.to_vec() }, &[x])
    }

    /// The value broadcast to a shape.
    pub fn expand(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, OpError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        self.push(Expand { shape: shape.to_vec() }, &[x])
    }
}
