//! From an ONNX file to a graph with concrete shapes.
//!
//! tract-onnx reads the protocol buffers and is the library of operators for what has no native kernel. The walk over
//! the nodes is our own: with concrete input shapes, one pass forward knows every shape and folds every shape
//! computation as it meets it, whatever `value_info` and the declared output shapes say, and norms, attention and
//! resizing stay whole. That takes milliseconds where a general type inference takes seconds.
#![forbid(unsafe_code)]

mod cut;
mod import;
mod load;
mod order;
mod tensors;
mod tract;

pub use cut::{Cut, cut};
pub use load::{Declared, Dimension, Header, Model, concrete_shapes, external_files, interface};

use crate::ops::OpError;
use std::collections::HashMap;
use std::format;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

/// Concrete shapes for inputs, by name. What is not named must be static in the file, or follow from a symbol that a
/// named input fixes.
pub type Shapes = HashMap<String, Vec<usize>>;

/// Why a file does not become a graph. Every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("{}: {source}; check the path{}", path.display(), or_fetch(path))]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: not an ONNX file, or cut off ({problem}); export or download it again", path.display())]
    NotOnnx { path: PathBuf, problem: String },
    #[error("tensor {tensor}: {problem}; export the model again")]
    Tensor { tensor: String, problem: String },
    #[error(
        "tensor {tensor}: external data at {location:?} is not inside of the model's folder; move it beside the model"
    )]
    OutsideData { tensor: String, location: String },
    #[error("tensor {tensor}: external data {}: {problem}; download the model's data file again", path.display())]
    ExternalData { tensor: String, path: PathBuf, problem: String },
    #[error("input {input} has no fixed size for dimension {axis} ({symbol}); give the input's shape")]
    MissingShape { input: String, axis: usize, symbol: String },
    #[error("input {input} has shape {given:?}, but the network declares {declared}; give a shape that fits")]
    WrongShape { input: String, given: Vec<usize>, declared: String },
    #[error("the network has no input {input}; its inputs are {known}")]
    UnknownInput { input: String, known: String },
    #[error("operator {operator} (domain {domain:?}, node {node}) is not known; export the model without it")]
    UnknownOperator { operator: String, domain: String, node: String },
    #[error("node {node} ({operator}): {problem}; export the model without this use of it")]
    Node { node: String, operator: String, problem: OpError },
    #[error(
        "node {node} ({operator}): there is no native kernel for it ({native}), and the host library: {host}"
    )]
    Host { node: String, operator: String, native: String, host: String },
    #[error("node {node} uses {value}, which nothing computes before it; the file is damaged")]
    Undefined { node: String, value: String },
    #[error("output {output} is never computed; the file is damaged")]
    NoOutput { output: String },
}

/// What else there is to do, where a file's folder has a script that fetches it.
fn or_fetch(file: &Path) -> String {
    let script = file.with_file_name("fetch.sh");
    if script.is_file() { format!(", or fetch the file with {}", script.display()) } else { String::new() }
}
