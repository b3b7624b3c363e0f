//! The canonical operators, one file each: attributes, shape rule, scalar reference, lowering, and the ONNX operators
//! that are imported as it. To add one, write the file and a row in the two tables below.

mod attention;
mod call;
mod concat;
mod conv;
mod cumsum;
mod einsum;
mod elementwise;
mod epilogue;
mod gather;
mod host;
mod integer;
mod map;
mod matmul;
mod norm;
mod pad;
mod pool;
mod reduce;
mod resample;
mod reshape;
mod shape;
mod slice;
mod softmax;
mod transpose;

pub use attention::Attention;
pub use call::{Attribute, Call};
pub use concat::Concat;
pub use conv::Conv;
pub use cumsum::CumSum;
pub(crate) use elementwise::run_time_type;
pub use gather::Gather;
pub use host::{Host, HostOperator};
pub use integer::Integer;
pub use map::Map;
pub use matmul::MatMul;
pub use norm::{Norm, Over};
pub use pad::Pad;
pub use pool::Pool;
pub use reduce::Reduce;
pub use resample::Resample;
pub use reshape::{Expand, Reshape};
pub use slice::Slice;
pub use softmax::Softmax;
pub use transpose::Transpose;

use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::plan::Lower;
use std::string::String;
use std::vec::Vec;

/// What every canonical operator answers.
pub trait Operator {
    /// Type and dimensions of the outputs.
    ///
    /// # Errors
    /// If the operator does not take inputs of these types and dimensions.
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError>;

    /// The outputs by the plainest code there is; `shapes` has accepted the inputs.
    ///
    /// # Errors
    /// If the inputs' values are not allowed.
    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError>;

    /// Adds the instructions that compute the node to a plan.
    ///
    /// # Errors
    /// If no kernel takes these operands.
    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError>;

    /// Floating point operations, counting a multiply-add as two.
    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        outputs.iter().map(|f| f.len() as u64).sum()
    }
}

macro_rules! canonical {
    ($($variant:ident),* $(,)?) => {
        /// A canonical operator.
        #[derive(Clone, Debug)]
        pub enum Op { $($variant($variant)),* }

        impl Op {
            fn operator(&self) -> &dyn Operator {
                match self { $(Op::$variant(op) => op),* }
            }

            /// The operator's name, for people.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$variant(_) => stringify!($variant)),* }
            }
        }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Op { Op::$variant(op) }
        })*
    };
}

canonical! {
    Attention, Concat, Conv, CumSum, Expand, Gather, Host, Integer, Map, MatMul, Norm, Pad, Pool, Reduce, Resample, Reshape, Slice,
    Softmax, Transpose,
}

impl Operator for Op {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        self.operator().shapes(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        self.operator().reference(inputs)
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        self.operator().lower(lower, node)
    }

    fn flops(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        self.operator().flops(inputs, outputs)
    }
}

/// Adds what an ONNX operator computes to a graph and returns its outputs.
pub type Import = fn(&mut Builder, &Call) -> Result<Vec<ValueId>, OpError>;

/// The function that imports an ONNX operator; `None` if there is no native one.
pub fn importer(operator: &str) -> Option<Import> {
    IMPORTERS.iter().find(|(names, _)| names.contains(&operator)).map(|row| row.1)
}

/// The ONNX operators with native kernels, by the file that imports them.
const IMPORTERS: &[(&[&str], Import)] = &[
    (elementwise::PLAIN_NAMES, elementwise::import_plain),
    (&["Mean", "Sum"], elementwise::import_variadic),
    (&["Clip"], elementwise::import_clip),
    (&["Gelu"], elementwise::import_gelu),
    (&["LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu"], elementwise::import_rectifier),
    (&["HardSigmoid", "HardSwish", "Softsign", "Swish", "QuickGelu"], elementwise::import_gate),
    (&["Mod", "IsInf", "Round"], elementwise::import_special),
    (&["Cast", "CastLike"], elementwise::import_cast),
    (&["Where"], elementwise::import_where),
    (&["Identity", "Dropout"], shape::import_identity),
    (&["Shape", "Size"], shape::import_shape),
    (&["Constant", "ConstantOfShape", "Range", "EyeLike"], shape::import_constant),
    (&["OneHot"], shape::import_one_hot),
    (&["Trilu"], shape::import_trilu),
    (&["Reshape", "Flatten", "Squeeze", "Unsqueeze"], reshape::import_reshape),
    (&["Expand", "Tile"], reshape::import_expand),
    (&["Transpose"], transpose::import_transpose),
    (&["DepthToSpace", "SpaceToDepth"], transpose::import_depth_space),
    (&["Slice", "Split"], slice::import),
    (&["Concat"], concat::import),
    (&["Pad"], pad::import),
    (&["Gather", "GatherElements", "GatherND"], gather::import),
    (&["Conv", "ConvTranspose"], conv::import),
    (&["Gemm", "MatMul"], matmul::import),
    (&["Einsum"], einsum::import),
    (&["Attention"], attention::import),
    (&["Softmax", "LogSoftmax"], softmax::import),
    (&["GroupNormalization", "InstanceNormalization"], norm::import_grouped),
    (&["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"], norm::import_layer),
    (&["BatchNormalization", "LpNormalization"], norm::import_scaling),
    (reduce::NAMES, reduce::import),
    (&["ArgMax", "ArgMin"], reduce::import_arg),
    (&["Resize", "Upsample"], resample::import),
    (&["MaxPool", "AveragePool"], pool::import),
    (&["GlobalAveragePool", "GlobalMaxPool"], pool::import_global),
    (&["CumSum"], cumsum::import),
];

/// Why an operator does not take its inputs or attributes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    message: String,
    /// The use is right, but there is no native kernel for it: the host library may have one.
    pub unsupported: bool,
}

impl OpError {
    /// The operator is used wrongly.
    pub fn new(message: impl Into<String>) -> OpError {
        OpError { message: message.into(), unsupported: false }
    }

    /// The operator is used in a way that has no native kernel.
    pub fn unsupported(message: impl Into<String>) -> OpError {
        OpError { message: message.into(), unsupported: true }
    }
}

/// An [`OpError`] from a format string.
macro_rules! problem {
    ($($t:tt)*) => { $crate::ops::OpError::new(std::format!($($t)*)) };
}
pub(crate) use problem;

/// An [`OpError`] for what has no native kernel, from a format string.
macro_rules! unsupported {
    ($($t:tt)*) => { $crate::ops::OpError::unsupported(std::format!($($t)*)) };
}
pub(crate) use unsupported;

/// The dimensions of an element-wise result, by ONNX's (NumPy's) broadcasting rule.
pub(crate) fn broadcast_shapes<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Result<Vec<usize>, OpError> {
    let mut result: Vec<usize> = Vec::new();
    for shape in shapes {
        while result.len() < shape.len() {
            result.insert(0, 1);
        }
        let lead = result.len() - shape.len();
        for (have, &new) in result[lead..].iter_mut().zip(shape) {
            match (*have, new) {
                (h, n) if h == n || n == 1 => {}
                (1, n) => *have = n,
                _ => return Err(problem!("shapes {result:?} and {shape:?} do not broadcast")),
            }
        }
    }
    Ok(result)
}

/// The most elements of a value. Larger ones have no view, and a hostile file must not fill the memory.
pub(crate) const MAX_ELEMENTS: usize = 1 << 31;

/// The most elements of a constant that is computed rather than stored in the file.
pub(crate) const MAX_COMPUTED: usize = 1 << 27;

/// The number of elements of a shape, if it is at most `most`.
pub(crate) fn elements(shape: &[usize], most: usize) -> Result<usize, OpError> {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    count.filter(|&count| count <= most).ok_or_else(|| problem!("a tensor of shape {shape:?} is too large"))
}

/// An ONNX axis, which may count from the end.
pub(crate) fn normal_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let normal = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(normal) {
        Ok(a) if a < rank => Ok(a),
        _ => Err(problem!("axis {axis} is not one of a tensor with {rank} dimensions")),
    }
}
