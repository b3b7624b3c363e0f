//! One pass over the nodes: each becomes canonical operators, constants, or a call of the host library.

use super::load::Model;
use super::tensors::{self, Files};
use super::{OnnxError, order, tract};
use crate::graph::{Builder, Fact, Graph, ValueId};
use crate::ops::{self, Attribute, Call, OpError};
use std::collections::HashMap;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use tract_onnx::pb;

/// Operators of ONNX Runtime's own domain that mean what the importer of the same name takes them for.
const CONTRIBUTED: [&str; 3] = ["Gelu", "QuickGelu", "SimplifiedLayerNormalization"];

/// Whether a node's operator is known by its name alone.
fn known_domain(node: &pb::NodeProto) -> bool {
    match node.domain.as_str() {
        "" | "ai.onnx" => true,
        "com.microsoft" => CONTRIBUTED.contains(&node.op_type.as_str()),
        _ => false,
    }
}

/// Makes the graph of a model at concrete input shapes.
pub fn import(model: Model, shapes: &[Vec<usize>]) -> Result<Graph, OnnxError> {
    let Model { inputs, outputs, nodes, initializers, opsets, .. } = model;
    let mut import = Import { builder: Builder::new(), values: HashMap::new(), opsets };
    for (input, shape) in inputs.iter().zip(shapes) {
        let wrong =
            |problem: OpError| OnnxError::Tensor { tensor: input.name.clone(), problem: problem.to_string() };
        let dtype = ops::run_time_type(i64::from(input.onnx_type)).map_err(wrong)?;
        let id = import.builder.input(&input.name, Fact::new(dtype, shape));
        import.values.insert(input.name.clone(), id);
    }
    for (name, tensor) in initializers {
        import.builder.enter(&name);
        let id = import.builder.constant(tensor);
        import.values.insert(name, id);
    }
    import.nodes(&nodes)?;
    let mut results = Vec::with_capacity(outputs.len());
    for output in &outputs {
        let missing = || OnnxError::NoOutput { output: output.name.clone() };
        results.push(*import.values.get(&output.name).ok_or_else(missing)?);
    }
    let names = outputs.into_iter().map(|o| o.name).collect();
    Ok(import.builder.finish(results, names))
}

struct Import {
    builder: Builder,
    /// By the names of the ONNX graph, subgraphs that were inlined included.
    values: HashMap<String, ValueId>,
    opsets: HashMap<String, i64>,
}

impl Import {
    fn nodes(&mut self, nodes: &[pb::NodeProto]) -> Result<(), OnnxError> {
        order::sorted(nodes).into_iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &pb::NodeProto) -> Result<(), OnnxError> {
        let name = node_name(node);
        self.builder.enter(&name);
        let inputs = self.inputs(node, &name)?;
        if node.op_type == "If" && inputs.len() == 1 {
            return self.branch(node, &name, inputs[0]);
        }
        let call = self.call(node, &name, inputs)?;
        let native = match ops::importer(&node.op_type).filter(|_| known_domain(node)) {
            Some(import) => import(&mut self.builder, &call),
            None => Err(OpError::unsupported("it is not one of the native operators")),
        };
        let outputs = match native {
            Ok(outputs) => outputs,
            Err(native) if native.unsupported => self.host(node, &name, &call, &native)?,
            Err(problem) => {
                return Err(OnnxError::Node { node: name, operator: node.op_type.clone(), problem });
            }
        };
        for (output, &id) in node.output.iter().zip(&outputs).filter(|(output, _)| !output.is_empty()) {
            self.values.insert(output.clone(), id);
        }
        Ok(())
    }

    fn inputs(&self, node: &pb::NodeProto, name: &str) -> Result<Vec<Option<ValueId>>, OnnxError> {
        let resolve = |input: &String| match input.as_str() {
            "" => Ok(None),
            value => self
                .values
                .get(value)
                .copied()
                .map(Some)
                .ok_or_else(|| OnnxError::Undefined { node: name.to_string(), value: value.to_string() }),
        };
        node.input.iter().map(resolve).collect()
    }

    fn call(
        &self,
        node: &pb::NodeProto,
        name: &str,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Call, OnnxError> {
        let mut attributes = HashMap::new();
        for attribute in &node.attribute {
            if let Some(value) = value_of(attribute, name)? {
                attributes.insert(attribute.name.clone(), value);
            }
        }
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let opset = self.opsets.get(domain).or(self.opsets.get("ai.onnx")).copied().unwrap_or(1);
        let outputs = node.output.iter().filter(|o| !o.is_empty()).count();
        Ok(Call { operator: node.op_type.clone(), opset, inputs, outputs, attributes })
    }

    /// An If whose condition is known: the branch that is taken, inlined.
    fn branch(
        &mut self,
        node: &pb::NodeProto,
        name: &str,
        condition: Option<ValueId>,
    ) -> Result<(), OnnxError> {
        let open = |problem: &str| OnnxError::Node {
            node: name.to_string(),
            operator: "If".to_string(),
            problem: OpError::new(problem),
        };
        let known = condition.and_then(|id| self.builder.known(id)).map(|t| t.to_i64());
        let taken =
            known.as_deref().and_then(|v| v.first()).ok_or_else(|| open("its condition depends on data"))?;
        let which = if *taken != 0 { "then_branch" } else { "else_branch" };
        let graph = node.attribute.iter().find(|a| a.name == which).and_then(|a| a.g.as_ref());
        let graph = graph.ok_or_else(|| open("a branch is missing"))?;
        for proto in &graph.initializer {
            let tensor = tensors::load(proto.clone(), &mut Files::new(None))?;
            let id = self.builder.constant(tensor);
            self.values.insert(proto.name.clone(), id);
        }
        self.nodes(&graph.node)?;
        for (output, inner) in node.output.iter().zip(&graph.output) {
            let missing = || OnnxError::NoOutput { output: inner.name.clone() };
            let id = *self.values.get(&inner.name).ok_or_else(missing)?;
            self.values.insert(output.clone(), id);
        }
        Ok(())
    }

    /// The node through the host library.
    fn host(
        &mut self,
        node: &pb::NodeProto,
        name: &str,
        call: &Call,
        native: &OpError,
    ) -> Result<Vec<ValueId>, OnnxError> {
        let operand = |id: &ValueId| (self.builder.fact(*id).clone(), self.builder.known(*id).cloned());
        let operands: Vec<_> = call.inputs.iter().map(|id| id.as_ref().map(operand)).collect();
        let operator =
            if known_domain(node) { tract::host_operator(node, call.opset, &operands) } else { Ok(None) };
        let host = match operator {
            Ok(Some(host)) => ops::Host { operator: node.op_type.clone(), run: Arc::new(host) },
            Ok(None) => {
                let (operator, domain) = (node.op_type.clone(), node.domain.clone());
                return Err(OnnxError::UnknownOperator { operator, domain, node: name.to_string() });
            }
            Err(problem) => {
                return Err(OnnxError::Host {
                    node: name.to_string(),
                    operator: node.op_type.clone(),
                    native: native.to_string(),
                    host: problem,
                });
            }
        };
        // One input a name, as the host library's graph has them.
        let named = node.input.iter().zip(&call.inputs).enumerate();
        let first = named.filter(|(i, (name, _))| !node.input[..*i].contains(name));
        let run_time: Vec<ValueId> =
            first.filter_map(|(_, (_, id))| *id).filter(|&id| self.builder.known(id).is_none()).collect();
        self.builder.push_all(host.into(), &run_time).map_err(|problem| OnnxError::Node {
            node: name.to_string(),
            operator: node.op_type.clone(),
            problem,
        })
    }
}

fn node_name(node: &pb::NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

/// An attribute's value; `None` for graphs, which only control flow has.
fn value_of(attribute: &pb::AttributeProto, node: &str) -> Result<Option<Attribute>, OnnxError> {
    use pb::attribute_proto::AttributeType as Type;
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    Ok(match Type::try_from(attribute.r#type) {
        Ok(Type::Int) => Some(Attribute::Int(attribute.i)),
        Ok(Type::Float) => Some(Attribute::Float(attribute.f)),
        Ok(Type::String) => Some(Attribute::String(text(&attribute.s))),
        Ok(Type::Ints) => Some(Attribute::Ints(attribute.ints.clone())),
        Ok(Type::Floats) => Some(Attribute::Floats(attribute.floats.clone())),
        Ok(Type::Strings) => Some(Attribute::Strings(attribute.strings.iter().map(text).collect())),
        Ok(Type::Tensor) => match &attribute.t {
            Some(tensor) => {
                let mut tensor = tensor.clone();
                tensor.name = std::format!("{} of node {node}", attribute.name);
                Some(Attribute::Tensor(tensors::load(tensor, &mut Files::new(None))?))
            }
            None => None,
        },
        _ => None,
    })
}
