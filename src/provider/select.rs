//! Which provider a network is given to, and why one does not take it.

use super::external::{Port, Runtime};
use super::tract::Tract;
use super::{OnnxFile, Settings};
use crate::cache::Cache;
use crate::graph::Binding;
use crate::onnx::{Header, Shapes};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

/// What is to evaluate networks.
#[derive(Clone, Debug, Default)]
pub enum Provider {
    /// The engine.
    #[default]
    Cpu,
    /// tract, on one thread: a reference in Rust alone.
    Tract,
    /// ONNX Runtime, with one of its execution providers.
    #[cfg(feature = "ort")]
    Ort(super::ort::Choice),
}

/// What a network is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Of all inputs whose shapes the file leaves open.
    pub shapes: &'a Shapes,
    pub settings: Settings,
    /// What changes the inputs that not every evaluation writes: times, and conditions.
    pub bindings: &'a [(&'a str, Binding)],
    /// Where what a provider compiles is kept.
    pub cache: Option<&'a Cache>,
}

impl Opening<'_> {
    /// What changes an input.
    pub(super) fn binding(&self, input: &str) -> Binding {
        let known = self.bindings.iter().find(|(name, _)| *name == input);
        known.map_or(Binding::STATE, |&(_, binding)| binding)
    }
}

/// A node of a network, and what evaluates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The execution provider, as ONNX Runtime calls it.
    pub to: String,
    pub operator: String,
    pub node: String,
    /// Whether it is the provider that was asked for.
    pub is_taken: bool,
}

/// Nodes that a provider does not take, and ONNX Runtime leaves to its CPU provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{nodes} of the network's {all} nodes run on the CPU and not on {provider}: {operators}")]
pub struct Fallback {
    pub provider: String,
    pub nodes: usize,
    pub all: usize,
    /// `2 Gather, 1 Clip`.
    pub operators: String,
}

impl Fallback {
    /// `None` if the provider takes all nodes.
    pub fn of(provider: &str, assignment: &[Assigned]) -> Option<Fallback> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for node in assignment.iter().filter(|node| !node.is_taken) {
            *counts.entry(&node.operator).or_default() += 1;
        }
        let operators: Vec<_> =
            counts.iter().map(|(operator, count)| format!("{count} {operator}")).collect();
        let (nodes, all) = (counts.values().sum(), assignment.len());
        let fallback = Fallback { provider: provider.into(), nodes, all, operators: operators.join(", ") };
        (nodes > 0).then_some(fallback)
    }
}

/// Why a provider does not take a network. Every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("there is no provider `{name}`; there are {known}")]
    Unknown { name: String, known: String },
    #[error("{what} is for --provider cpu, and not for {provider}; leave it out")]
    EngineOnly { what: &'static str, provider: String },
    #[error(
        "ONNX Runtime is not here: {tried}; give its library (libonnxruntime.so.*, in its releases and in PyPI's wheel \
         onnxruntime) as --ort-lib, FEWSTEP_ORT_LIB or ORT_DYLIB_PATH"
    )]
    NoLibrary { tried: String },
    #[error("{origin} {}: {problem}; name the library of ONNX Runtime {least} or later", path.display())]
    Library { origin: &'static str, path: PathBuf, problem: String, least: &'static str },
    #[error("ort:{provider} is not in {}, which has {has}; it needs {needs}", library.display())]
    NotBuiltIn { provider: &'static str, library: PathBuf, has: String, needs: &'static str },
    #[error("--ep-lib {}: {problem}; name the library of the provider's own", path.display())]
    Plugin { path: PathBuf, problem: String },
    #[error("{provider} has no option `{option}`; its options are {known}")]
    UnknownOption { provider: String, option: String, known: String },
    #[error("{provider}: option {option} is {wanted}, and not `{value}`")]
    OptionValue { provider: String, option: String, value: String, wanted: String },
    #[error("{provider} can not be used here: {problem}; it needs {needs}")]
    Unusable { provider: String, problem: String, needs: &'static str },
    #[error("{provider} does not run this network: {problem}; use another provider for it")]
    Refused { provider: String, problem: String },
    #[error("{0}; leave out --strict to allow it")]
    Fallback(Fallback),
    #[error("input {input} has ONNX type {onnx_type}; only f32, f16, f64, i64, i32 and bool can be filled")]
    Type { input: String, onnx_type: i32 },
}

impl Provider {
    /// `cpu`, `tract`, `ort` or `ort:EP`.
    ///
    /// # Errors
    /// If there is no such provider; the message has those that there are.
    pub fn named(name: &str) -> Result<Provider, ProviderError> {
        Ok(match name.split_once(':') {
            None if name == "cpu" => Provider::Cpu,
            None if name == "tract" => Provider::Tract,
            #[cfg(feature = "ort")]
            None if name == "ort" => Provider::Ort(super::ort::Choice::default()),
            #[cfg(feature = "ort")]
            Some(("ort", ep)) => Provider::Ort(super::ort::Choice::named(ep)?),
            _ => return Err(ProviderError::Unknown { name: name.into(), known: known() }),
        })
    }

    /// As [`Provider::named`] reads it.
    pub fn name(&self) -> String {
        match self {
            Provider::Cpu => "cpu".to_string(),
            Provider::Tract => Tract::NAME.to_string(),
            #[cfg(feature = "ort")]
            Provider::Ort(choice) => choice.name(),
        }
    }

    /// Opens a network whose inputs have these shapes in a general runtime, which the engine is none, and says what its
    /// outputs are.
    pub(super) fn runtime(
        &self,
        file: OnnxFile<'_>,
        header: &Header,
        inputs: &[Port],
        opening: &Opening<'_>,
    ) -> Result<(Box<dyn Runtime>, Vec<Port>), super::NetworkError> {
        #[cfg(not(feature = "ort"))]
        let _ = opening;
        Ok(match self {
            #[cfg(feature = "ort")]
            Provider::Ort(choice) => super::ort::open(choice, file, header, inputs, opening)?,
            Provider::Cpu | Provider::Tract => Tract::open(file, header, inputs)?,
        })
    }
}

fn known() -> String {
    let names = ["cpu", Tract::NAME];
    #[cfg(feature = "ort")]
    let names = [&names[..], &["ort", "ort:EP with EP one of"]].concat();
    #[cfg_attr(not(feature = "ort"), expect(unused_mut, reason = "only ONNX Runtime has more"))]
    let mut known = names.join(", ");
    #[cfg(feature = "ort")]
    known.extend([" ", &super::ort::names()]);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_fall_back_are_counted_by_operator() {
        let node = |operator: &str, is_taken| Assigned {
            to: if is_taken { "QNNExecutionProvider" } else { "CPUExecutionProvider" }.into(),
            operator: operator.into(),
            node: String::new(),
            is_taken,
        };
        let nodes = ["Gather", "Conv", "Clip", "Gather"].map(|operator| node(operator, operator == "Conv"));
        let fallback = Fallback::of("ort:qnn", &nodes).map(|fallback| fallback.to_string());
        let expected = "3 of the network's 4 nodes run on the CPU and not on ort:qnn: 1 Clip, 2 Gather";
        assert_eq!(fallback.as_deref(), Some(expected));
        assert_eq!(Fallback::of("ort:qnn", &nodes[1..2]), None);
    }

    #[test]
    fn providers_are_named_as_they_are_read() {
        for name in ["cpu", "tract"] {
            assert_eq!(Provider::named(name).map(|provider| provider.name()).ok().as_deref(), Some(name));
        }
        #[cfg(feature = "ort")]
        for (name, full) in [("ort", "ort:cpu"), ("ort:openvino", "ort:openvino")] {
            assert_eq!(Provider::named(name).map(|provider| provider.name()).ok().as_deref(), Some(full));
        }
        for wrong in ["", "gpu", "cpu:0", "ort:", "ORT"] {
            assert!(matches!(Provider::named(wrong), Err(ProviderError::Unknown { .. })), "{wrong}");
        }
    }
}
