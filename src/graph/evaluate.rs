//! Evaluates a graph by the operators' scalar references: slow, plain, and what the kernels are compared with.

use super::{Graph, Tensor, ValueId};
use crate::ops::{OpError, Operator, problem};
use std::collections::HashMap;
use std::sync::Arc;
use std::vec::Vec;

impl Graph {
    /// The outputs for the given inputs.
    ///
    /// # Errors
    /// If the inputs do not fit, or an operator refuses its operands.
    pub fn evaluate(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        let mut values: HashMap<ValueId, Arc<Tensor>> = HashMap::new();
        if inputs.len() != self.inputs.len() {
            return Err(problem!("{} inputs were given to a network of {}", inputs.len(), self.inputs.len()));
        }
        for (tensor, &id) in inputs.iter().zip(&self.inputs) {
            if tensor.fact() != *self.fact(id) {
                return Err(problem!(
                    "input {} is {}, not {}",
                    self.value(id).name,
                    self.fact(id),
                    tensor.fact()
                ));
            }
            values.insert(id, Arc::new(tensor.clone()));
        }
        let find = |values: &HashMap<ValueId, Arc<Tensor>>, id: ValueId| {
            let known = self.constant(id).or_else(|| values.get(&id)).cloned();
            known.ok_or_else(|| problem!("{} is used before it is computed", self.value(id).name))
        };
        for node in &self.nodes {
            let operands = node.inputs.iter().map(|&id| find(&values, id)).collect::<Result<Vec<_>, _>>()?;
            let operands: Vec<&Tensor> = operands.iter().map(|t| &**t).collect();
            let results = node.op.reference(&operands)?;
            values.extend(node.outputs.iter().copied().zip(results.into_iter().map(Arc::new)));
        }
        self.outputs.iter().map(|&id| Ok((*find(&values, id)?).clone())).collect()
    }
}
