//! Look-ups by index.

use super::{Call, Integer, OpError, Operator, Slice, normal_axis, problem, unsupported};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::kernels::{DType, IntCode};
use crate::plan::{Instruction, Lower, canonical};
use std::vec::Vec;

/// `y[o.., i.., r..] = x[o.., indices[i..], r..]`, `axis` counting o. An index below zero counts from the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    pub axis: usize,
}

impl Operator for Gather {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let (x, indices) = (inputs[0], inputs[1]);
        if self.axis >= x.rank() || indices.dtype != DType::I64 {
            return Err(problem!("{x} has no axis {} or the indices are {indices}", self.axis));
        }
        if x.shape[self.axis] == 0 && !indices.is_empty() {
            return Err(problem!("axis {} of {x} is empty", self.axis));
        }
        let shape = [&x.shape[..self.axis], &indices.shape[..], &x.shape[self.axis + 1..]].concat();
        Ok(std::vec![Fact { dtype: x.dtype, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (inputs[0], inputs[1]);
        let shape = self.shapes(&[&x.fact(), &indices.fact()])?.remove(0).shape;
        let n = x.shape()[self.axis] as i64;
        let picked = indices.as_i64()?;
        if let Some(index) = picked.iter().find(|&&i| !(-n..n).contains(&i)) {
            return Err(problem!("index {index} is not one of {n} elements"));
        }
        let outer: usize = x.shape()[..self.axis].iter().product();
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let at = |o: usize, i: i64| (o * n as usize + i.rem_euclid(n) as usize) * inner;
        let positions = (0..outer)
            .flat_map(|o| picked.iter().flat_map(move |&i| at(o, i)..at(o, i) + inner).collect::<Vec<_>>());
        Ok(std::vec![Tensor::new(&shape, x.data().select(positions))?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let (data, indices) = (lower.place(node.inputs[0])?, lower.place(node.inputs[1])?);
        let fact = lower.fact(node.outputs[0]);
        let result = lower.result(node.outputs[0], &canonical(fact.rank()));
        let [data, indices, output] = lower.view_each([&data, &indices, &result])?;
        lower.emit(Instruction::Gather { data, indices, output, axis: self.axis as u8 });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let result = match call.operator.as_str() {
        "Gather" => {
            let axis = normal_axis(call.int("axis", 0)?, b.shape(x).len())?;
            gather(b, x, indices, axis)?
        }
        "GatherElements" => {
            let axis = normal_axis(call.int("axis", 0)?, b.shape(x).len())?;
            gather_elements(b, x, indices, axis)?
        }
        _ => gather_nd(b, call, x, indices)?,
    };
    Ok(std::vec![result])
}

/// A gather; of one known index it is a slice.
fn gather(b: &mut Builder, x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId, OpError> {
    let single = b.known(indices).filter(|t| t.len() == 1).map(|t| t.to_i64()[0]);
    let Some(index) = single else { return b.push(Gather { axis }, &[x, indices]) };
    let shape = b.shape(x).to_vec();
    let index = normal_axis(index, shape[axis])
        .map_err(|_| problem!("index {index} is not one of {} elements of axis {axis}", shape[axis]))?;
    let part = b.push(Slice::part(&shape, axis, index, 1), &[x])?;
    let shape = [&shape[..axis], b.shape(indices), &shape[axis + 1..]].concat();
    b.reshape(part, &shape)
}

/// Element by element along one axis: a gather from the flattened tensor, by indices that are computed.
fn gather_elements(b: &mut Builder, x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId, OpError> {
    let (shape, target) = (b.shape(x).to_vec(), b.shape(indices).to_vec());
    if shape.len() != target.len() {
        return Err(problem!("{} and indices {} differ in rank", b.fact(x), b.fact(indices)));
    }
    let strides = contiguous_strides(&shape);
    let index = from_front(b, indices, shape[axis])?;
    let mut own = strides.clone();
    own[axis] = 0;
    let base = crate::graph::strided_offsets(&target, &own, 0).map(|i| i as i64).collect();
    let base = b.constant(Tensor::new(&target, Data::I64(base))?);
    let flat_index = linear(b, index, strides[axis], base)?;
    let flat = b.reshape(x, &[shape.iter().product()])?;
    b.push(Gather { axis: 0 }, &[flat, flat_index])
}

/// Index vectors into the leading dimensions: a gather from these dimensions flattened.
fn gather_nd(b: &mut Builder, call: &Call, x: ValueId, indices: ValueId) -> Result<ValueId, OpError> {
    if call.int("batch_dims", 0)? != 0 {
        return Err(unsupported!("GatherND has no kernel for batch_dims"));
    }
    let (shape, target) = (b.shape(x).to_vec(), b.shape(indices).to_vec());
    let Some((&depth, lead)) = target.split_last().filter(|(d, _)| **d > 0 && **d <= shape.len()) else {
        return Err(problem!("GatherND does not take {} and indices {}", b.fact(x), b.fact(indices)));
    };
    let strides = contiguous_strides(&shape[..depth]);
    let mut total = b.integers(std::vec![0]);
    for axis in 0..depth {
        let part = b.push(Slice::part(&target, lead.len(), axis, 1), &[indices])?;
        let part = b.reshape(part, lead)?;
        let part = from_front(b, part, shape[axis])?;
        total = linear(b, part, strides[axis], total)?;
    }
    let total = b.reshape(total, lead)?;
    let flat = b.reshape(x, &[&[shape[..depth].iter().product()], &shape[depth..]].concat())?;
    b.push(Gather { axis: 0 }, &[flat, total])
}

/// Indices that may count from the end as such that do not.
fn from_front(b: &mut Builder, indices: ValueId, n: usize) -> Result<ValueId, OpError> {
    let n = b.integers(std::vec![n as i64]);
    b.push(Integer { code: IntCode::Mod, dtype: DType::I64 }, &[indices, n])
}

/// `index * stride + base`.
fn linear(b: &mut Builder, index: ValueId, stride: isize, base: ValueId) -> Result<ValueId, OpError> {
    let stride = b.integers(std::vec![stride as i64]);
    let scaled = b.push(Integer { code: IntCode::Mul, dtype: DType::I64 }, &[index, stride])?;
    b.push(Integer { code: IntCode::Add, dtype: DType::I64 }, &[scaled, base])
}
