//! The order of a file's nodes. ONNX wants every node after those that it reads from, but some converters append nodes at
//! the end (ONNX Runtime's to half precision puts its casts there), and ONNX Runtime takes such files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::string::String;
use std::vec::Vec;
use tract_onnx::pb;

/// The nodes, each after those that it reads from, otherwise as they stand in the file. Nodes of a cycle come last.
pub fn sorted(nodes: &[pb::NodeProto]) -> Vec<&pb::NodeProto> {
    let mut producers = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            producers.entry(output.as_str()).or_insert(index);
        }
    }
    let mut readers: Vec<Vec<usize>> = std::vec![Vec::new(); nodes.len()];
    let mut missing = std::vec![0usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let mut read = Vec::new();
        names_read(node, &mut read);
        for producer in read.into_iter().filter_map(|name| producers.get(name.as_str())) {
            readers[*producer].push(index);
            missing[index] += 1;
        }
    }
    let free = (0..nodes.len()).filter(|&index| missing[index] == 0);
    let mut ready: BinaryHeap<_> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(&nodes[index]);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    order.extend(nodes.iter().zip(&missing).filter(|(_, missing)| **missing > 0).map(|(node, _)| node));
    order
}

/// The names that a node reads, by the nodes of its subgraphs too.
fn names_read<'a>(node: &'a pb::NodeProto, names: &mut Vec<&'a String>) {
    names.extend(&node.input);
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        graph.node.iter().for_each(|inner| names_read(inner, names));
        names.extend(graph.output.iter().map(|output| &output.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> pb::NodeProto {
        let names = |list: &[&str]| list.iter().map(|&name| String::from(name)).collect();
        pb::NodeProto { input: names(inputs), output: names(&[output]), ..Default::default() }
    }

    fn outputs(nodes: &[pb::NodeProto]) -> Vec<&str> {
        sorted(nodes).iter().map(|node| node.output[0].as_str()).collect()
    }

    #[test]
    fn a_node_follows_what_it_reads_and_the_order_stays_otherwise() {
        let right = [node(&["x"], "a"), node(&["x"], "b"), node(&["a", "b"], "c"), node(&["x"], "d")];
        assert_eq!(outputs(&right), ["a", "b", "c", "d"]);
        let wrong = [node(&["cast", "cast"], "a"), node(&["x"], "b"), node(&["b"], "cast")];
        assert_eq!(outputs(&wrong), ["b", "cast", "a"]);
    }

    #[test]
    fn what_a_branch_reads_is_read_by_its_node() {
        let body = pb::GraphProto { node: std::vec![node(&["late"], "inner")], ..Default::default() };
        let mut branch = node(&["condition"], "a");
        branch.attribute.push(pb::AttributeProto { g: Some(body), ..Default::default() });
        assert_eq!(outputs(&[branch, node(&["x"], "late")]), ["late", "a"]);
    }

    #[test]
    fn a_cycle_comes_last() {
        let nodes = [node(&["b"], "a"), node(&["a"], "b"), node(&["x"], "c")];
        assert_eq!(outputs(&nodes), ["c", "a", "b"]);
    }
}
