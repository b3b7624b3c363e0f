//! Operators without a native kernel, run by tract.

use super::{OpError, Operator};
use crate::graph::{Fact, Node, Tensor};
use crate::plan::{Instruction, Lower, canonical};
use std::boxed::Box;
use std::fmt::Debug;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// What runs an operator outside of the engine; it may allocate.
pub trait HostOperator: Debug + Send + Sync {
    /// The outputs' types and dimensions, for the inputs' types and dimensions that it was made for.
    fn facts(&self) -> &[Fact];

    /// # Errors
    /// If the operator refuses the values.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Box<dyn std::error::Error + Send + Sync>>;
}

/// An ONNX operator that the host library evaluates.
#[derive(Clone, Debug)]
pub struct Host {
    /// The ONNX operator's name.
    pub operator: String,
    pub run: Arc<dyn HostOperator>,
}

impl Operator for Host {
    fn shapes(&self, _inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        Ok(self.run.facts().to_vec())
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let inputs: Vec<Tensor> = inputs.iter().map(|&t| t.clone()).collect();
        self.run.run(&inputs).map_err(|e| OpError::new(std::format!("{}: {e}", self.operator)))
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &id in &node.inputs {
            let place = lower.place(id)?;
            let order = canonical(place.rank());
            inputs.push(lower.dense(place, &order)?);
        }
        let order = |lower: &Lower, id| canonical(lower.fact(id).rank());
        let outputs: Vec<_> = node.outputs.iter().map(|&id| lower.result(id, &order(lower, id))).collect();
        let (inputs, outputs) = (lower.views(&inputs)?, lower.views(&outputs)?);
        let operator = lower.host(self);
        lower.emit(Instruction::Host { operator, inputs, outputs });
        Ok(())
    }
}
