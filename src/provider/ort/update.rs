//! The sampler's update as a network: `x' = a*x + b*y + sum_k d_k*kept_k + e*F + c*z`, and what the network reads next.
//!
//! Operation for operation it is what [`crate::sampler::advance`] computes, so that where these round alike, samples are the
//! same to the bit. The coefficients are inputs: a schedule changes them, and not the network.

use crate::provider::external::{Element, Port};
use crate::sampler::{Row, Table};
use prost::Message;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;
use tract_onnx::pb;

/// What a table needs of its update, and what state and output are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) shape: Vec<usize>,
    /// Of the network's input and output.
    pub(super) elements: [Element; 2],
    /// How many of the earlier [`Row::keep`] are looked back at.
    pub(super) depth: usize,
    limit: bool,
    direct: bool,
    pub(super) noise: bool,
}

impl Form {
    /// `None` if state and output are not alike.
    pub(super) fn of(table: &Table, state: &Port, output: &Port) -> Option<Form> {
        (state.shape == output.shape).then(|| Form {
            shape: state.shape.clone(),
            elements: [state.element, output.element],
            depth: table.history(),
            limit: table.rows.iter().any(|row| row.limit.is_some()),
            direct: table.rows.iter().any(|row| row.direct != 0.0),
            noise: table.rows.iter().any(|row| row.noise.is_some_and(|c| c != 0.0)),
        })
    }

    /// Names and values of the coefficients of a row, of one element each. `next` is the scale of what the network reads next.
    pub(super) fn coefficients(&self, row: &Row, next: f64) -> Vec<(String, f32)> {
        let limit = row.limit.unwrap_or(f64::INFINITY);
        let mut all: Vec<(String, f64)> = [
            ("estimate_x", row.estimate.x),
            ("estimate_y", row.estimate.y),
            ("update_x", row.update.x),
            ("update_y", row.update.y),
            ("scale", next),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into();
        let mut with =
            |is, name: &str, value| all.extend([(name.to_string(), value)].into_iter().filter(|_| is));
        with(self.limit, "limit", limit);
        with(self.limit, "least", -limit);
        with(self.depth > 0, "keep_x", row.keep.x);
        with(self.depth > 0, "keep_y", row.keep.y);
        with(self.direct, "direct", row.direct);
        with(self.noise, "noise", row.noise.unwrap_or(0.0));
        all.extend((0..self.depth).map(|k| (format!("earlier_{k}"), row.earlier[k])));
        all.into_iter().map(|(name, value)| (name, value as f32)).collect()
    }

    /// Names of what was kept, the latest first.
    pub(super) fn kept(&self) -> Vec<String> {
        (0..self.depth).map(|k| format!("kept_{k}")).collect()
    }

    /// The network: from `x`, `f`, `z` if there is noise, what was kept and the coefficients to `next`, `input`, and `keep`
    /// if anything is.
    pub(super) fn network(&self, coefficients: &[(String, f32)]) -> Vec<u8> {
        let mut nodes = Nodes::default();
        let f = nodes.cast("f", self.elements[1], Element::F32);
        let free = nodes.sum(["x", "estimate_x"], [&f, "estimate_y"]);
        let y = if self.limit { nodes.clamped(&free) } else { free };
        let mut next = nodes.sum(["x", "update_x"], [&y, "update_y"]);
        for (k, kept) in self.kept().iter().enumerate() {
            next = nodes.plus(&next, [kept, &format!("earlier_{k}")]);
        }
        if self.direct {
            next = nodes.plus(&next, [&f, "direct"]);
        }
        if self.noise {
            next = nodes.plus(&next, ["z", "noise"]);
        }
        let input = nodes.node("Mul", &[&next, "scale"]);
        let input = nodes.cast(&input, Element::F32, self.elements[0]);
        let keep = (self.depth > 0).then(|| nodes.sum(["x", "keep_x"], [&y, "keep_y"]));
        for (from, to) in [(Some(next), "next"), (Some(input), "input"), (keep, "keep")] {
            from.into_iter().for_each(|from| nodes.named("Identity", &[&from], to.to_string()));
        }
        let f32s = |name: &str| value(name, Element::F32, &self.shape);
        let mut inputs = std::vec![f32s("x"), value("f", self.elements[1], &self.shape)];
        inputs.extend(self.noise.then(|| f32s("z")));
        inputs.extend(self.kept().iter().map(|name| f32s(name)));
        inputs.extend(coefficients.iter().map(|(name, _)| value(name, Element::F32, &[1])));
        let mut outputs = std::vec![f32s("next"), value("input", self.elements[0], &self.shape)];
        outputs.extend((self.depth > 0).then(|| f32s("keep")));
        model(nodes.0, inputs, outputs)
    }
}

/// A network that copies tensors of a type, of any shape.
pub(super) fn copy(element: Element) -> Vec<u8> {
    let mut nodes = Nodes::default();
    nodes.named("Identity", &["from"], "to".to_string());
    let [from, to] = ["from", "to"].map(|name| std::vec![declared(name, element, None)]);
    model(nodes.0, from, to)
}

/// A network `f = x * x + t * t` for tests.
#[cfg(test)]
pub(super) fn square(element: Element, shape: &[usize]) -> Vec<u8> {
    let mut nodes = Nodes::default();
    let t = nodes.cast("t", Element::F32, element);
    let f = nodes.sum(["x", "x"], [&t, &t]);
    nodes.named("Identity", &[&f], "f".to_string());
    let inputs = std::vec![value("x", element, shape), value("t", Element::F32, &[1])];
    model(nodes.0, inputs, std::vec![value("f", element, shape)])
}

#[derive(Default)]
struct Nodes(Vec<pb::NodeProto>);

impl Nodes {
    fn named(&mut self, operator: &str, inputs: &[&str], output: String) {
        self.0.push(pb::NodeProto {
            name: output.clone(),
            op_type: operator.to_string(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: std::vec![output],
            ..Default::default()
        });
    }

    fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        let output = format!("{operator}_{}", self.0.len());
        self.named(operator, inputs, output.clone());
        output
    }

    /// `value + a * b`
    fn plus(&mut self, value: &str, [a, b]: [&str; 2]) -> String {
        let product = self.node("Mul", &[a, b]);
        self.node("Add", &[value, &product])
    }

    /// `a * b + c * d`
    fn sum(&mut self, [a, b]: [&str; 2], other: [&str; 2]) -> String {
        let product = self.node("Mul", &[a, b]);
        self.plus(&product, other)
    }

    /// Not `Clip`, which may turn a NaN into a limit and hide a network that failed.
    fn clamped(&mut self, value: &str) -> String {
        let below = self.node("Less", &[value, "least"]);
        let raised = self.node("Where", &[&below, "least", value]);
        let above = self.node("Greater", &[value, "limit"]);
        self.node("Where", &[&above, "limit", &raised])
    }

    fn cast(&mut self, name: &str, from: Element, to: Element) -> String {
        if from == to {
            return name.to_string();
        }
        let output = self.node("Cast", &[name]);
        let to = pb::AttributeProto {
            name: "to".to_string(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i: to.onnx_type().into(),
            ..Default::default()
        };
        self.0.last_mut().into_iter().for_each(|node| node.attribute = std::vec![to.clone()]);
        output
    }
}

fn value(name: &str, element: Element, shape: &[usize]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&size: &usize| Dimension { value: Some(Value::DimValue(size as i64)), ..Default::default() };
    declared(name, element, Some(pb::TensorShapeProto { dim: shape.iter().map(dim).collect() }))
}

fn declared(name: &str, element: Element, shape: Option<pb::TensorShapeProto>) -> pb::ValueInfoProto {
    let tensor = pb::type_proto::Tensor { elem_type: element.onnx_type(), shape };
    let own = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_string(), r#type: Some(own), ..Default::default() }
}

fn model(
    node: Vec<pb::NodeProto>,
    input: Vec<pb::ValueInfoProto>,
    output: Vec<pb::ValueInfoProto>,
) -> Vec<u8> {
    let graph = pb::GraphProto { name: "update".to_string(), node, input, output, ..Default::default() };
    let import = pb::OperatorSetIdProto { domain: String::new(), version: 16 };
    let opset_import = std::vec![import];
    pb::ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}
