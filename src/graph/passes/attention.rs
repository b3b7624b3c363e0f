//! Two products with a softmax between them become one operator, whose scores never exist as a whole.

use super::super::{Graph, Node};
use crate::ops::{Attention, MatMul, Op, Softmax};

pub fn whole(mut graph: Graph) -> Graph {
    let (uses, producers) = (graph.uses(), graph.producers());
    let producer = |graph: &Graph, node: &Node, input: usize| {
        let value = node.inputs[input];
        let own = uses[value.index()] == 1;
        producers.get(&value).filter(|_| own).map(|&i| graph.nodes[i].clone())
    };
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let plain = |op: &Op| matches!(op, Op::MatMul(product) if *product == MatMul::PLAIN);
        if !plain(&node.op) {
            continue;
        }
        let Some(softmax) = producer(&graph, node, 0) else { continue };
        let Op::Softmax(Softmax { axis, scale }) = softmax.op else { continue };
        let Some(scores) = producer(&graph, &softmax, 0).filter(|scores| plain(&scores.op)) else { continue };
        let inputs = std::vec![scores.inputs[0], scores.inputs[1], node.inputs[1]];
        let lead = |id| {
            let shape = &graph.fact(id).shape;
            shape[..shape.len() - 2].to_vec()
        };
        let output = node.outputs[0];
        let rank = graph.fact(output).rank();
        let alike = inputs.iter().all(|&id| lead(id) == lead(output) && graph.constant(id).is_none());
        if alike && axis + 1 == rank && scale > 0.0 && !graph.fact(scores.outputs[0]).is_empty() {
            graph.nodes[i].op = Attention { scale }.into();
            graph.nodes[i].inputs = inputs;
        }
    }
    graph.remove_dead()
}
