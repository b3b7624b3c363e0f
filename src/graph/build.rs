//! Grows a graph node by node; whatever depends on constants alone is computed on the spot.

use super::{Fact, Graph, Node, Tensor, Value, ValueId};
use crate::ops::{MAX_COMPUTED, MAX_ELEMENTS, Op, OpError, Operator, elements};
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

/// Builds a [`Graph`], folding constants as it goes.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    /// Prefix of the names of the nodes that are being added: the ONNX node that they come from.
    scope: String,
}

impl Builder {
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the nodes added from here on.
    pub fn enter(&mut self, scope: &str) {
        self.scope = scope.to_string();
    }

    pub fn input(&mut self, name: &str, fact: Fact) -> ValueId {
        let id = self.value(name.to_string(), fact, None);
        self.graph.inputs.push(id);
        id
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.scope.clone();
        self.value(name, tensor.fact(), Some(Arc::new(tensor)))
    }

    pub fn fact(&self, id: ValueId) -> &Fact {
        self.graph.fact(id)
    }

    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.graph.fact(id).shape
    }

    /// The elements of a value that is known already.
    pub fn known(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.graph.constant(id)
    }

    /// Adds a node with one output.
    ///
    /// # Errors
    /// If the operator does not take these inputs.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, OpError> {
        let outputs = self.push_all(op.into(), inputs)?;
        outputs.first().copied().ok_or_else(|| OpError::new("the operator has no output"))
    }

    /// Adds a node, or its results as constants if all its inputs are constants.
    ///
    /// # Errors
    /// If the operator does not take these inputs.
    pub fn push_all(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let facts: Vec<&Fact> = inputs.iter().map(|&i| self.graph.fact(i)).collect();
        let outputs = op.shapes(&facts)?;
        if let Some(fact) = outputs.iter().find(|f| f.rank() > crate::kernels::MAX_RANK) {
            return Err(OpError::new(format!(
                "a result {fact} has more than {} dimensions",
                crate::kernels::MAX_RANK
            )));
        }
        for fact in &outputs {
            elements(&fact.shape, MAX_ELEMENTS)?;
        }
        let known: Option<Vec<Arc<Tensor>>> =
            inputs.iter().map(|&i| self.graph.constant(i).cloned()).collect();
        if let Some(known) = known {
            let known: Vec<&Tensor> = known.iter().map(|t| &**t).collect();
            let given = known.iter().map(|t| t.len()).max().unwrap_or(0);
            for fact in &outputs {
                elements(&fact.shape, MAX_COMPUTED.max(given))?;
            }
            let results = op.reference(&known)?;
            return Ok(results.into_iter().map(|t| self.constant(t)).collect());
        }
        let name = self.scope.clone();
        let outputs: Vec<ValueId> =
            outputs.into_iter().map(|fact| self.value(name.clone(), fact, None)).collect();
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    /// The finished graph, without what no output needs.
    pub fn finish(mut self, outputs: Vec<ValueId>, names: Vec<String>) -> Graph {
        self.graph.outputs = outputs;
        self.graph.output_names = names;
        self.graph.remove_dead()
    }

    fn value(&mut self, name: String, fact: Fact, constant: Option<Arc<Tensor>>) -> ValueId {
        self.graph.values.push(Value { name, fact, constant });
        ValueId(self.graph.values.len() as u32 - 1)
    }
}
