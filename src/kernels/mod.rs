//! Compute kernels: what one instruction of a plan does, for each instruction set.
//!
//! Every kernel is one generic body over the vector trait [`simd::Simd`] and one row per instruction set in
//! [`cpu::ROWS`], best first. Kernels see raw pointers and strides, no graph, no plan, no heap.
//! Each family splits its work into independent tasks (`*_tasks`), so that a caller may run them on any threads
//! in any order: the split depends on the shapes alone, never on the thread count, so results do not either.
#![cfg_attr(
    not(all(feature = "std", any(target_arch = "aarch64", target_arch = "x86_64"))),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        reason = "without std, or on other architectures, not every target has a row for each kernel"
    )
)]

mod areas;
mod args;
mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_fixed;
#[cfg(target_arch = "aarch64")]
mod attention_half;
pub mod cpu;
pub mod data;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "none but x86 has kernels of it"))]
mod fixed;
mod gemm;
mod half;
pub mod int;
mod map;
pub mod math;
mod narrow;
mod norm;
mod pool;
mod reduce;
pub mod simd;
mod softmax;
#[cfg(test)]
mod tests;
mod view;
mod winograd;

pub use areas::{Areas, At};
pub use args::*;
pub use attention::{AttentionShape, attention_scratch};
pub use cpu::{Arithmetic, HalfKernels, Isa, Kernels};
pub use fixed::{LIMIT as FIXED_LIMIT, STRETCH as FIXED_STRETCH, room as fixed_room};
pub use norm::norm_scratch;
pub use simd::F16;
pub use view::{DType, Layout, MAX_RANK};
pub use winograd::{Format, PLACES, weights as winograd_weights, winograd_scratch};
