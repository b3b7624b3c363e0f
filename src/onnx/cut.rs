//! A network cut in two: what no value of the state goes into comes before, and hands its values on to the rest.
//!
//! Shapes are fixed here, so that a shape depends on nothing.

use super::{OnnxError, Shapes, load};
use crate::files;
use crate::graph::{Binding, Fact, Graph};
use crate::kernels::DType;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::string::String;
use std::vec::Vec;
use tract_onnx::pb;

/// A network in two parts.
#[derive(Debug)]
pub struct Cut {
    /// From times and conditions to what is handed on, its inputs bound.
    pub before: Graph,
    /// An ONNX file with the inputs of the network that are left, and then one for each value that is handed on. Its external
    /// data are those of the whole.
    pub after: Vec<u8>,
}

/// Cuts the network of a file at the values that depend on times and conditions alone, by the bindings of its inputs. `None`
/// if that takes no work away from the rest, or is not known to keep the network what it is.
///
/// # Errors
/// If the bytes are no network, or the part before has no plan.
pub fn cut(
    bytes: &[u8],
    path: &Path,
    shapes: &Shapes,
    binding: impl Fn(&str) -> Binding,
) -> Result<Option<Cut>, OnnxError> {
    let not_onnx = |problem: prost::DecodeError| OnnxError::NotOnnx {
        path: path.into(),
        problem: std::string::ToString::to_string(&problem),
    };
    let mut proto = pb::ModelProto::decode(bytes).map_err(not_onnx)?;
    let Some(mut graph) = proto.graph.take() else { return Ok(None) };
    let values = Values::of(&graph, &binding);
    let handed = values.handed(&graph);
    if handed.is_empty() || graph.output.iter().any(|output| values.is_early(&output.name)) {
        return Ok(None);
    }
    let earlier = part(&graph, handed.iter().map(|name| &name[..]), &HashSet::new());
    proto.graph = Some(earlier);
    let before = load::model(proto.clone(), path, Some(files::folder(path)))?;
    let known = |(name, _): &(&String, &Vec<usize>)| before.inputs.iter().any(|input| input.name == **name);
    let shapes = shapes.iter().filter(known).map(|(name, shape)| (name.clone(), shape.clone())).collect();
    let before = before.into_graph(&shapes)?.bound(&binding).optimized();
    let Some(inputs) = handed_inputs(&before, &values) else { return Ok(None) };

    let stop: HashSet<&str> = handed.iter().map(|name| &name[..]).collect();
    let mut later = part(&graph, graph.output.iter().map(|output| &output.name[..]), &stop);
    later.output = std::mem::take(&mut graph.output);
    later.value_info.retain(|info| !stop.contains(&info.name[..]));
    later.input.extend(inputs);
    proto.graph = Some(later);
    Ok(Some(Cut { before, after: proto.encode_to_vec() }))
}

/// What is known of the values of a graph.
struct Values {
    bindings: HashMap<String, Binding>,
    /// ONNX's `TensorProto.DataType`.
    types: HashMap<String, i32>,
}

impl Values {
    fn of(graph: &pb::GraphProto, binding: &impl Fn(&str) -> Binding) -> Values {
        let mut values = Values { bindings: HashMap::new(), types: HashMap::new() };
        for tensor in &graph.initializer {
            values.bindings.insert(tensor.name.clone(), Binding::CONSTANT);
            values.types.insert(tensor.name.clone(), tensor.data_type);
        }
        for input in &graph.input {
            values.bindings.entry(input.name.clone()).or_insert_with(|| binding(&input.name));
        }
        for info in graph.input.iter().chain(&graph.value_info) {
            if let Some(pb::type_proto::Value::TensorType(tensor)) =
                info.r#type.as_ref().and_then(|own| own.value.as_ref())
            {
                values.types.entry(info.name.clone()).or_insert(tensor.elem_type);
            }
        }
        for node in &graph.node {
            let (binding, onnx_type) = (values.binding(node), values.onnx_type(node));
            for output in &node.output {
                values.bindings.insert(output.clone(), binding);
                values.types.entry(output.clone()).or_insert(onnx_type);
            }
        }
        values
    }

    /// What the results of a node depend on.
    fn binding(&self, node: &pb::NodeProto) -> Binding {
        match node.op_type.as_str() {
            "Shape" | "Size" => Binding::CONSTANT,
            random if random.starts_with("Random") || random == "Bernoulli" || random == "Multinomial" => {
                Binding::STATE
            }
            _ => reads(node)
                .filter_map(|name| self.bindings.get(name).copied())
                .fold(Binding::CONSTANT, Binding::and),
        }
    }

    /// The type of a node's results, where the file does not say. What is wrong here, a runtime refuses.
    fn onnx_type(&self, node: &pb::NodeProto) -> i32 {
        use pb::tensor_proto::DataType::{Bool, Float, Int64};
        let attribute = |name: &str| node.attribute.iter().find(|own| own.name == name);
        let of = |input: usize| node.input.get(input).and_then(|name| self.types.get(name)).copied();
        let tensor = || attribute("value").and_then(|own| own.t.as_ref()).map(|tensor| tensor.data_type);
        match node.op_type.as_str() {
            "Cast" => attribute("to").map_or(0, |to| to.i as i32),
            "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => Int64 as i32,
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Not"
            | "Xor" | "IsNaN" | "IsInf" => Bool as i32,
            "ConstantOfShape" => tensor().unwrap_or(Float as i32),
            "Constant" => tensor().unwrap_or(0),
            "Where" => of(1).unwrap_or(0),
            "OneHot" => of(2).unwrap_or(0),
            _ => of(0).unwrap_or(0),
        }
    }

    /// Whether a value depends on something, and not on the state.
    fn is_early(&self, name: &str) -> bool {
        let binding = self.bindings.get(name).copied().unwrap_or(Binding::CONSTANT);
        binding != Binding::CONSTANT && binding.and(Binding::STATE) != binding
    }

    /// Early values that are computed, and read by what depends on the state, in the order of the nodes.
    fn handed(&self, graph: &pb::GraphProto) -> Vec<String> {
        let is_late = |node: &&pb::NodeProto| {
            let binding = self.binding(node);
            binding.and(Binding::STATE) == binding
        };
        let read: HashSet<&str> = graph.node.iter().filter(is_late).flat_map(reads).collect();
        let computed = graph.node.iter().flat_map(|node| &node.output);
        computed.filter(|name| self.is_early(name) && read.contains(&name[..])).cloned().collect()
    }
}

/// The names that a node reads, those that its subgraphs take from around them included.
fn reads(node: &pb::NodeProto) -> impl Iterator<Item = &str> {
    let inner = node.attribute.iter().flat_map(|own| own.g.iter().chain(&own.graphs));
    let mut names: Vec<&str> = node.input.iter().map(|name| &name[..]).collect();
    names.extend(inner.flat_map(|graph| &graph.node).flat_map(|node| reads(node).collect::<Vec<_>>()));
    names.into_iter().filter(|name| !name.is_empty())
}

/// The part of a graph that computes `outputs`, where what is in `given` need not be computed.
fn part<'a>(
    graph: &'a pb::GraphProto,
    outputs: impl Iterator<Item = &'a str> + Clone,
    given: &HashSet<&'a str>,
) -> pb::GraphProto {
    let mut wanted: HashSet<&str> = outputs.clone().filter(|name| !given.contains(name)).collect();
    let mut nodes = Vec::new();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|output| wanted.contains(&output[..])) {
            wanted.extend(reads(node).filter(|name| !given.contains(name)));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let info = |name: &str| pb::ValueInfoProto { name: name.into(), ..Default::default() };
    pb::GraphProto {
        name: graph.name.clone(),
        node: nodes,
        initializer: graph.initializer.iter().filter(|own| wanted.contains(&own.name[..])).cloned().collect(),
        sparse_initializer: graph.sparse_initializer.clone(),
        input: graph.input.iter().filter(|own| wanted.contains(&own.name[..])).cloned().collect(),
        output: outputs.map(info).collect(),
        value_info: graph.value_info.clone(),
        ..Default::default()
    }
}

/// The inputs of the rest for what is handed on; `None` if a value depends on the state after all or its type is not sure, or
/// if it takes no more operations than there are values.
fn handed_inputs(before: &Graph, values: &Values) -> Option<Vec<pb::ValueInfoProto>> {
    let bindings = before.value_bindings();
    let flop: u64 = before.costs().iter().map(|cost| cost.flop).sum();
    let elements: usize = before.outputs.iter().map(|&id| before.fact(id).len()).sum();
    if flop <= elements as u64 {
        return None;
    }
    let outputs = before.outputs.iter().zip(&before.output_names);
    let input = |(id, name): (&crate::graph::ValueId, &String)| {
        let (binding, fact) = (bindings[id.index()], before.fact(*id));
        let onnx_type = *values.types.get(name)?;
        let fits = match fact.dtype {
            DType::F32 => matches!(onnx_type, 1 | 10 | 11),
            DType::I64 => matches!(onnx_type, 6 | 7),
            DType::Bool => onnx_type == 9,
        };
        let is_late = binding.and(Binding::STATE) == binding;
        (fits && !is_late).then(|| declared(name, onnx_type, fact))
    };
    outputs.map(input).collect()
}

fn declared(name: &str, onnx_type: i32, fact: &Fact) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&size: &usize| Dimension { value: Some(Value::DimValue(size as i64)), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: fact.shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: onnx_type, shape: Some(shape) };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    let own = pb::TypeProto { value, ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(own), ..Default::default() }
}
