//! What evaluates a network. So far the project's own engine on the CPU.

#[cfg(feature = "compile")]
mod compile;
mod cpu;
#[cfg(feature = "compile")]
mod host;
mod pager;

pub use cpu::{Network, NetworkError, Precision, Settings};
