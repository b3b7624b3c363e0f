//! An ONNX node as the importers see it: attributes and inputs, with typed access.

use super::{OpError, normal_axis, problem, unsupported};
use crate::graph::{Builder, Tensor, ValueId};
use std::collections::HashMap;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The value of an ONNX attribute. Subgraphs are not attributes here: the importer resolves control flow itself.
#[derive(Clone, Debug)]
pub enum Attribute {
    Int(i64),
    Float(f32),
    String(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Tensor(Tensor),
}

/// A call of an ONNX operator.
#[derive(Clone, Debug)]
pub struct Call {
    pub operator: String,
    /// Version of the operator set that the model imports for the operator's domain.
    pub opset: i64,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Number of outputs that the model names.
    pub outputs: usize,
    pub attributes: HashMap<String, Attribute>,
}

impl Call {
    /// Input `i`, which the operator needs.
    pub fn input(&self, i: usize) -> Result<ValueId, OpError> {
        self.optional(i).ok_or_else(|| problem!("{} needs an input {i}", self.operator))
    }

    pub fn optional(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// All inputs that are there.
    pub fn present(&self) -> Vec<ValueId> {
        self.inputs.iter().copied().flatten().collect()
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64, OpError> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(i)) => Ok(*i),
            Some(_) => Err(self.wrong_type(name, "an integer")),
        }
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, OpError> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32, OpError> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(f)) => Ok(*f),
            Some(_) => Err(self.wrong_type(name, "a float")),
        }
    }

    pub fn string<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, OpError> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::String(s)) => Ok(s),
            Some(_) => Err(self.wrong_type(name, "a string")),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, OpError> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v.clone())),
            Some(Attribute::Floats(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(_) => Err(self.wrong_type(name, "a list of integers")),
        }
    }

    /// A list of sizes with one entry for each of `count` axes.
    pub fn sizes(&self, name: &str, count: usize, default: usize) -> Result<Vec<usize>, OpError> {
        let Some(list) = self.ints(name)? else { return Ok(std::vec![default; count]) };
        let sizes: Option<Vec<usize>> = list.iter().map(|&i| usize::try_from(i).ok()).collect();
        match sizes {
            Some(sizes) if sizes.len() == count => Ok(sizes),
            _ => Err(problem!("attribute {name} is {list:?}, but {count} sizes are needed")),
        }
    }

    /// What the model gives as a constant input `i`.
    ///
    /// # Errors
    /// If the input is computed at run time, where a kernel needs it beforehand.
    pub fn known(&self, builder: &Builder, i: usize) -> Result<Option<Arc<Tensor>>, OpError> {
        let Some(id) = self.optional(i) else { return Ok(None) };
        match builder.known(id) {
            Some(tensor) => Ok(Some(tensor.clone())),
            None => Err(unsupported!(
                "input {i} of {} depends on run-time data; it must be a constant",
                self.operator
            )),
        }
    }

    /// Integers that older operator sets give as an attribute and newer ones as input `i`.
    pub fn ints_at(&self, builder: &Builder, i: usize, name: &str) -> Result<Option<Vec<i64>>, OpError> {
        match self.known(builder, i)? {
            Some(tensor) => Ok(Some(tensor.to_i64())),
            None => self.ints(name),
        }
    }

    /// As [`Self::ints_at`], for axes of a tensor of `rank` dimensions.
    pub fn axes_at(
        &self,
        builder: &Builder,
        i: usize,
        name: &str,
        rank: usize,
    ) -> Result<Option<Vec<usize>>, OpError> {
        let Some(axes) = self.ints_at(builder, i, name)? else { return Ok(None) };
        let mut axes = axes.iter().map(|&a| normal_axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        if axes.windows(2).any(|w| w[0] == w[1]) {
            return Err(problem!("axes {axes:?} name an axis twice"));
        }
        Ok(Some(axes))
    }

    fn wrong_type(&self, name: &str, expected: &str) -> OpError {
        problem!("attribute {name} of {} must be {expected}", self.operator)
    }
}
