//! Operators without a native kernel: tract builds and evaluates them, one node at a time.

use crate::graph::{Data, Fact, Tensor};
use crate::kernels::DType;
use crate::ops::HostOperator;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TypedSimplePlan, format_err};

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A node's operand: what is known of its type, and its elements if it is a constant.
pub type Known = Option<(Fact, Option<Arc<Tensor>>)>;

#[derive(Debug)]
struct Operator {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<DatumType>,
    facts: Vec<Fact>,
}

/// The operator of a node at concrete shapes; `None` if tract does not know it either.
///
/// # Errors
/// Why tract can not build it.
pub fn host_operator(
    node: &pb::NodeProto,
    opset: i64,
    operands: &[Known],
) -> Result<Option<impl HostOperator + use<>>, String> {
    let onnx = tract_onnx::onnx();
    if wrong(node) {
        return Err("it computes this use of the operator wrongly".to_string());
    }
    if !onnx.op_register.0.contains_key(&node.op_type) {
        return Ok(None);
    }
    let built = caught(|| build(&onnx, node, opset, operands).map_err(Problem::from));
    built.map(Some).map_err(|e| format!("{e:#}").replace('\n', " "))
}

/// Runs a piece of the host library, which panics on some types that it has no code for.
fn caught<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    // What it borrows is dropped or left unchanged: nothing is seen half done.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err("the host library has no code for these types".into()))
}

/// Uses that tract accepts and gets wrong (0.23.9: its border padding is off for bicubic sampling).
fn wrong(node: &pb::NodeProto) -> bool {
    let text = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.s.as_slice());
    let bicubic = text("mode").is_some_and(|mode| mode.ends_with(b"cubic"));
    node.op_type == "GridSample" && bicubic && text("padding_mode") == Some(b"border")
}

fn build(
    onnx: &tract_onnx::Onnx,
    node: &pb::NodeProto,
    opset: i64,
    operands: &[Known],
) -> TractResult<Operator> {
    let mut graph = pb::GraphProto { node: std::vec![node.clone()], ..Default::default() };
    let mut facts = Vec::new();
    for (i, (name, operand)) in node.input.iter().zip(operands).enumerate() {
        match operand.as_ref().filter(|_| !node.input[..i].contains(name)) {
            Some((_, Some(tensor))) => graph.initializer.push(proto_of(name, tensor)),
            Some((fact, None)) => {
                graph.input.push(pb::ValueInfoProto {
                    name: name.clone(),
                    r#type: Some(type_of(fact)),
                    ..Default::default()
                });
                facts.push(fact);
            }
            None => {}
        }
    }
    let named = node.output.iter().filter(|o| !o.is_empty());
    graph.output =
        named.map(|name| pb::ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
    let import = pb::OperatorSetIdProto { domain: String::new(), version: opset };
    let model = pb::ModelProto { opset_import: std::vec![import], graph: Some(graph), ..Default::default() };
    let mut model = onnx.model_for_proto_model(&model)?;
    let mut inputs = Vec::new();
    for (i, fact) in facts.iter().enumerate() {
        let dtype = datum_type(fact.dtype);
        model.set_input_fact(i, InferenceFact::dt_shape(dtype, fact.shape.clone()))?;
        inputs.push(dtype);
    }
    let model = model.into_typed()?;
    let mut outputs = Vec::new();
    for outlet in model.output_outlets()? {
        let fact = model.outlet_fact(*outlet)?;
        let shape =
            fact.shape.as_concrete().ok_or_else(|| format_err!("its result's shape depends on data"))?;
        outputs.push(Fact::new(run_time_type(fact.datum_type)?, shape));
    }
    Ok(Operator { plan: model.into_runnable()?, inputs, facts: outputs })
}

impl HostOperator for Operator {
    fn facts(&self) -> &[Fact] {
        &self.facts
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Problem> {
        caught(|| self.evaluate(inputs))
    }
}

impl Operator {
    fn evaluate(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Problem> {
        let given = inputs.iter().zip(&self.inputs).map(|(tensor, &dtype)| {
            let tensor = to_tract(tensor)?;
            Ok(tensor.cast_to_dt(dtype)?.into_owned().into_tvalue())
        });
        let given: TVec<TValue> = given.collect::<TractResult<_>>()?;
        let results = self.plan.run(given)?;
        let convert = |(value, fact): (&TValue, &Fact)| from_tract(value, fact);
        results.iter().zip(&self.facts).map(convert).collect()
    }
}

fn datum_type(dtype: DType) -> DatumType {
    match dtype {
        DType::F32 => f32::datum_type(),
        DType::I64 => i64::datum_type(),
        DType::Bool => bool::datum_type(),
    }
}

fn run_time_type(dtype: DatumType) -> TractResult<DType> {
    if dtype.is_float() {
        Ok(DType::F32)
    } else if dtype == bool::datum_type() {
        Ok(DType::Bool)
    } else if dtype.is_integer() || dtype == TDim::datum_type() {
        Ok(DType::I64)
    } else {
        Err(format_err!("its result is {dtype:?}"))
    }
}

fn to_tract(tensor: &Tensor) -> TractResult<tract_onnx::prelude::Tensor> {
    type Out = tract_onnx::prelude::Tensor;
    match tensor.data() {
        Data::F32(v) => Out::from_shape(tensor.shape(), v),
        Data::I64(v) => Out::from_shape(tensor.shape(), v),
        Data::Bool(v) => Out::from_shape(tensor.shape(), v),
    }
}

fn from_tract(value: &TValue, fact: &Fact) -> Result<Tensor, Problem> {
    let data = match fact.dtype {
        DType::F32 => {
            Data::F32(value.cast_to::<f32>()?.to_plain_array_view::<f32>()?.iter().copied().collect())
        }
        DType::I64 => {
            Data::I64(value.cast_to::<i64>()?.to_plain_array_view::<i64>()?.iter().copied().collect())
        }
        DType::Bool => Data::Bool(value.to_plain_array_view::<bool>()?.iter().copied().collect()),
    };
    Ok(Tensor::new(value.shape(), data)?)
}

fn onnx_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::I64 => 7,
        DType::Bool => 9,
    }
}

fn proto_of(name: &str, tensor: &Tensor) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_string(),
        data_type: onnx_type(tensor.dtype()),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        raw_data: tensor.data().to_bytes(),
        ..Default::default()
    }
}

fn type_of(fact: &Fact) -> pb::TypeProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&d: &usize| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: fact.shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: onnx_type(fact.dtype), shape: Some(shape) };
    pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }
}
