//! Concatenation.

use super::{Call, OpError, Operator, normal_axis, problem};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId};
use crate::plan::{Lower, natural_order};
use std::vec::Vec;

/// Tensors side by side along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    pub axis: usize,
}

impl Operator for Concat {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let mut result = (*inputs.first().ok_or_else(|| problem!("nothing to concatenate"))?).clone();
        for fact in &inputs[1..] {
            let same = fact.rank() == result.rank()
                && (0..result.rank()).all(|a| a == self.axis || fact.shape[a] == result.shape[a]);
            if fact.dtype != result.dtype || !same {
                return Err(problem!("{result} and {fact} do not join along axis {}", self.axis));
            }
            result.shape[self.axis] += fact.shape[self.axis];
        }
        Ok(std::vec![result])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let facts: Vec<Fact> = inputs.iter().map(|t| t.fact()).collect();
        let fact = self.shapes(&facts.iter().collect::<Vec<_>>())?.remove(0);
        let outer: usize = fact.shape[..self.axis].iter().product();
        let mut data = match inputs[0].data() {
            Data::F32(_) => Data::F32(Vec::new()),
            Data::I64(_) => Data::I64(Vec::new()),
            Data::Bool(_) => Data::Bool(Vec::new()),
        };
        for i in 0..outer {
            for tensor in inputs {
                let n = tensor.len() / outer;
                match (&mut data, tensor.data()) {
                    (Data::F32(out), Data::F32(v)) => out.extend_from_slice(&v[i * n..(i + 1) * n]),
                    (Data::I64(out), Data::I64(v)) => out.extend_from_slice(&v[i * n..(i + 1) * n]),
                    (Data::Bool(out), Data::Bool(v)) => out.extend_from_slice(&v[i * n..(i + 1) * n]),
                    _ => return Err(problem!("the types of concatenated tensors differ")),
                }
            }
        }
        Ok(std::vec![Tensor::new(&fact.shape, data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let output = node.outputs[0];
        let parts = node.inputs.iter().map(|&id| lower.place(id)).collect::<Result<Vec<_>, _>>()?;
        let joined = match lower.bound(output) {
            Some(place) => place,
            None => {
                let order = natural_order(&parts);
                lower.output(output, &order)?
            }
        };
        let mut start = 0;
        for part in parts {
            let target = joined.part(self.axis, start, part.dims[self.axis]);
            start += part.dims[self.axis];
            if part != target && !part.is_empty() {
                lower.copy(&part, &target)?;
            }
        }
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let inputs = call.present();
    let first = call.input(0)?;
    let axis = normal_axis(call.int("axis", 1)?, b.shape(first).len())?;
    Ok(std::vec![b.push(Concat { axis }, &inputs)?])
}
