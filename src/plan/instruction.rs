//! What a plan consists of. All of it is plain data of fixed size, archived by rkyv.

use crate::kernels::{
    Activation, Arithmetic, DType, Format, IntCode, Isa, Kernels, Layout, MapStep, PoolKind, ReduceKind,
};
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Serialize};

/// Index into a plan's views.
pub type ViewId = u32;

/// Which memory a view is of.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Working memory, read and written.
    Arena,
    /// Constants, read only.
    Weights,
    /// What a stage has computed for those after it: the slot of the present times, of the present condition, or of both.
    Slot(Kept),
}

/// When instructions have to run again. A plan has them in this order.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// For other times.
    Time,
    /// For another condition.
    Condition,
    /// For other times or another condition.
    TimeCondition,
    /// For another state: in every evaluation.
    State,
    /// As `State`, and for another condition in the same state. Only in plans of networks that are guided by two
    /// evaluations.
    StateCondition,
}

impl Stage {
    pub const ALL: [Stage; 5] =
        [Stage::Time, Stage::Condition, Stage::TimeCondition, Stage::State, Stage::StateCondition];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Time => "time",
            Stage::Condition => "condition",
            Stage::TimeCondition => "time+condition",
            Stage::State => "state",
            Stage::StateCondition => "state+condition",
        }
    }

    /// Where the stage's results are kept; `None` for those that are computed in every evaluation.
    pub const fn kept(self) -> Option<Kept> {
        match self {
            Stage::Time => Some(Kept::Time),
            Stage::Condition => Some(Kept::Condition),
            Stage::TimeCondition => Some(Kept::TimeCondition),
            Stage::State | Stage::StateCondition => None,
        }
    }
}

/// What a stage is made of.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub nodes: u32,
    /// Constant elements that its nodes read, as the network has them.
    pub parameters: u64,
    /// Floating point operations, a multiply-add counted as two.
    pub flop: u64,
}

/// Slots of times that were computed when the plan was made, in the weights, one after the other.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baked {
    pub offset: u64,
    pub times: u32,
}

/// The stages whose results are kept from one evaluation to another.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    Time,
    Condition,
    TimeCondition,
}

impl Kept {
    pub const ALL: [Kept; 3] = [Kept::Time, Kept::Condition, Kept::TimeCondition];
}

/// A tensor somewhere in memory.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub space: Space,
    pub dtype: DType,
    /// Byte offset of the element at index 0 of every dimension.
    pub offset: u64,
    pub layout: Layout,
}

impl View {
    /// The room that a time input takes in the slot that is for it, in bytes; `None` if it is none of any use.
    pub(crate) fn key_bytes(&self) -> Option<usize> {
        let bytes = self.layout.len().checked_mul(self.dtype.size())?;
        bytes.checked_next_multiple_of(size_of::<u64>()).filter(|&bytes| bytes <= MAX_KEY)
    }
}

/// The most bytes of a time input.
const MAX_KEY: usize = 1 << 20;

/// A range of one of the plan's tables.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn range(self) -> core::ops::Range<usize> {
        let start = self.start as usize;
        start..start.saturating_add(self.len as usize)
    }
}

/// An input or output of the network.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Port {
    /// Bytes of the name, in the plan's names.
    pub name: Span,
    /// Dense and in row-major order.
    pub view: ViewId,
    /// Of an input: the first stage that has to run when it changes. Of an output: the state.
    pub stage: Stage,
}

/// How a window slides over a plane: height, width.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub kernel: [u32; 2],
    pub stride: [u32; 2],
    pub dilation: [u32; 2],
    /// Above and on the left.
    pub pad: [u32; 2],
}

/// Constants in the panels that kernels read.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panels {
    /// Bytes of the weights: f32, or with scales 16 bits each.
    pub offset: u64,
    pub bytes: u64,
    pub scales: Option<Scales>,
}

/// What columns are multiplied by around a product whose weights have 16 bits. In half precision these are powers of two.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scales {
    /// `f32[k]` that columns of the left matrix (channels of the image) are multiplied by, where kernels compute in 16 bits.
    pub input: Option<ViewId>,
    /// `f32[n]` that columns of the result are multiplied by.
    pub output: ViewId,
    /// The depth over which sums stay in half precision.
    pub stretch: u32,
}

/// How weights are packed: what the kernels that a plan is made for expect.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Columns of an f32 panel.
    pub nr: u32,
    /// Columns of a panel of 16 bits.
    pub half_nr: u32,
    /// What the kernels compute in with weights of 16 bits.
    pub arithmetic: Arithmetic,
}

impl Packing {
    /// Of an instruction set, whether or not this computer has it.
    pub const fn of_isa(isa: Isa) -> Packing {
        let (nr, half_nr, arithmetic) = match isa {
            Isa::Portable | Isa::ArmNeon | Isa::WasmSimd128 => (8, 8, Arithmetic::Single),
            Isa::ArmFp16 => (8, 16, Arithmetic::Half),
            Isa::X86Avx2 => (16, 16, Arithmetic::Fixed),
            Isa::X86Avx512 => (32, 32, Arithmetic::Single),
            Isa::X86Avx512Fp16 => (32, 64, Arithmetic::Half),
            Isa::X86Avx512Vnni => (32, 32, Arithmetic::Fixed),
        };
        Packing { nr, half_nr, arithmetic }
    }

    pub fn of(kernels: &Kernels) -> Packing {
        let half = &kernels.half;
        Packing { nr: kernels.nr as u32, half_nr: half.nr as u32, arithmetic: half.arithmetic }
    }

    /// Floats of an f32 matrix of `k` rows and `n` columns that is packed at run time.
    pub fn packed_len(self, k: usize, n: usize) -> usize {
        n.div_ceil(self.nr as usize) * self.nr as usize * k
    }

    /// Columns of a panel.
    pub fn columns(self, half: bool) -> usize {
        (if half { self.half_nr } else { self.nr }) as usize
    }

    /// Of Winograd's method.
    pub fn format(self, half: bool) -> Format {
        let arithmetic = if half { self.arithmetic } else { Arithmetic::Single };
        Format { arithmetic, nr: self.columns(half) }
    }
}

/// The right matrix of a product.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// One constant matrix for all batches.
    Packed(Panels),
    /// Computed at run time: `[batch.., k, n]`, packed into `scratch`, `f32[floats]`, before use.
    Dynamic { matrix: ViewId, scratch: ViewId },
}

/// One step of a plan. The kernels' argument structs say what each means.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Instruction {
    Map {
        steps: Span,
        inputs: Span,
        output: ViewId,
    },
    Int {
        code: IntCode,
        operands: [ViewId; 3],
        output: ViewId,
    },
    Copy {
        input: ViewId,
        output: ViewId,
    },
    Gather {
        data: ViewId,
        indices: ViewId,
        output: ViewId,
        axis: u8,
    },
    CumSum {
        input: ViewId,
        output: ViewId,
        axis: u8,
        exclusive: bool,
        reverse: bool,
    },
    Reduce {
        kind: ReduceKind,
        input: ViewId,
        output: ViewId,
    },
    /// a `[batch.., m, k]`, c `[batch.., m, n]`, residual as c, bias `[n]`.
    Gemm {
        a: ViewId,
        b: Matrix,
        bias: Option<ViewId>,
        residual: Option<ViewId>,
        activation: Activation,
        c: ViewId,
    },
    /// q `[batch.., m, depth]`, k `[batch.., depth, n]`, v `[batch.., n, values]`, y `[batch.., m, values]`; scratch
    /// `f32[floats]` for packed k and v and the scores of one of the batch.
    Attention {
        q: ViewId,
        k: ViewId,
        v: ViewId,
        scale: f32,
        scratch: ViewId,
        y: ViewId,
    },
    /// x `[n, h, w, k]`, c `[n, y, x, outputs]`, zeros `f32[k or more]`.
    Conv {
        x: ViewId,
        weights: Panels,
        bias: Option<ViewId>,
        residual: Option<ViewId>,
        activation: Activation,
        geometry: Geometry,
        zeros: ViewId,
        /// `f32[floats]` for Winograd's method, whose transformed weights the weights are then.
        scratch: Option<ViewId>,
        c: ViewId,
    },
    /// x `[n, h, w, c]`, weights `[taps, c]`.
    Depthwise {
        x: ViewId,
        weights: ViewId,
        bias: Option<ViewId>,
        activation: Activation,
        geometry: Geometry,
        zeros: ViewId,
        c: ViewId,
    },
    /// x and y `[n, s, c]`; gamma and beta `[c]`.
    Norm {
        x: ViewId,
        gamma: Option<ViewId>,
        beta: Option<ViewId>,
        groups: u32,
        center: bool,
        epsilon: f32,
        activation: Activation,
        scratch: ViewId,
        y: ViewId,
    },
    /// x and y `[rows, n]`.
    Softmax {
        x: ViewId,
        y: ViewId,
        scale: f32,
    },
    /// x `[outer, n, inner]`, y `[outer, size, inner]`, indices and weights `[size, taps]`.
    Resample {
        x: ViewId,
        indices: ViewId,
        weights: ViewId,
        y: ViewId,
    },
    /// x `[n, h, w, c]`, y `[n, y, x, c]`.
    Pool {
        kind: PoolKind,
        x: ViewId,
        geometry: Geometry,
        pad_end: [u32; 2],
        y: ViewId,
    },
    /// An operator that the host runs.
    Host {
        operator: u32,
        inputs: Span,
        outputs: Span,
    },
}

/// A plan's metadata.
#[derive(Archive, Serialize, Debug)]
pub struct PlanData<'a> {
    pub version: u32,
    pub isa: Isa,
    pub packing: Packing,
    pub arena_bytes: u64,
    /// The most bytes of the arena that are in use at once: what no arena is below.
    pub arena_least: u64,
    /// Sizes of a slot of each kept stage.
    pub slot_bytes: [u64; 3],
    /// The instruction behind the last one of each stage.
    pub stages: [u32; 5],
    /// What the time's stage gives for a schedule, in the place of its instructions.
    pub baked: Option<Baked>,
    /// What each stage is made of.
    pub costs: [Cost; 5],
    /// Products and convolutions with constants, and of how many of them the weights have 16 bits.
    pub products: u32,
    pub halves: u32,
    /// Whether the network takes two samples at once: with the conditions' values, and with those that guidance moves away
    /// from.
    pub paired: bool,
    #[rkyv(with = InlineAsBox)]
    pub instructions: &'a [Instruction],
    #[rkyv(with = InlineAsBox)]
    pub views: &'a [View],
    #[rkyv(with = InlineAsBox)]
    pub steps: &'a [MapStep],
    #[rkyv(with = InlineAsBox)]
    pub operands: &'a [ViewId],
    #[rkyv(with = InlineAsBox)]
    pub inputs: &'a [Port],
    #[rkyv(with = InlineAsBox)]
    pub outputs: &'a [Port],
    #[rkyv(with = InlineAsBox)]
    pub names: &'a str,
}

/// How an instruction touches a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Panels {
    /// Calls `f` with every view that is named.
    fn views(self, f: &mut dyn FnMut(ViewId)) {
        if let Some(Scales { input, output, .. }) = self.scales {
            input.into_iter().chain([output]).for_each(f);
        }
    }
}

impl Instruction {
    /// Calls `f` with every view that the instruction names itself; operands in spans are left to the caller.
    // Or else `f` is copied into each arm.
    #[inline(never)]
    pub fn views(&self, f: &mut dyn FnMut(ViewId, Access)) {
        use Access::{Read, Write};
        let optional = |ids: &[Option<ViewId>], f: &mut dyn FnMut(ViewId, Access)| {
            ids.iter().flatten().for_each(|&id| f(id, Read));
        };
        match *self {
            Instruction::Map { output, .. } => f(output, Write),
            Instruction::Int { operands, output, .. } => {
                operands.into_iter().for_each(|id| f(id, Read));
                f(output, Write);
            }
            Instruction::Copy { input, output }
            | Instruction::CumSum { input, output, .. }
            | Instruction::Reduce { input, output, .. } => {
                f(input, Read);
                f(output, Write);
            }
            Instruction::Gather { data, indices, output, .. } => {
                f(data, Read);
                f(indices, Read);
                f(output, Write);
            }
            Instruction::Gemm { a, b, bias, residual, c, .. } => {
                f(a, Read);
                match b {
                    Matrix::Packed(panels) => panels.views(&mut |id| f(id, Read)),
                    Matrix::Dynamic { matrix, scratch } => {
                        f(matrix, Read);
                        f(scratch, Write);
                    }
                }
                optional(&[bias, residual], f);
                f(c, Write);
            }
            Instruction::Attention { q, k, v, scratch, y, .. } => {
                [q, k, v].into_iter().for_each(|id| f(id, Read));
                f(scratch, Write);
                f(y, Write);
            }
            Instruction::Conv { x, weights, bias, residual, zeros, scratch, c, .. } => {
                [x, zeros].into_iter().for_each(|id| f(id, Read));
                weights.views(&mut |id| f(id, Read));
                optional(&[bias, residual], f);
                scratch.into_iter().for_each(|id| f(id, Write));
                f(c, Write);
            }
            Instruction::Depthwise { x, weights, bias, zeros, c, .. } => {
                [x, weights, zeros].into_iter().for_each(|id| f(id, Read));
                optional(&[bias], f);
                f(c, Write);
            }
            Instruction::Norm { x, gamma, beta, scratch, y, .. } => {
                f(x, Read);
                optional(&[gamma, beta], f);
                f(scratch, Write);
                f(y, Write);
            }
            Instruction::Softmax { x, y, .. } | Instruction::Pool { x, y, .. } => {
                f(x, Read);
                f(y, Write);
            }
            Instruction::Resample { x, indices, weights, y } => {
                [x, indices, weights].into_iter().for_each(|id| f(id, Read));
                f(y, Write);
            }
            Instruction::Host { .. } => {}
        }
    }

    /// The packed constants that the instruction reads.
    pub fn panels(&self) -> Option<Panels> {
        match *self {
            Instruction::Gemm { b: Matrix::Packed(panels), .. } => Some(panels),
            Instruction::Conv { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// The operands that the instruction names by spans, and how it touches them.
    pub fn spans(&self) -> [(Span, Access); 2] {
        const NONE: Span = Span { start: 0, len: 0 };
        match *self {
            Instruction::Map { inputs, .. } => [(inputs, Access::Read), (NONE, Access::Read)],
            Instruction::Host { inputs, outputs, .. } => [(inputs, Access::Read), (outputs, Access::Write)],
            _ => [(NONE, Access::Read); 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_are_those_of_the_kernels() {
        for kernels in crate::kernels::cpu::ROWS {
            assert_eq!(Packing::of_isa(kernels.isa), Packing::of(kernels), "{}", kernels.isa);
        }
    }
}
