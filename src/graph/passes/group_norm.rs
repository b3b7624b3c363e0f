//! Group normalisation as PyTorch exports it: the groups made channels by a reshape, normalised as instances, and
//! reshaped back. One node again.

use super::super::{Graph, Node, Tensor, ValueId};
use crate::ops::{Norm, Op, Over, Reshape};
use std::vec::Vec;

pub fn whole(mut graph: Graph) -> Graph {
    let (uses, producers) = (graph.uses(), graph.producers());
    for back in 0..graph.nodes.len() {
        if let Some(node) = matched(&mut graph, back, &uses, &producers) {
            graph.nodes[back] = node;
        }
    }
    graph.remove_dead()
}

/// The normalisation that the reshape at `back` ends, if it ends one.
fn matched(
    graph: &mut Graph,
    back: usize,
    uses: &[usize],
    producers: &std::collections::HashMap<ValueId, usize>,
) -> Option<Node> {
    let Op::Reshape(Reshape { shape }) = &graph.nodes[back].op else { return None };
    let normed = graph.nodes[back].inputs[0];
    let norm_node = &graph.nodes[*producers.get(&normed)?];
    let Op::Norm(norm @ Norm { over: Over::Groups(groups), gamma: true, beta: true, .. }) = &norm_node.op
    else {
        return None;
    };
    let grouped = norm_node.inputs[0];
    let front = &graph.nodes[*producers.get(&grouped)?];
    let Op::Reshape(_) = front.op else { return None };
    let x = front.inputs[0];
    let (own, inner) = (graph.fact(x).shape.clone(), &graph.fact(grouped).shape);
    let instances = inner.len() >= 2 && inner[1] == *groups && inner[0] == *own.first()?;
    let fits = own.len() >= 2 && own == *shape && *groups > 0 && own[1].is_multiple_of(*groups) && instances;
    if !fits || uses[normed.index()] != 1 || uses[grouped.index()] != 1 {
        return None;
    }
    let spread = |id: ValueId| {
        let values = graph.constant(id)?.to_f32();
        let each = own[1] / groups;
        Some(values.iter().flat_map(|&v| std::iter::repeat_n(v, each)).collect::<Vec<f32>>())
    };
    let (gamma, beta) = (spread(norm_node.inputs[1])?, spread(norm_node.inputs[2])?);
    let mut norm = norm.clone();
    norm.gamma = gamma.iter().any(|&v| v != 1.0);
    norm.beta = beta.iter().any(|&v| v != 0.0);
    let mut node = Node { name: norm_node.name.clone(), inputs: std::vec![x], ..graph.nodes[back].clone() };
    for (_, values) in [(norm.gamma, gamma), (norm.beta, beta)].into_iter().filter(|(present, _)| *present) {
        node.inputs.push(graph.add_constant(Tensor::f32(&[values.len()], values).ok()?));
    }
    node.op = norm.into();
    Some(node)
}
