//! Passes: each a function from a graph to an equal, cheaper graph.

mod absorb;
mod attention;
mod early;
mod group_norm;
mod layer_norm;
mod maps;
mod modulate;
mod program;
mod split;
#[cfg(test)]
mod tests;

use super::{Fact, Graph, Tensor, Value, ValueId};
use std::string::String;
use std::sync::Arc;

impl Graph {
    /// The graph after all passes.
    pub fn optimized(self) -> Graph {
        let graph = layer_norm::whole(group_norm::whole(self));
        let graph = maps::fused(graph);
        // What is split leaves sums, which are fused as all others.
        let graph = maps::fused(split::products(graph));
        let graph = absorb::epilogues(early::projections(graph));
        let graph = modulate::norms(graph);
        attention::whole(graph).staged()
    }

    /// Adds a constant.
    fn add_constant(&mut self, tensor: Tensor) -> ValueId {
        let fact = tensor.fact();
        self.push_value(Value { name: String::new(), fact, constant: Some(Arc::new(tensor)) })
    }

    /// Adds a value that a node to come computes.
    fn add_value(&mut self, name: &str, fact: Fact) -> ValueId {
        self.push_value(Value { name: name.into(), fact, constant: None })
    }

    fn push_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }
}
