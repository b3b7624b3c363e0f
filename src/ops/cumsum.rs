//! Cumulative sums.

use super::{Call, OpError, Operator, normal_axis, problem};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId};
use crate::kernels::DType;
use crate::plan::{Instruction, Lower, canonical};
use std::vec::Vec;

/// Running sums along an axis; `exclusive` leaves out the element itself, `reverse` runs from the end.
#[derive(Clone, Debug, PartialEq)]
pub struct CumSum {
    pub axis: usize,
    pub exclusive: bool,
    pub reverse: bool,
}

impl Operator for CumSum {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if inputs[0].dtype == DType::Bool || self.axis >= inputs[0].rank() {
            return Err(problem!("{} has no cumulative sum along axis {}", inputs[0], self.axis));
        }
        Ok(std::vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let n = x.shape()[self.axis];
        let data = match x.data() {
            Data::F32(v) => Data::F32(self.scan(v, n, inner, |a, b| a + b)),
            Data::I64(v) => Data::I64(self.scan(v, n, inner, i64::wrapping_add)),
            Data::Bool(_) => return Err(problem!("truth values have no cumulative sum")),
        };
        Ok(std::vec![Tensor::new(x.shape(), data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let result = lower.result(node.outputs[0], &canonical(place.rank()));
        let [input, output] = lower.view_each([&place, &result])?;
        let CumSum { axis, exclusive, reverse } = *self;
        lower.emit(Instruction::CumSum { input, output, axis: axis as u8, exclusive, reverse });
        Ok(())
    }
}

impl CumSum {
    fn scan<T: Copy + Default>(&self, x: &[T], n: usize, inner: usize, add: impl Fn(T, T) -> T) -> Vec<T> {
        let mut y = x.to_vec();
        for row in 0..x.len() / n.max(1) {
            let first = row / inner * n * inner + row % inner;
            let mut sum = T::default();
            for i in 0..n {
                let at = first + if self.reverse { n - 1 - i } else { i } * inner;
                let next = add(sum, x[at]);
                y[at] = if self.exclusive { sum } else { next };
                sum = next;
            }
        }
        y
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let axis = call.known(b, 1)?.ok_or_else(|| problem!("CumSum has no axis"))?;
    let axis = normal_axis(axis.to_i64().first().copied().unwrap_or(0), b.shape(x).len())?;
    let (exclusive, reverse) = (call.flag("exclusive", false)?, call.flag("reverse", false)?);
    Ok(std::vec![b.push(CumSum { axis, exclusive, reverse }, &[x])?])
}
