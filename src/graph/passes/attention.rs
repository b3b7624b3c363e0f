//! Two products with a softmax between them become one operator, whose scores never exist as a whole.

use super::super::{Graph, Node, ValueId};
use super::program::{Program, scaled};
use crate::ops::{Attention, MatMul, Op, Softmax};
use std::collections::HashMap;

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
            let mut scale = scale;
            graph.nodes[i].inputs = inputs;
            for operand in 0..2 {
                scale *= take_scale(&mut graph, i, operand, &uses, &producers);
            }
            graph.nodes[i].op = Attention { scale }.into();
        }
    }
    graph.remove_dead()
}

/// Takes the scale out of what a node's operand is computed of, and returns it; 1 where there is none.
fn take_scale(
    graph: &mut Graph,
    mut node: usize,
    mut operand: usize,
    uses: &[usize],
    producers: &HashMap<ValueId, usize>,
) -> f32 {
    loop {
        let value = graph.nodes[node].inputs[operand];
        let Some(&producer) = producers.get(&value).filter(|_| uses[value.index()] == 1) else { return 1.0 };
        let Node { op, inputs, .. } = &graph.nodes[producer];
        match op {
            Op::Transpose(_) | Op::Reshape(_) | Op::Slice(_) => (node, operand) = (producer, 0),
            Op::Map(map) => {
                let Some((x, scale)) = scaled(&Program::of(&map.steps, inputs)) else { return 1.0 };
                if scale <= 0.0 || graph.fact(x) != graph.fact(value) {
                    return 1.0;
                }
                graph.nodes[node].inputs[operand] = x;
                return scale;
            }
            _ => return 1.0,
        }
    }
}
