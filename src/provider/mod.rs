//! What evaluates a network. So far the project's own engine on the CPU.

mod cpu;
mod host;

pub use cpu::{Network, NetworkError, Precision, Settings};
