//! fewstep: an embedded inference runtime for few-step generative samplers.
//!
//! It loads distilled flow-map and consistency models exported to ONNX and turns noise into samples in 1 to 8 network
//! evaluations. The rooms stand below in the order in which a model passes through them; nothing points back up. From
//! `plan` down everything is `no_std` and takes no heap: the runtime. Above it is the compiler (feature `compile`).
//!
//! ```no_run
//! # #[cfg(feature = "compile")] {
//! use fewstep::{provider::Settings, session::Session};
//! use std::path::Path;
//!
//! let mut session = Session::open(Path::new("models/digits"), Settings::default())?;
//! session.set_condition("label", &[7.0])?;
//! let mut image = vec![0.0; session.elements()]; // [1, 28, 28], -1 to 1
//! session.sample(&mut image)?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and used as they lie in memory: fewstep needs a little-endian CPU");

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

#[cfg(feature = "std")]
pub mod peaks;

pub mod sampler;

#[cfg(feature = "std")]
pub mod manifest;

#[cfg(feature = "std")]
pub mod provider;

#[cfg(feature = "std")]
pub mod session;

#[cfg(feature = "pipeline")]
pub mod pipeline;

#[cfg(feature = "compile")]
pub mod cache;

#[cfg(feature = "compile")]
pub mod files;

#[cfg(feature = "std")]
pub mod mapping;

#[cfg(feature = "std")]
pub mod memory;

#[cfg(feature = "capi")]
pub mod ffi;
