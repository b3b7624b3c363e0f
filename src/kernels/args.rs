//! What each kernel is given. All pointers are to memory that the caller owns for the whole call; element counts,
//! strides and row strides are in elements.

use super::simd::F16;
use super::view::{DType, Layout};
use rkyv::{Archive, Deserialize, Serialize};

/// A tensor operand: memory and how it is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The element at index 0 of every dimension.
    pub ptr: *mut u8,
    pub dtype: DType,
    pub layout: Layout,
}

// SAFETY: an operand is an address; who dereferences it answers for the access (every kernel is an unsafe fn).
unsafe impl Send for Operand {}
// SAFETY: as above.
unsafe impl Sync for Operand {}

/// Activations that a GEMM, a convolution or a normalisation applies to its result.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum Activation {
    None,
    Relu,
    Sigmoid,
    Tanh,
    Silu,
    /// Exact, by the error function.
    Gelu,
    GeluTanh,
    Mish,
}

/// One element-wise operation on f32 registers. Truth values are 1.0 and 0.0.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum MapCode {
    // of a
    Copy,
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Relu,
    Sigmoid,
    Silu,
    Gelu,
    GeluTanh,
    Mish,
    Softplus,
    Not,
    IsNan,
    IsInf,
    // of a and b
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    /// Remainder with the sign of the divisor.
    Mod,
    /// Remainder with the sign of the dividend, as C's `fmod`.
    Fmod,
    And,
    Or,
    Xor,
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    // of a, b and c
    /// `a != 0 ? b : c`.
    Where,
    /// `a * b + c`.
    MulAdd,
}

impl MapCode {
    /// Whether the result is a truth value, 1.0 or 0.0.
    pub const fn is_truth(self) -> bool {
        use MapCode::*;
        matches!(
            self,
            Not | IsNan | IsInf | And | Or | Xor | Equal | Less | LessEqual | Greater | GreaterEqual
        )
    }

    /// How many of a step's operands `a`, `b`, `c` the operation reads.
    pub const fn arity(self) -> usize {
        match self {
            MapCode::Where | MapCode::MulAdd => 3,
            code if code as u8 >= MapCode::Add as u8 => 2,
            _ => 1,
        }
    }
}

/// The most registers (inputs, intermediates and the result) of an element-wise program.
pub const MAX_REGISTERS: usize = 16;

/// The most steps of an element-wise program.
pub const MAX_MAP_STEPS: usize = 64;

/// Names the immediate instead of a register.
pub const IMMEDIATE: u8 = 255;

/// A step of an element-wise program. Registers 0..inputs hold the inputs; the last step's `dst` is the result.
/// At most one of `a`, `b`, `c` is [`IMMEDIATE`]. `dst` may equal an operand, but is never an input's register.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[rkyv(derive(Clone, Copy))]
pub struct MapStep {
    pub code: MapCode,
    pub dst: u8,
    pub a: u8,
    pub b: u8,
    pub c: u8,
    pub immediate: f32,
}

/// An element-wise program over broadcast, strided operands. Inputs of type I64 and Bool are converted to f32 on
/// load (Bool to 1.0 and 0.0); an I64 output truncates toward zero, a Bool output is `value != 0`.
#[derive(Clone, Copy, Debug)]
pub struct MapArgs<'a> {
    pub steps: &'a [MapStep],
    /// Same dimensions as the output; broadcast dimensions have stride 0. At most [`MAX_REGISTERS`] - 1.
    pub inputs: &'a [Operand],
    /// May be the very memory of an input with the same layout and type; overlaps no input otherwise.
    /// Dimensions come outermost first in memory order; joint contiguous dimensions are already merged.
    pub output: Operand,
}

/// Where the rows of a GEMM's left matrix come from.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// Row m begins at `ptr + m * stride`.
    Matrix { ptr: *const f32, stride: isize },
    /// Rows are the patches of an NHWC image (see [`Patches`]), tap by tap.
    Patches(Patches),
}

impl Rows {
    /// From a row to the next, within a row of the image.
    pub(super) fn stride(&self) -> isize {
        match self {
            Rows::Matrix { stride, .. } => *stride,
            Rows::Patches(p) => p.pixel.wrapping_mul(p.stride[1] as isize),
        }
    }
}

/// The patches that a convolution kernel sees: output pixel (n, y, x), tap (i, j) reads the `k` channels of input pixel
/// `(n, y*stride[0] + i*dilation[0] - pad[0], x*stride[1] + j*dilation[1] - pad[1])`, or zeros outside of the image.
#[derive(Clone, Copy, Debug)]
pub struct Patches {
    /// Input: image n, row y, column x begins at `ptr + n*image + y*row + x*pixel`; channels have stride 1.
    pub ptr: *const f32,
    pub image: isize,
    pub row: isize,
    pub pixel: isize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width; the GEMM's m counts (n, y, x).
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Padding above and on the left.
    pub pad: [usize; 2],
    /// At least `k` zeros.
    pub zeros: *const f32,
}

/// `C[m, n] = activation(sum over taps, k of A[m, tap, k] * B[tap, k, n] + bias[n] + residual[m, n])`.
#[derive(Clone, Copy, Debug)]
pub struct GemmArgs {
    pub m: usize,
    pub n: usize,
    /// Depth of one tap.
    pub k: usize,
    /// 1 for a matrix, kernel height * width for patches.
    pub taps: usize,
    pub a: Rows,
    /// Packed panels, `[ceil(n / nr)][taps * k][nr]`, zero beyond n; 64-byte aligned. `nr` is the row's `Kernels::nr`.
    pub b: *const f32,
    /// n values, or null.
    pub bias: *const f32,
    /// Rows like C's, or null. May be C itself.
    pub residual: *const f32,
    pub residual_stride: isize,
    pub activation: Activation,
    pub c: *mut f32,
    pub c_stride: isize,
}

/// A product whose right matrix is stored in 16 bits: what [`GemmArgs`] says, with `(A[m, tap, k] * scale[k])` in the place of
/// A and the sum multiplied by `unscale[n]` before anything is added to it.
#[derive(Clone, Copy, Debug)]
pub struct HalfArgs {
    /// `b` is not read. Where kernels compute in fixed point, k is even.
    pub gemm: GemmArgs,
    /// Panels as in [`GemmArgs::b`], `nr` columns wide as the row's `Kernels::half` says, in half precision. Where kernels compute
    /// in fixed point, whole numbers of 16 bits, and each pair of rows column by column: `[k / 2][nr][2]`; with 10,240 times the
    /// magnitudes of any [`FIXED_STRETCH`](super::FIXED_STRETCH) that follow each other in a column, sums stay in 32 bits.
    pub b: *const F16,
    /// k values, or null for 1. Not read by kernels that compute in f32.
    pub scale: *const f32,
    /// n values, or null for 1.
    pub unscale: *const f32,
    /// The depth over which sums stay in half precision, where kernels compute in it. Each addition rounds by half a unit
    /// of the sum so far, so that the error grows with the square root of this.
    pub stretch: usize,
}

/// A 3x3 convolution of stride 1 and dilation 1 by Winograd's method: what the product says ([`GemmArgs`] or [`HalfArgs`]),
/// but its `taps` is [`PLACES`](super::PLACES) and its right matrix holds the transformed weights of these places.
#[derive(Clone, Copy, Debug)]
pub struct WinogradArgs<P> {
    /// `a` are patches.
    pub product: P,
    /// [`winograd_scratch`](super::winograd_scratch) floats, 64-byte aligned.
    pub scratch: *mut f32,
}

/// `Y[.., m, values] = softmax(scale * Q[.., m, depth] K[.., depth, n]) V[.., n, values]`, the softmax along a row, `scale`
/// above 0, n too. The operands have the same leading dimensions; columns of Q and Y have stride 1.
#[derive(Clone, Copy, Debug)]
pub struct AttentionArgs {
    pub scale: f32,
    /// Whether it may be computed in 16 bits, where the CPU does.
    pub half: bool,
    pub q: Operand,
    pub k: Operand,
    pub v: Operand,
    pub y: Operand,
    /// [`attention_scratch`](super::attention_scratch) floats, 64-byte aligned.
    pub scratch: *mut f32,
}

/// Packs `B[k, n]` (element at `ptr + k*strides[0] + n*strides[1]`) into the panels of [`GemmArgs::b`].
#[derive(Clone, Copy, Debug)]
pub struct PackArgs {
    pub ptr: *const f32,
    pub strides: [isize; 2],
    pub k: usize,
    pub n: usize,
    pub packed: *mut f32,
}

/// Depthwise convolution, one filter a channel: `C[m, c] = activation(sum over taps of A[m, tap, c]*B[tap, c] + bias[c])`.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseArgs {
    /// Number of output pixels (n, y, x).
    pub m: usize,
    pub channels: usize,
    pub a: Patches,
    /// `[taps][channels]`.
    pub b: *const f32,
    pub bias: *const f32,
    pub activation: Activation,
    pub c: *mut f32,
    pub c_stride: isize,
}

/// Group normalisation of `x[n, s, c]`: statistics over all s and the channels of a group, then
/// `activation((x - mean) * rsqrt(var + epsilon) * gamma[c] + beta[c])`. Groups = channels is instance, s = 1 and
/// groups = 1 layer normalisation. Without `center` it is RMS normalisation: `x * rsqrt(mean(x^2) + epsilon) * gamma`.
#[derive(Clone, Copy, Debug)]
pub struct NormArgs {
    pub n: usize,
    pub s: usize,
    pub c: usize,
    pub groups: usize,
    pub center: bool,
    pub epsilon: f32,
    /// Row (n, s) begins at `x + n*x_image + s*x_row`; channels have stride 1.
    pub x: *const f32,
    pub x_image: isize,
    pub x_row: isize,
    /// c values each, or null for 1 and 0.
    pub gamma: *const f32,
    pub beta: *const f32,
    pub activation: Activation,
    /// Whether the gate of [`Activation::Silu`] may have fewer bits than f32, where that is faster.
    pub half: bool,
    /// As x; may be x itself.
    pub y: *mut f32,
    pub y_image: isize,
    pub y_row: isize,
    /// [`norm_scratch`](super::norm_scratch) floats.
    pub scratch: *mut f32,
}

/// Softmax along the rows of a matrix: `y[r, i] = exp(x[r, i] * scale - max) / sum`. A row of -inf gives NaN, as in
/// ONNX Runtime and PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxArgs {
    pub rows: usize,
    pub n: usize,
    pub scale: f32,
    pub x: *const f32,
    pub x_stride: isize,
    /// May be x itself.
    pub y: *mut f32,
    pub y_stride: isize,
}

/// Resampling along one axis of `x[outer, n_in, inner]` by a table: `y[o, i, j] = sum over taps t of
/// weights[i, t] * x[o, indices[i, t], j]`. One kernel for every mode of Resize, axis by axis.
#[derive(Clone, Copy, Debug)]
pub struct ResampleArgs {
    pub outer: usize,
    pub n_in: usize,
    pub n_out: usize,
    pub inner: usize,
    pub taps: usize,
    /// `[n_out][taps]`, each below n_in.
    pub indices: *const i64,
    /// `[n_out][taps]`.
    pub weights: *const f32,
    pub x: *const f32,
    pub y: *mut f32,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum PoolKind {
    Max,
    /// Divides by the number of taps inside of the image.
    Average,
    /// Divides by the number of taps inside of the padded image.
    AveragePadded,
}

/// Pooling over NHWC. For [`PoolKind::AveragePadded`] `padded` is the height and width of the padded image.
#[derive(Clone, Copy, Debug)]
pub struct PoolArgs {
    pub kind: PoolKind,
    /// Number of output pixels (n, y, x).
    pub m: usize,
    pub channels: usize,
    /// `zeros` is not used.
    pub a: Patches,
    /// Padding below and on the right.
    pub pad_end: [usize; 2],
    pub c: *mut f32,
    pub c_stride: isize,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSumExp,
    /// The index of the first largest / smallest element, or of the last one; the output is I64.
    ArgMax,
    ArgMin,
    ArgMaxLast,
    ArgMinLast,
}

/// Reduction over the trailing dimensions of `input` beyond the rank of `output`.
#[derive(Clone, Copy, Debug)]
pub struct ReduceArgs {
    pub kind: ReduceKind,
    /// f32, or I64 for Sum, Prod, Max, Min and the Arg kinds. Its first dimensions are the output's.
    pub input: Operand,
    pub output: Operand,
}

/// Strided copy: `output[i] = input[i]`, dimensions and types equal. Strides may be 0 (input only) or negative.
/// It does Transpose, Slice, Concat, Expand, Tile, Pad's reflections, depth-to-space and layout changes.
/// No overlap.
#[derive(Clone, Copy, Debug)]
pub struct CopyArgs {
    pub input: Operand,
    pub output: Operand,
}

/// Gather along one axis: `output[o.., i.., r..] = data[o.., indices[i..], r..]`. `data`'s dimensions are
/// [o.., n, r..] with `axis` counting o; the output's layout has rank |o| + |i| + |r|. An index below zero counts from
/// the end; one out of range is clamped, so that no input can make the kernel read elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct GatherArgs {
    pub data: Operand,
    pub indices: Operand,
    pub output: Operand,
    pub axis: usize,
}

/// Cumulative sum along `axis`, f32 or I64.
#[derive(Clone, Copy, Debug)]
pub struct CumSumArgs {
    pub input: Operand,
    pub output: Operand,
    pub axis: usize,
    pub exclusive: bool,
    pub reverse: bool,
}

/// An integer or truth-value operation over broadcast operands (same dimensions as the output, I64 or Bool; Bool reads
/// as 0 and 1; a Bool output is `value != 0`). Unused operands are the first one again.
#[derive(Clone, Copy, Debug)]
pub struct IntArgs {
    pub code: IntCode,
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub output: Operand,
}

/// Integer and truth-value operations, element by element, unfused: they are rare at run time and never large.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum IntCode {
    Copy,
    Neg,
    Abs,
    Sign,
    Not,
    Add,
    Sub,
    Mul,
    /// Rounds toward zero; a zero divisor gives 0.
    Div,
    Min,
    Max,
    Pow,
    Mod,
    Fmod,
    And,
    Or,
    Xor,
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Where,
}
