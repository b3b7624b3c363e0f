//! What is known of a tensor beside its elements.

use crate::kernels::DType;
use std::string::String;
use std::vec::Vec;

/// Element type and concrete dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Fact {
    pub fn new(dtype: DType, shape: &[usize]) -> Fact {
        Fact { dtype, shape: shape.to_vec() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(|d| std::format!("{d}")).collect();
        write!(f, "{}[{}]", self.dtype, dims.join(","))
    }
}
