//! The neutral intermediate representation: concrete shapes, canonical operators, one static assignment a value.
//!
//! Every pass is a function from graph to graph. Tensors keep the network's own dimension order (NCHW); how they lie in
//! memory is decided when a graph is lowered to a plan.

mod binding;
mod build;
mod evaluate;
mod passes;
mod tensor;

pub use binding::Binding;
pub use build::Builder;
pub use tensor::{Data, Tensor, contiguous_strides, strided_offsets};

pub use crate::kernels::DType;
use crate::ops::{Op, Operator};
pub use crate::plan::Fact;
use std::collections::HashMap;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// Index of a value in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor that flows through the graph. Constants carry their elements.
#[derive(Clone, Debug)]
pub struct Value {
    pub name: String,
    pub fact: Fact,
    pub constant: Option<Arc<Tensor>>,
}

/// One operator applied to values. Every value is the output of one node at most.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// A network: nodes in an order in which every value is computed before it is used.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub values: Vec<Value>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    /// One an output: one value may be several outputs, or an input at once.
    pub output_names: Vec<String>,
    /// What changes each input; all are the state if there are none.
    bindings: Vec<Binding>,
    branches: bool,
    paired: bool,
}

impl Graph {
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    pub fn fact(&self, id: ValueId) -> &Fact {
        &self.values[id.index()].fact
    }

    /// The elements of a constant; `None` for what is computed at run time.
    pub fn constant(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.values[id.index()].constant.as_ref()
    }

    /// How often each value is used, by nodes and as an output of the graph.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = std::vec![0; self.values.len()];
        for node in &self.nodes {
            for &input in &node.inputs {
                uses[input.index()] += 1;
            }
        }
        for &output in &self.outputs {
            uses[output.index()] += 1;
        }
        uses
    }

    /// The node that computes each value.
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        let outputs =
            |(i, node): (usize, &Node)| node.outputs.iter().map(move |&o| (o, i)).collect::<Vec<_>>();
        self.nodes.iter().enumerate().flat_map(outputs).collect()
    }

    /// The graph with one of its outputs alone.
    #[must_use]
    pub fn with_output(mut self, at: usize) -> Graph {
        let mut keep = (0..self.outputs.len()).map(|i| i == at).collect::<Vec<_>>().into_iter();
        let mut names = keep.clone();
        self.outputs.retain(|_| keep.next().unwrap_or(false));
        self.output_names.retain(|_| names.next().unwrap_or(false));
        self.remove_dead()
    }

    /// Drops the nodes that no output depends on.
    pub fn remove_dead(mut self) -> Graph {
        let mut live = std::vec![false; self.values.len()];
        for &output in &self.outputs {
            live[output.index()] = true;
        }
        let mut keep = std::vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            keep[i] = node.outputs.iter().any(|o| live[o.index()]);
            if keep[i] {
                node.inputs.iter().for_each(|input| live[input.index()] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(false));
        for (value, live) in self.values.iter_mut().zip(live) {
            if !live {
                value.constant = None;
            }
        }
        self
    }

    /// Number of constant elements that the nodes use: the network's parameters.
    pub fn parameters(&self) -> usize {
        let mut seen = std::vec![false; self.values.len()];
        let mut count = 0;
        for input in self.nodes.iter().flat_map(|n| &n.inputs) {
            if self.constant(*input).is_some() && !std::mem::replace(&mut seen[input.index()], true) {
                count += self.fact(*input).len();
            }
        }
        count
    }

    /// Floating point operations of one evaluation, counting a multiply-add as two.
    pub fn flops(&self) -> u64 {
        let facts = |ids: &[ValueId]| ids.iter().map(|&id| self.fact(id).clone()).collect::<Vec<_>>();
        self.nodes.iter().map(|n| n.op.flops(&facts(&n.inputs), &facts(&n.outputs))).sum()
    }
}
