//! fewstep: an embedded inference runtime for few-step generative samplers.
//!
//! It loads distilled flow-map and consistency models exported to ONNX and turns noise into samples in 1 to 8 network
//! evaluations. The rooms stand below in the order in which a model passes through them; nothing points back up. From
//! `plan` down everything is `no_std` and takes no heap: the runtime. Above it is the compiler (feature `compile`).
#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "compile")]
pub mod onnx;

#[cfg(feature = "compile")]
pub mod ops;

#[cfg(feature = "compile")]
pub mod graph;

pub mod plan;

pub mod kernels;

pub mod engine;

pub mod sampler;

#[cfg(feature = "std")]
pub mod manifest;

#[cfg(feature = "compile")]
mod mapping;
