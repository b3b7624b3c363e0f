//! The file: protocol buffers, external data, declared inputs and outputs.

use super::tensors::{self, Files};
use super::{OnnxError, Shapes, import};
use crate::files;
use crate::graph::{Graph, Tensor};
use prost::Message;
use std::collections::{BTreeSet, HashMap};
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;
use tract_onnx::pb;

/// An input or output as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    /// ONNX's `TensorProto.DataType`.
    pub onnx_type: i32,
    pub dims: Vec<Dimension>,
}

/// A declared dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    Fixed(usize),
    /// Named, or unnamed (empty).
    Symbol(String),
}

impl std::fmt::Display for Dimension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dimension::Fixed(size) => write!(f, "{size}"),
            Dimension::Symbol(name) if name.is_empty() => f.write_str("?"),
            Dimension::Symbol(name) => f.write_str(name),
        }
    }
}

impl Declared {
    fn of(info: &pb::ValueInfoProto) -> Declared {
        use pb::tensor_shape_proto::dimension::Value;
        let tensor = info.r#type.as_ref().and_then(|t| t.value.as_ref());
        let (onnx_type, shape) = match tensor {
            Some(pb::type_proto::Value::TensorType(tensor)) => (tensor.elem_type, tensor.shape.as_ref()),
            None => (0, None),
        };
        let dims = shape.map(|s| &s.dim[..]).unwrap_or_default().iter().map(|d| match &d.value {
            Some(Value::DimValue(size)) if *size >= 0 => Dimension::Fixed(*size as usize),
            Some(Value::DimParam(name)) => Dimension::Symbol(name.clone()),
            _ => Dimension::Symbol(String::new()),
        });
        Declared { name: info.name.clone(), onnx_type, dims: dims.collect() }
    }

    /// The dimensions, for people.
    pub fn shape(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        format!("[{}]", dims.join(","))
    }
}

/// A parsed ONNX model: its nodes and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    /// The file's own key-value pairs.
    pub metadata: HashMap<String, String>,
    pub producer: String,
    pub(super) nodes: Vec<pb::NodeProto>,
    pub(super) initializers: Vec<(String, Tensor)>,
    pub(super) opsets: HashMap<String, i64>,
}

/// The files of external data that a model's bytes name, for those who have to know whether any has changed.
///
/// # Errors
/// If the bytes are not those of a model.
pub fn external_files(bytes: &[u8]) -> Result<BTreeSet<String>, prost::DecodeError> {
    // Decoding copies all weights that are inside, and needs not be done where nothing says where data are.
    if memchr::memmem::find(bytes, b"location").is_none() {
        return Ok(BTreeSet::new());
    }
    let graph = pb::ModelProto::decode(bytes)?.graph.unwrap_or_default();
    let entries = graph.initializer.into_iter().flat_map(|tensor| tensor.external_data);
    Ok(entries.filter(|entry| entry.key == "location").map(|entry| entry.value).collect())
}

/// What a file declares, for those who leave its nodes and weights to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Those that no weight fills.
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    /// Of the nodes, one each.
    pub operators: Vec<String>,
    /// Values that nodes draw from a normal distribution: see [`Model::into_graph`].
    pub noise: Vec<String>,
}

impl Header {
    /// Parses the bytes of a file named `path`, for errors. Weights are passed over.
    ///
    /// # Errors
    /// If they are not those of a model.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Header, OnnxError> {
        let not_onnx = |problem: String| OnnxError::NotOnnx { path: path.to_path_buf(), problem };
        let file = File::decode(bytes).map_err(|e| not_onnx(e.to_string()))?;
        let graph = file.graph.ok_or_else(|| not_onnx("it has no graph".to_string()))?;
        if graph.outputs.is_empty() {
            return Err(not_onnx("it computes nothing".to_string()));
        }
        let known = |info: &&pb::ValueInfoProto| !graph.initializers.iter().any(|own| own.name == info.name);
        let inputs = graph.inputs.iter().filter(known).map(Declared::of).collect();
        let outputs = graph.outputs.iter().map(Declared::of).collect();
        let noise =
            graph.nodes.iter().filter(|node| is_noise(&node.operator)).flat_map(|node| node.outputs.clone());
        let noise = noise.collect();
        let operators = graph.nodes.into_iter().map(|node| node.operator).collect();
        Ok(Header { inputs, outputs, operators, noise })
    }
}

/// What a file declares, as a file of its own that nothing computes: the [`Header`] of both is the same.
///
/// # Errors
/// As [`Header::parse`].
pub fn interface(bytes: &[u8], path: &Path) -> Result<Vec<u8>, OnnxError> {
    let file = File::decode(bytes);
    let file = file.map_err(|e| OnnxError::NotOnnx { path: path.to_path_buf(), problem: e.to_string() })?;
    Ok(file.encode_to_vec())
}

/// What a [`Header`] is decoded from: `ModelProto`, `GraphProto`, `NodeProto` and `TensorProto` of onnx.proto, without the fields that
/// are passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(message, optional, tag = "7")]
    graph: Option<Interface>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Interface {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Name>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<pb::ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<pb::ValueInfoProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "4")]
    operator: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "8")]
    name: String,
}

impl Model {
    /// Reads a file, and the external data beside it.
    ///
    /// # Errors
    /// If the file or its data can not be read, or are not what they should be.
    pub fn read(path: &Path) -> Result<Model, OnnxError> {
        let wrap = |source| OnnxError::Read { path: path.to_path_buf(), source };
        let bytes = crate::mapping::map(path).map_err(wrap)?;
        Model::parse(&bytes, path, Some(files::folder(path)))
    }

    /// Parses the bytes of a file named `path`, for errors; external data are looked for in `folder`.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn parse(bytes: &[u8], path: &Path, folder: Option<&Path>) -> Result<Model, OnnxError> {
        let not_onnx = |problem: String| OnnxError::NotOnnx { path: path.to_path_buf(), problem };
        let proto = pb::ModelProto::decode(bytes).map_err(|e| not_onnx(e.to_string()))?;
        model(proto, path, folder)
    }

    /// The graph at concrete input shapes. The weights move into the graph. Noise that a node draws is another input, behind
    /// the others, if it has a shape among these; else it is a constant.
    ///
    /// # Errors
    /// If a shape is missing or does not fit, or an operator is unknown or has no kernel for what it is used for.
    pub fn into_graph(mut self, shapes: &Shapes) -> Result<Graph, OnnxError> {
        let noise = self.nodes.extract_if(.., |node| {
            is_noise(&node.op_type) && node.output.iter().all(|output| shapes.contains_key(output))
        });
        self.inputs.extend(noise.flat_map(|node| node.output).map(|name| {
            let dims = shapes[&name].iter().map(|&size| Dimension::Fixed(size)).collect();
            Declared { name, onnx_type: pb::tensor_proto::DataType::Float as i32, dims }
        }));
        let concrete = self.input_shapes(shapes)?;
        import::import(self, &concrete)
    }

    /// Makes an input a constant, as shape computations need that hang on an input's value.
    ///
    /// # Errors
    /// If there is no such input.
    pub fn fix_input(&mut self, name: &str, value: Tensor) -> Result<(), OnnxError> {
        let Some(at) = self.inputs.iter().position(|i| i.name == name) else {
            return Err(unknown_input(&self.inputs, name));
        };
        self.inputs.remove(at);
        self.initializers.push((name.to_string(), value));
        Ok(())
    }

    /// The inputs' concrete shapes, as [`concrete_shapes`] finds them.
    ///
    /// # Errors
    /// As [`concrete_shapes`].
    pub fn input_shapes(&self, given: &Shapes) -> Result<Vec<Vec<usize>>, OnnxError> {
        concrete_shapes(&self.inputs, given)
    }
}

/// As [`Model::parse`], of what was decoded.
pub(super) fn model(proto: pb::ModelProto, path: &Path, folder: Option<&Path>) -> Result<Model, OnnxError> {
    let not_onnx = |problem: &str| OnnxError::NotOnnx { path: path.to_path_buf(), problem: problem.into() };
    let graph = proto.graph.ok_or_else(|| not_onnx("it has no graph"))?;
    if proto.opset_import.is_empty() || graph.node.is_empty() && graph.output.is_empty() {
        return Err(not_onnx("it imports no operators and computes nothing"));
    }
    let mut files = Files::new(folder);
    let mut initializers = Vec::with_capacity(graph.initializer.len());
    for proto in graph.initializer {
        initializers.push((proto.name.clone(), tensors::load(proto, &mut files)?));
    }
    let known = |info: &&pb::ValueInfoProto| !initializers.iter().any(|(name, _)| *name == info.name);
    let inputs = graph.input.iter().filter(known).map(Declared::of).collect();
    let pair = |entry: pb::StringStringEntryProto| (entry.key, entry.value);
    Ok(Model {
        inputs,
        outputs: graph.output.iter().map(Declared::of).collect(),
        metadata: proto.metadata_props.into_iter().map(pair).collect(),
        producer: format!("{} {}", proto.producer_name, proto.producer_version).trim().to_string(),
        nodes: graph.node,
        initializers,
        opsets: proto.opset_import.into_iter().map(|o| (o.domain, o.version)).collect(),
    })
}

fn is_noise(operator: &str) -> bool {
    ["RandomNormal", "RandomNormalLike"].contains(&operator)
}

fn unknown_input(inputs: &[Declared], input: &str) -> OnnxError {
    let known: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    OnnxError::UnknownInput { input: input.to_string(), known: known.join(", ") }
}

/// The inputs' concrete shapes: as given, as declared, or by a symbol that another input's shape fixes.
///
/// # Errors
/// If a given shape does not fit, or one stays open.
pub fn concrete_shapes(inputs: &[Declared], given: &Shapes) -> Result<Vec<Vec<usize>>, OnnxError> {
    if let Some(input) = given.keys().find(|name| !inputs.iter().any(|i| i.name == **name)) {
        return Err(unknown_input(inputs, input));
    }
    let mut symbols: HashMap<&str, usize> = HashMap::new();
    for input in inputs {
        let Some(shape) = given.get(&input.name) else { continue };
        let mut fits = shape.len() == input.dims.len();
        for (dim, &size) in input.dims.iter().zip(shape) {
            match dim {
                Dimension::Fixed(fixed) => fits &= *fixed == size,
                // Exports give one name to dimensions that differ: what the caller says counts.
                Dimension::Symbol(name) if !name.is_empty() => _ = symbols.entry(name).or_insert(size),
                Dimension::Symbol(_) => {}
            }
        }
        if !fits {
            let (input, declared) = (input.name.clone(), input.shape());
            return Err(OnnxError::WrongShape { input, given: shape.clone(), declared });
        }
    }
    let concrete = |input: &Declared| {
        if let Some(shape) = given.get(&input.name) {
            return Ok(shape.clone());
        }
        let size = |(axis, dim): (usize, &Dimension)| match dim {
            Dimension::Fixed(size) => Ok(*size),
            Dimension::Symbol(name) => symbols.get(name.as_str()).copied().ok_or_else(|| {
                let symbol = dim.to_string();
                OnnxError::MissingShape { input: input.name.clone(), axis, symbol }
            }),
        };
        input.dims.iter().enumerate().map(size).collect()
    };
    inputs.iter().map(concrete).collect()
}
