//! ONNX tensors, inline or in external files, as tensors of the three run-time types.

use super::OnnxError;
use crate::graph::{Data, Tensor};
use crate::mapping::Bytes;
use half::{bf16, f16};
use std::collections::HashMap;
use std::format;
use std::path::{Component, Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;
use tract_onnx::pb::{TensorProto, tensor_proto::DataLocation};

/// The external data files of a model, each mapped once.
pub struct Files {
    folder: Option<PathBuf>,
    open: HashMap<PathBuf, Bytes>,
}

impl Files {
    pub fn new(folder: Option<&Path>) -> Files {
        Files { folder: folder.map(Path::to_path_buf), open: HashMap::new() }
    }

    /// The bytes of a tensor that lies outside of the model file.
    fn bytes(&mut self, proto: &TensorProto) -> Result<&[u8], OnnxError> {
        let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let tensor = || proto.name.clone();
        let location = entry("location").unwrap_or_default();
        let path = self
            .resolve(location)
            .ok_or_else(|| OnnxError::OutsideData { tensor: tensor(), location: location.to_string() })?;
        let broken =
            |problem: String| OnnxError::ExternalData { tensor: tensor(), path: path.clone(), problem };
        if !self.open.contains_key(&path) {
            let map = crate::mapping::map(&path).map_err(|e| broken(e.to_string()))?;
            self.open.insert(path.clone(), map);
        }
        let number = |key: &str| match entry(key) {
            Some(text) => {
                text.parse().map(Some).map_err(|_| broken(format!("{key} is {text:?}, not a number")))
            }
            None => Ok(None),
        };
        let all: &[u8] = self.open.get(&path).map_or(&[], |map| map);
        let offset: usize = number("offset")?.unwrap_or(0);
        let length: usize = number("length")?.unwrap_or(all.len().saturating_sub(offset));
        let end = offset.checked_add(length);
        let part = end.and_then(|end| all.get(offset..end));
        part.ok_or_else(|| broken(format!("{length} bytes at {offset} are beyond its {} bytes", all.len())))
    }

    /// The path of external data: relative, without `..`, and after following links still inside of the folder.
    fn resolve(&self, location: &str) -> Option<PathBuf> {
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let folder = self.folder.as_ref().filter(|_| plain && !location.is_empty())?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let path = folder.join(relative);
        match (path.canonicalize(), folder.canonicalize()) {
            (Ok(real), Ok(root)) => real.starts_with(root).then_some(real),
            // What does not exist can not be followed: opening it says so.
            _ => Some(path),
        }
    }
}

/// Reads a tensor.
pub fn load(mut proto: TensorProto, files: &mut Files) -> Result<Tensor, OnnxError> {
    let broken = |name: &str, problem: String| OnnxError::Tensor { tensor: name.to_string(), problem };
    let shape: Option<Vec<usize>> = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| broken(&proto.name, format!("its shape is {:?}", proto.dims)))?;
    let external = proto.data_location == Some(DataLocation::External as i32);
    let data = if external {
        let onnx_type = proto.data_type;
        decode(onnx_type, files.bytes(&proto)?).map_err(|p| broken(&proto.name, p))?
    } else if !proto.raw_data.is_empty() {
        let raw = std::mem::take(&mut proto.raw_data);
        decode(proto.data_type, &raw).map_err(|p| broken(&proto.name, p))?
    } else {
        typed(&mut proto).map_err(|p| broken(&proto.name, p))?
    };
    Tensor::new(&shape, data).map_err(|e| broken(&proto.name, e.to_string()))
}

/// Little-endian elements of an ONNX type.
fn decode(onnx_type: i32, bytes: &[u8]) -> Result<Data, String> {
    macro_rules! elements {
        ($t:ty, $wrap:path, $convert:expr) => {{
            let (chunks, rest) = bytes.as_chunks::<{ size_of::<$t>() }>();
            if !rest.is_empty() {
                return Err(format!("{} bytes are no whole number of elements", bytes.len()));
            }
            Ok($wrap(chunks.iter().map(|c| $convert(<$t>::from_le_bytes(*c))).collect()))
        }};
    }
    match onnx_type {
        1 => elements!(f32, Data::F32, |x| x),
        10 => elements!(f16, Data::F32, f16::to_f32),
        16 => elements!(bf16, Data::F32, bf16::to_f32),
        11 => elements!(f64, Data::F32, |x| x as f32),
        7 => elements!(i64, Data::I64, |x| x),
        6 => elements!(i32, Data::I64, i64::from),
        5 => elements!(i16, Data::I64, i64::from),
        3 => elements!(i8, Data::I64, i64::from),
        2 => elements!(u8, Data::I64, i64::from),
        4 => elements!(u16, Data::I64, i64::from),
        12 => elements!(u32, Data::I64, i64::from),
        13 => elements!(u64, Data::I64, |x: u64| x as i64),
        9 => Ok(Data::Bool(bytes.iter().map(|&b| b != 0).collect())),
        other => Err(format!("element type {other} (TensorProto.DataType) is not supported")),
    }
}

/// Elements in the fields that protocol buffers type themselves.
fn typed(proto: &mut TensorProto) -> Result<Data, String> {
    let narrow = std::mem::take(&mut proto.int32_data);
    match proto.data_type {
        1 => Ok(Data::F32(std::mem::take(&mut proto.float_data))),
        11 => Ok(Data::F32(proto.double_data.iter().map(|&x| x as f32).collect())),
        7 => Ok(Data::I64(std::mem::take(&mut proto.int64_data))),
        12 | 13 => Ok(Data::I64(proto.uint64_data.iter().map(|&x| x as i64).collect())),
        2..=6 => Ok(Data::I64(narrow.into_iter().map(i64::from).collect())),
        9 => Ok(Data::Bool(narrow.into_iter().map(|x| x != 0).collect())),
        10 => Ok(Data::F32(narrow.into_iter().map(|x| f16::from_bits(x as u16).to_f32()).collect())),
        16 => Ok(Data::F32(narrow.into_iter().map(|x| bf16::from_bits(x as u16).to_f32()).collect())),
        other => Err(format!("element type {other} (TensorProto.DataType) is not supported")),
    }
}
