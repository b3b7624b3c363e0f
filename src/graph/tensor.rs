//! Tensors known at compile time: weights, folded shapes, and what the scalar references compute on.

use super::Fact;
use crate::kernels::DType;
use crate::ops::OpError;
use std::format;
use std::vec::Vec;

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Data {
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::I64(_) => DType::I64,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// The elements at the given positions; positions beyond the end give zero.
    pub fn select(&self, positions: impl Iterator<Item = usize>) -> Data {
        match self {
            Data::F32(v) => Data::F32(positions.map(|i| v.get(i).copied().unwrap_or_default()).collect()),
            Data::I64(v) => Data::I64(positions.map(|i| v.get(i).copied().unwrap_or_default()).collect()),
            Data::Bool(v) => Data::Bool(positions.map(|i| v.get(i).copied().unwrap_or_default()).collect()),
        }
    }

    /// Little-endian bytes, as a plan stores them.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
        }
    }
}

/// A dense tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// # Errors
    /// If the element count is not the product of the dimensions.
    pub fn new(shape: &[usize], data: Data) -> Result<Tensor, OpError> {
        let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if expected != Some(data.len()) {
            return Err(OpError::new(format!("{} elements do not fill the shape {shape:?}", data.len())));
        }
        Ok(Tensor { shape: shape.to_vec(), data })
    }

    pub fn f32(shape: &[usize], data: Vec<f32>) -> Result<Tensor, OpError> {
        Tensor::new(shape, Data::F32(data))
    }

    pub fn scalar(x: f32) -> Tensor {
        Tensor { shape: Vec::new(), data: Data::F32(std::vec![x]) }
    }

    /// A vector of integers.
    pub fn integers(data: Vec<i64>) -> Tensor {
        Tensor { shape: std::vec![data.len()], data: Data::I64(data) }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype(), &self.shape)
    }

    /// The f32 elements.
    ///
    /// # Errors
    /// If the tensor is of another type.
    pub fn as_f32(&self) -> Result<&[f32], OpError> {
        match &self.data {
            Data::F32(v) => Ok(v),
            other => Err(OpError::new(format!("a tensor of f32 is needed, but it is {}", other.dtype()))),
        }
    }

    /// The integer elements.
    ///
    /// # Errors
    /// If the tensor is of another type.
    pub fn as_i64(&self) -> Result<&[i64], OpError> {
        match &self.data {
            Data::I64(v) => Ok(v),
            other => Err(OpError::new(format!("a tensor of i64 is needed, but it is {}", other.dtype()))),
        }
    }

    /// The elements as f32, truth values as 1 and 0.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            Data::F32(v) => v.clone(),
            Data::I64(v) => v.iter().map(|&x| x as f32).collect(),
            Data::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
        }
    }

    /// The elements as i64, fractions cut, truth values as 1 and 0.
    pub fn to_i64(&self) -> Vec<i64> {
        match &self.data {
            Data::F32(v) => v.iter().map(|&x| x as i64).collect(),
            Data::I64(v) => v.clone(),
            Data::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
        }
    }

    /// The same elements under other dimensions.
    ///
    /// # Errors
    /// If the element counts differ.
    pub fn reshaped(self, shape: &[usize]) -> Result<Tensor, OpError> {
        Tensor::new(shape, self.data)
    }

    /// The tensor seen through other dimensions and strides from an offset: transposition, slicing, broadcasting.
    pub fn strided(&self, shape: &[usize], strides: &[isize], offset: isize) -> Tensor {
        let data = self.data.select(strided_offsets(shape, strides, offset));
        Tensor { shape: shape.to_vec(), data }
    }

    /// The tensor broadcast to `shape` by ONNX's (NumPy's) rule; the caller has checked that it can be.
    pub fn broadcast(&self, shape: &[usize]) -> Tensor {
        let lead = shape.len() - self.rank();
        let own = contiguous_strides(&self.shape);
        let strides: Vec<isize> = (0..shape.len())
            .map(|i| if i < lead || self.shape[i - lead] == 1 { 0 } else { own[i - lead] })
            .collect();
        self.strided(shape, &strides, 0)
    }
}

/// Row-major strides.
pub fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = std::vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1) as isize;
    }
    strides
}

/// The offsets of a strided tensor's elements, in row-major order of its indices.
pub fn strided_offsets(shape: &[usize], strides: &[isize], offset: isize) -> impl Iterator<Item = usize> {
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    let count: usize = shape.iter().product();
    let mut index = std::vec![0usize; shape.len()];
    let mut at = offset;
    (0..count).map(move |_| {
        let here = at as usize;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis] as isize;
            index[axis] = 0;
        }
        here
    })
}
