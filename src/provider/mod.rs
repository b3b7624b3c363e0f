//! What evaluates a network: the project's own engine on the CPU, or a general runtime that reads the ONNX file itself.
//!
//! [`Network`] is what sessions and programs hold, whatever is behind it. The engine runs plans; ONNX Runtime, with any of
//! its execution providers, and tract are given the file and the memory of its inputs and outputs, and nothing else is
//! known of them.

#[cfg(feature = "compile")]
pub(crate) mod cached;
#[cfg(feature = "compile")]
mod compile;
mod cpu;
mod error;
#[cfg(feature = "compile")]
mod external;
#[cfg(feature = "compile")]
mod host;
mod network;
#[cfg(feature = "ort")]
pub mod ort;
mod pager;
#[cfg(feature = "compile")]
mod prelude;
#[cfg(feature = "compile")]
mod select;
#[cfg(feature = "compile")]
mod tract;

pub use cpu::{Cpu, Precision, Settings};
pub use error::NetworkError;
#[cfg(feature = "compile")]
pub use external::OnnxFile;
#[cfg(feature = "compile")]
pub(crate) use external::Schedule;
pub use network::{Io, Network};
#[cfg(feature = "compile")]
pub use select::{Assigned, Fallback, Opening, Provider, ProviderError};
