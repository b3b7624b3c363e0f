//! One row of kernels per instruction set, best first.
//!
//! To add an instruction set: implement [`Simd`] in a file here and add its row to the table.

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "aarch64")]
mod arm_half;
#[cfg(any(
    feature = "compile",
    test,
    not(any(
        all(target_arch = "aarch64", target_feature = "neon"),
        all(target_arch = "wasm32", target_feature = "simd128")
    ))
))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_half;
#[cfg(target_arch = "x86_64")]
mod x86_pairs;
#[cfg(target_arch = "x86_64")]
mod x86_vnni;

#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(test)]
pub(super) use portable::Portable;
#[cfg(all(test, target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use wasm::Wasm128;

use super::areas::At;
use super::args::*;
#[cfg(target_arch = "x86_64")]
use super::attention_fixed;
#[cfg(target_arch = "aarch64")]
use super::attention_half;
use super::simd::{F16, Simd};
use super::winograd::Format;
use super::{attention, fixed, gemm, half, map, math, norm, pool, reduce, softmax, winograd};
use rkyv::{Archive, Deserialize, Serialize};

#[cfg(all(target_arch = "aarch64", any(feature = "std", test)))]
use std::arch::is_aarch64_feature_detected as is_detected;
#[cfg(all(target_arch = "x86_64", any(feature = "std", test)))]
use std::arch::is_x86_feature_detected as is_detected;

/// Whether the CPU has every one of the features.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(any(feature = "std", test))]
        let all = true $(&& is_detected!($feature))*;
        #[cfg(not(any(feature = "std", test)))]
        let all = true $(&& cfg!(target_feature = $feature))*;
        all
    }};
}

/// An instruction set that kernels are compiled for.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum Isa {
    Portable,
    ArmNeon,
    ArmFp16,
    X86Avx2,
    X86Avx512,
    X86Avx512Fp16,
    WasmSimd128,
    X86Avx512Vnni,
}

impl Isa {
    pub const ALL: [Isa; 8] = [
        Isa::X86Avx512Vnni,
        Isa::X86Avx512Fp16,
        Isa::X86Avx512,
        Isa::X86Avx2,
        Isa::ArmFp16,
        Isa::ArmNeon,
        Isa::WasmSimd128,
        Isa::Portable,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::ArmNeon => "arm-neon",
            Isa::ArmFp16 => "arm-fp16",
            Isa::X86Avx2 => "x86-avx2",
            Isa::X86Avx512 => "x86-avx512",
            Isa::X86Avx512Fp16 => "x86-avx512fp16",
            Isa::X86Avx512Vnni => "x86-avx512vnni",
            Isa::WasmSimd128 => "wasm-simd128",
        }
    }

    /// The CPU features that it needs, by the names that Rust gives them.
    pub const fn features(self) -> &'static [&'static str] {
        match self {
            Isa::Portable => &[],
            Isa::ArmNeon => &["neon"],
            Isa::ArmFp16 => &["neon", "fp16"],
            Isa::X86Avx2 => &["avx2", "fma", "f16c"],
            Isa::X86Avx512 => &["avx512f", "avx512vl", "avx512bw", "avx512dq", "avx2", "fma"],
            Isa::X86Avx512Fp16 => {
                &["avx512fp16", "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx2", "fma"]
            }
            Isa::X86Avx512Vnni => {
                &["avx512vnni", "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx2", "fma"]
            }
            Isa::WasmSimd128 => &["simd128"],
        }
    }

    /// Whether this CPU has it: asked at run time with std, what the target guarantees without. Portable kernels run on
    /// every CPU, but not every program has them, see [`ROWS`].
    pub fn supported(self) -> bool {
        match self {
            Isa::Portable => ROWS.iter().any(|row| row.isa == Isa::Portable),
            #[cfg(target_arch = "aarch64")]
            Isa::ArmNeon => has!("neon"),
            #[cfg(target_arch = "aarch64")]
            Isa::ArmFp16 => Isa::ArmNeon.supported() && has!("fp16"),
            #[cfg(target_arch = "x86_64")]
            Isa::X86Avx2 => has!("avx2", "fma", "f16c"),
            #[cfg(target_arch = "x86_64")]
            Isa::X86Avx512 => Isa::X86Avx2.supported() && has!("avx512f", "avx512vl", "avx512bw", "avx512dq"),
            // A hypervisor may hide it: who builds for such a machine says so, as they would with `-C target-feature`,
            // which compilers of 2026 do not survive.
            #[cfg(target_arch = "x86_64")]
            Isa::X86Avx512Fp16 => {
                Isa::X86Avx512.supported() && (has!("avx512fp16") || cfg!(fewstep_avx512fp16))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::X86Avx512Vnni => Isa::X86Avx512.supported() && has!("avx512vnni"),
            // An engine without it does not load a module that has it.
            Isa::WasmSimd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
            _ => false,
        }
    }
}

impl core::fmt::Display for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What products are computed in whose weights have 16 bits.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum Arithmetic {
    /// f32: weights in half precision are widened as they are read.
    Single,
    /// Half precision.
    Half,
    /// Fixed point: weights are whole numbers, see [`FIXED_STRETCH`](super::FIXED_STRETCH).
    Fixed,
}

/// The name is not one of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown instruction set; known are portable, arm-neon, arm-fp16, x86-avx2, x86-avx512, x86-avx512fp16, x86-avx512vnni, wasm-simd128"
)]
pub struct UnknownIsa;

impl core::str::FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or(UnknownIsa)
    }
}

/// The kernels of one instruction set. Each kernel does one task of its work, see the `*_tasks` methods; tasks of one
/// call may run at the same time and in any order.
///
/// # Safety
/// Every kernel: the CPU has the instruction set, the task is below the count, no other task is in its scratch area at the same
/// time, and the arguments keep what their type's documentation says.
#[derive(Debug)]
pub struct Kernels {
    pub isa: Isa,
    /// Rows of a GEMM tile.
    pub mr: usize,
    /// Columns of a GEMM tile and of a packed panel.
    pub nr: usize,
    pub gemm: unsafe fn(&GemmArgs, usize),
    pub half: HalfKernels,
    pub winograd: unsafe fn(&WinogradArgs<GemmArgs>, At),
    /// By phase and task, as `norm`.
    pub attention: unsafe fn(&AttentionArgs, usize, At),
    pub pack: unsafe fn(&PackArgs, usize),
    pub depthwise: unsafe fn(&DepthwiseArgs, usize),
    pub map: unsafe fn(&MapArgs, usize),
    /// By phase and task; a phase begins when the one before it has ended.
    pub norm: unsafe fn(&NormArgs, usize, usize),
    pub softmax: unsafe fn(&SoftmaxArgs, usize),
    pub resample: unsafe fn(&ResampleArgs, usize),
    pub pool: unsafe fn(&PoolArgs, usize),
    pub reduce: unsafe fn(&ReduceArgs, usize),
}

/// The kernels of an instruction set for weights of 16 bits. Without the feature `f16`, only their format.
#[derive(Clone, Copy, Debug)]
pub struct HalfKernels {
    /// What they compute in.
    pub arithmetic: Arithmetic,
    /// Whether they do so in attention, and in the gates of normalisations.
    pub attention: bool,
    /// Columns of a tile and of a packed panel.
    pub nr: usize,
    /// Rows of a tile.
    mr: usize,
    /// Rows up to which reading the weights takes all of the time, even if they are widened. None but where `native`.
    pub(super) few: usize,
    #[cfg(feature = "f16")]
    pub gemm: unsafe fn(&HalfArgs, usize),
    #[cfg(feature = "f16")]
    pub winograd: unsafe fn(&WinogradArgs<HalfArgs>, At),
}

impl HalfKernels {
    /// Whether they compute in 16 bits, or only read them.
    pub fn native(&self) -> bool {
        self.arithmetic != Arithmetic::Single
    }

    pub fn gemm_tasks(&self, args: &HalfArgs) -> usize {
        let grain = match self.arithmetic {
            Arithmetic::Single => gemm::grain(self.mr, self.nr),
            Arithmetic::Half => half::grain(args, self.mr, self.nr, self.few),
            Arithmetic::Fixed => fixed::grain(self.mr, self.nr),
        };
        gemm::tasks(&args.gemm, grain)
    }

    pub fn winograd_tasks(&self, args: &WinogradArgs<HalfArgs>) -> usize {
        winograd::tasks(&args.product.gemm, self.format())
    }

    /// Of Winograd's method.
    pub fn format(&self) -> Format {
        Format { arithmetic: self.arithmetic, nr: self.nr }
    }

    /// Elements of a packed B with `k` rows (all taps) and `n` columns.
    pub fn packed_len(&self, k: usize, n: usize) -> usize {
        n.div_ceil(self.nr) * self.nr * k
    }
}

impl Kernels {
    pub fn gemm_tasks(&self, args: &GemmArgs) -> usize {
        gemm::tasks(args, gemm::grain(self.mr, self.nr))
    }

    pub fn winograd_tasks(&self, args: &WinogradArgs<GemmArgs>) -> usize {
        winograd::tasks(&args.product, self.format())
    }

    /// Of Winograd's method.
    pub fn format(&self) -> Format {
        Format { arithmetic: Arithmetic::Single, nr: self.nr }
    }

    pub fn attention_phases(&self, args: &AttentionArgs) -> usize {
        attention::phases(args, self.nr)
    }

    pub fn attention_tasks(&self, args: &AttentionArgs, phase: usize) -> usize {
        let half = self.half.attention
            && match self.half.arithmetic {
                Arithmetic::Single | Arithmetic::Half => attention::is_half(args),
                Arithmetic::Fixed => attention::is_fixed(args),
            };
        attention::tasks(args, phase, self.nr, half)
    }

    pub fn pack_tasks(&self, args: &PackArgs) -> usize {
        gemm::pack_tasks(args, self.nr)
    }

    /// Floats of a packed f32 B with `k` rows (all taps) and `n` columns.
    pub fn packed_len(&self, k: usize, n: usize) -> usize {
        n.div_ceil(self.nr) * self.nr * k
    }

    pub fn depthwise_tasks(&self, args: &DepthwiseArgs) -> usize {
        pool::depthwise_tasks(args)
    }

    pub fn map_tasks(&self, args: &MapArgs) -> usize {
        map::tasks(args)
    }

    pub fn norm_phases(&self) -> usize {
        norm::PHASES
    }

    /// Tasks of a phase; may be none.
    pub fn norm_tasks(&self, args: &NormArgs, phase: usize) -> usize {
        norm::tasks(args, phase)
    }

    pub fn softmax_tasks(&self, args: &SoftmaxArgs) -> usize {
        softmax::tasks(args)
    }

    pub fn resample_tasks(&self, args: &ResampleArgs) -> usize {
        pool::resample_tasks(args)
    }

    pub fn pool_tasks(&self, args: &PoolArgs) -> usize {
        pool::pool_tasks(args)
    }

    pub fn reduce_tasks(&self, args: &ReduceArgs) -> usize {
        reduce::tasks(args)
    }
}

/// The best kernels that this CPU can run.
pub fn best() -> &'static Kernels {
    ROWS.iter().find(|row| row.isa.supported()).unwrap_or(&ROWS[ROWS.len() - 1])
}

/// The kernels of an instruction set; `None` if this CPU lacks it.
pub fn find(isa: Isa) -> Option<&'static Kernels> {
    ROWS.iter().find(|row| row.isa == isa && isa.supported())
}

/// A row of the table: every generic body in a thin function that enables the instruction set. `nv` lists the
/// numbers of vectors up to a panel's; `tiles` names, for each number of rows, the tile kernel to compute at least as many.
macro_rules! row {
    ($isa:expr, $v:ty, $(#[$enable:meta],)? nv = [$($nv:literal),*], tiles = $rows:tt) => {{
        const MR: usize = $rows.len();
        const NV: usize = [$($nv),*].len();
        const TILES: gemm::TileFns<MR, NV> = [$(row!(@tiles $nv, $rows)),*];

        $(#[$enable])?
        unsafe fn tile<const R: usize, const N: usize>(t: &gemm::Tile) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe { gemm::tile::<$v, f32, R, N, NV>(t) }
        }

        $(#[$enable])?
        unsafe fn gemm(args: &GemmArgs, task: usize) {
            // SAFETY: as for `tile`.
            unsafe { gemm::run::<$v, MR, NV>(args, task, &TILES) }
        }

        const WIDE: gemm::TileFns<MR, NV, F16> = [$(row!(@wide $nv, $rows)),*];

        $(#[$enable])?
        unsafe fn wide_tile<const R: usize, const N: usize>(t: &gemm::Tile<F16>) {
            // SAFETY: as for `tile`.
            unsafe { gemm::tile::<$v, F16, R, N, NV>(t) }
        }

        $(#[$enable])?
        unsafe fn wide(args: &HalfArgs, task: usize) {
            // SAFETY: as for `tile`.
            unsafe { half::wide::<$v, MR, NV>(args, task, &WIDE) }
        }

        $(#[$enable])?
        unsafe fn wide_winograd(args: &WinogradArgs<HalfArgs>, at: At) {
            // SAFETY: as for `tile`.
            unsafe { winograd::wide::<$v, MR, NV>(args, at, &WIDE) }
        }

        $(#[$enable])?
        unsafe fn winograd(args: &WinogradArgs<GemmArgs>, at: At) {
            // SAFETY: as for `tile`.
            unsafe { winograd::run::<$v, MR, NV>(args, at, &TILES) }
        }

        $(#[$enable])?
        unsafe fn attention(args: &AttentionArgs, phase: usize, at: At) {
            // SAFETY: as for `tile`.
            unsafe { attention::run::<$v, MR, NV>(args, phase, at, &TILES) }
        }

        $(#[$enable])?
        unsafe fn pack(args: &PackArgs, task: usize) {
            // SAFETY: as for `tile`.
            unsafe { gemm::pack(args, task, NV * <$v as Simd>::LANES) }
        }

        $(#[$enable])?
        unsafe fn activate(activation: Activation, ptr: *mut f32, rows: usize, n: usize, stride: isize) {
            // SAFETY: as for `tile`.
            unsafe { math::activate::<$v>(activation, ptr, rows, n, stride) }
        }

        $(#[$enable])?
        unsafe fn norm(args: &NormArgs, phase: usize, task: usize) {
            // SAFETY: as for `tile`.
            unsafe { norm::run::<$v>(args, phase, task, activate) }
        }

        $(#[$enable])?
        unsafe fn depthwise(args: &DepthwiseArgs, task: usize) {
            // SAFETY: as for `tile`.
            unsafe { pool::depthwise::<$v>(args, task, activate) }
        }

        row!(@each $v, [$($enable)?],
            map(MapArgs) = map::run, softmax(SoftmaxArgs) = softmax::run, resample(ResampleArgs) = pool::resample,
            pool_(PoolArgs) = pool::pool, reduce_(ReduceArgs) = reduce::run);

        Kernels {
            isa: $isa,
            mr: MR,
            nr: NV * <$v as Simd>::LANES,
            half: HalfKernels {
                arithmetic: Arithmetic::Single,
                attention: false,
                nr: NV * <$v as Simd>::LANES,
                mr: MR,
                few: 0,
                #[cfg(feature = "f16")]
                gemm: wide,
                #[cfg(feature = "f16")]
                winograd: wide_winograd,
            },
            gemm, winograd, attention, pack, depthwise, map, norm, softmax, resample, pool: pool_, reduce: reduce_,
        }
    }};
    (@tiles $nv:literal, [$($rows:literal),*]) => { [$(tile::<$rows, $nv>),*] };
    (@wide $nv:literal, [$($rows:literal),*]) => { [$(wide_tile::<$rows, $nv>),*] };
    (@each $v:ty, $enable:tt, $($name:ident($args:ident) = $family:ident::$body:ident),*) => {
        $(row!(@one $v, $enable, $name($args) = $family::$body);)*
    };
    (@one $v:ty, [$($enable:meta)?], $name:ident($args:ident) = $family:ident::$body:ident) => {
        $(#[$enable])?
        unsafe fn $name(args: &$args, task: usize) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe { $family::$body::<$v>(args, task) }
        }
    };
}

/// The kernels that compute in half precision, likewise: `$tile` is the innermost one, which exists for every number of rows.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
macro_rules! half {
    (
        $v:ty, $tile:path, #[$enable:meta], nv = [$($nv:literal),*], rows = $rows:tt, few = $few:literal, forward = $forward:expr
    ) => {{
        const MR: usize = $rows.len();
        const NV: usize = [$($nv),*].len();
        const NR: usize = 2 * NV * <$v as Simd>::LANES;
        const TILES: half::HalfTileFns<MR, NV> = [$(half!(@tiles $tile, $nv, $rows)),*];
        const FEW: gemm::TileFns<6, { 2 * NV }, F16> = [
            $([few::<1, { 2 * $nv - 1 }>, few::<2, { 2 * $nv - 1 }>, few::<3, { 2 * $nv - 1 }>,
            few::<4, { 2 * $nv - 1 }>, few::<6, { 2 * $nv - 1 }>, few::<6, { 2 * $nv - 1 }>],
            [few::<1, { 2 * $nv }>, few::<2, { 2 * $nv }>, few::<3, { 2 * $nv }>,
            few::<4, { 2 * $nv }>, few::<6, { 2 * $nv }>, few::<6, { 2 * $nv }>]),*
        ];

        #[$enable]
        unsafe fn few<const R: usize, const N: usize>(t: &gemm::Tile<F16>) {
            // SAFETY: as for `native`.
            unsafe { gemm::tile::<$v, F16, R, N, { 2 * NV }>(t) }
        }

        #[$enable]
        unsafe fn native(args: &HalfArgs, task: usize) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe {
                if half::is_few(args, $few) {
                    half::few::<$v, { 2 * NV }>(args, task, &FEW)
                } else {
                    half::native::<$v, MR, NV>(args, task, &TILES)
                }
            }
        }

        #[$enable]
        unsafe fn winograd(args: &WinogradArgs<HalfArgs>, at: At) {
            // SAFETY: as for `native`.
            unsafe { winograd::native::<$v, MR, NV>(args, at, &TILES, $forward) }
        }

        HalfKernels {
            arithmetic: Arithmetic::Half,
            attention: false,
            nr: NR,
            mr: MR,
            few: $few,
            #[cfg(feature = "f16")]
            gemm: native,
            #[cfg(feature = "f16")]
            winograd,
        }
    }};
    (@tiles $tile:path, $nv:literal, [$($rows:literal),*]) => { [$({ use $tile as tile; tile::<$rows, $nv, NV> }),*] };
}

/// The kernels that compute in fixed point, likewise: `$module` has the innermost one, and what rounds rows for it.
#[cfg(target_arch = "x86_64")]
macro_rules! fixed {
    ($v:ty, $module:ident, #[$enable:meta], nv = [$($nv:literal),*], rows = $rows:tt) => {{
        const MR: usize = $rows.len();
        const NV: usize = [$($nv),*].len();
        const TILES: fixed::Tiles<MR, NV> = fixed!(@tiles $module, [$($nv),*], $rows);

        #[$enable]
        unsafe fn gemm(args: &HalfArgs, task: usize) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe { fixed::run::<$v, MR, NV>(args, task, &TILES) }
        }

        #[$enable]
        unsafe fn winograd(args: &WinogradArgs<HalfArgs>, at: At) {
            // SAFETY: as for `gemm`.
            unsafe { winograd::fixed::<$v, MR, NV>(args, at, &TILES) }
        }

        HalfKernels {
            arithmetic: Arithmetic::Fixed,
            attention: cfg!(feature = "f16"),
            nr: NV * <$v as Simd>::LANES,
            mr: MR,
            few: 0,
            #[cfg(feature = "f16")]
            gemm,
            #[cfg(feature = "f16")]
            winograd,
        }
    }};
    (@scores $module:ident, [$($rows:literal),*]) => { [$($module::scores::<$rows>),*] };
    (@tiles $module:ident, [$($nv:literal),*], $rows:tt) => {
        fixed::Tiles { tiles: [$(half!(@tiles $module::tile, $nv, $rows)),*], round: $module::round, forward: $module::forward }
    };
}

/// Attention in fixed point where the arguments allow it, else by `$single`, the kernel of a row.
#[cfg(target_arch = "x86_64")]
macro_rules! fixed_attention {
    (
        $v:ty, $module:ident, #[$enable:meta], nv = [$($nv:literal),*], rows = $rows:tt, narrow = $narrow:expr, $single:expr
    ) => {{
        const MR: usize = $rows.len();
        const NV: usize = [$($nv),*].len();
        const TILES: attention_fixed::Tiles<MR, NV> = attention_fixed::Tiles {
            products: fixed!(@tiles $module, [$($nv),*], $rows),
            scores: fixed!(@scores $module, $rows),
            largest: $module::largest_score,
            weights: $module::weights,
            narrow: $narrow,
        };

        #[$enable]
        unsafe fn attention(args: &AttentionArgs, phase: usize, at: At) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe {
                if attention::is_fixed(args) {
                    attention_fixed::run::<$v, MR, NV>(args, phase, at, &TILES)
                } else {
                    ($single.attention)(args, phase, at)
                }
            }
        }

        attention
    }};
}

/// Attention in half precision where the arguments allow it, else by `$single`, the kernel of a row.
#[cfg(target_arch = "aarch64")]
macro_rules! half_attention {
    ($v:ty, #[$enable:meta], nv = [$($nv:literal),*], rows = $rows:tt, $single:expr) => {{
        const MR: usize = $rows.len();
        const NV: usize = [$($nv),*].len();
        const TILES: attention_half::Tiles<MR, NV> = attention_half::Tiles {
            scores: [$(half!(@tiles arm_half::scores, $nv, $rows)),*],
            largest: arm_half::largest,
            weights: arm_half::weights,
            sums: [$(half!(@tiles arm_half::tile, $nv, $rows)),*],
        };

        #[$enable]
        unsafe fn attention(args: &AttentionArgs, phase: usize, at: At) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe {
                if attention::is_half(args) {
                    attention_half::run::<$v, MR, NV>(args, phase, at, &TILES, $single.nr)
                } else {
                    ($single.attention)(args, phase, at)
                }
            }
        }

        attention
    }};
}

/// Normalisations with gates of 16 bits where the arguments allow it, else by `$single`, the kernel of a row.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
macro_rules! gated_norm {
    ($v:ty, $module:ident, #[$enable:meta], $single:expr) => {{
        #[$enable]
        unsafe fn norm(args: &NormArgs, phase: usize, task: usize) {
            // SAFETY: the caller's contract; a row is only used on a CPU that has its instruction set.
            unsafe {
                if norm::is_gated(args, phase) {
                    norm::gated::<$v>(args, task, $module::gated)
                } else {
                    ($single.norm)(args, phase, task)
                }
            }
        }

        norm
    }};
}

#[cfg(target_arch = "aarch64")]
const NEON: Kernels = row!(
    Isa::ArmNeon, arm::Neon, #[target_feature(enable = "neon")],
    nv = [1, 2], tiles = [1, 2, 3, 4, 5, 6, 7, 8]
);

#[cfg(target_arch = "x86_64")]
const AVX512: Kernels = row!(
    Isa::X86Avx512, x86::Avx512, #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")],
    nv = [1, 2], tiles = [1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 12, 12, 14, 14]
);

#[cfg(target_arch = "x86_64")]
const AVX2: Kernels = row!(
    Isa::X86Avx2, x86::Avx2, #[target_feature(enable = "avx2,fma,f16c")],
    nv = [1, 2], tiles = [1, 2, 3, 4, 5, 6]
);

/// The instruction sets of this architecture, best first: all of them with std, which asks the CPU what it has. Without,
/// the target says that, so AArch64's rows are only those that its features allow. Where NEON or WebAssembly's SIMD is in any
/// case, portable kernels are only there beside the compiler, as an oracle: each row is 100 to 150 kB.
pub static ROWS: &[Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    Kernels {
        isa: Isa::X86Avx512Vnni,
        half: fixed!(
            x86::Avx512, x86_vnni,
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
        ),
        #[cfg(feature = "f16")]
        attention: fixed_attention!(
            x86::Avx512, x86_vnni,
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
            narrow = Some(x86_vnni::narrow), AVX512
        ),
        #[cfg(feature = "f16")]
        norm: gated_norm!(
            x86::Avx512, x86_vnni, #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")], AVX512
        ),
        ..AVX512
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        isa: Isa::X86Avx512Fp16,
        half: half!(
            x86::Avx512, x86_half::tile,
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512fp16,avx2,fma")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14], few = 8, forward = None
        ),
        ..AVX512
    },
    #[cfg(target_arch = "x86_64")]
    AVX512,
    #[cfg(target_arch = "x86_64")]
    Kernels {
        half: fixed!(
            x86::Avx2, x86_pairs, #[target_feature(enable = "avx2,fma,f16c")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6]
        ),
        #[cfg(feature = "f16")]
        attention: fixed_attention!(
            x86::Avx2, x86_pairs, #[target_feature(enable = "avx2,fma,f16c")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6], narrow = None, AVX2
        ),
        #[cfg(feature = "f16")]
        norm: gated_norm!(x86::Avx2, x86_pairs, #[target_feature(enable = "avx2,fma,f16c")], AVX2),
        ..AVX2
    },
    #[cfg(all(target_arch = "aarch64", any(feature = "std", test, target_feature = "fp16")))]
    Kernels {
        isa: Isa::ArmFp16,
        half: HalfKernels {
            attention: cfg!(feature = "f16"),
            ..half!(
                arm::Neon, arm_half::tile, #[target_feature(enable = "neon,fp16")],
                // To widen four weights takes two instructions, and two rows' multiply-adds as many.
                nv = [1, 2], rows = [1, 2, 3, 4, 5, 6, 7, 8], few = 2, forward = Some(arm_half::forward)
            )
        },
        #[cfg(feature = "f16")]
        attention: half_attention!(
            arm::Neon, #[target_feature(enable = "neon,fp16")],
            nv = [1, 2], rows = [1, 2, 3, 4, 5, 6, 7, 8], NEON
        ),
        #[cfg(feature = "f16")]
        norm: gated_norm!(arm::Neon, arm_half, #[target_feature(enable = "neon,fp16")], NEON),
        ..NEON
    },
    #[cfg(all(target_arch = "aarch64", any(feature = "std", test, target_feature = "neon")))]
    NEON,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    row!(Isa::WasmSimd128, wasm::Wasm128, nv = [1, 2], tiles = [1, 2, 3, 4]),
    #[cfg(any(
        feature = "compile",
        test,
        not(any(
            all(target_arch = "aarch64", target_feature = "neon"),
            all(target_arch = "wasm32", target_feature = "simd128")
        ))
    ))]
    row!(Isa::Portable, portable::Portable, nv = [1, 2], tiles = [1, 2, 3, 4]),
];
