//! What `fewstep bench` has found.
#![forbid(unsafe_code)]

use super::super::machine::{self, Machine};
use super::budget::Verdict;
use super::cold::Start;
use super::distribution::Distribution;
use super::sustain::Sustained;
use super::sweep::Point;
use serde::{Serialize, Serializer};

/// What `--json` writes: keys stay, new ones may come. docs/bench.md says what each means.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    pub machine: Machine,
    pub model: String,
    pub provider: String,
    /// The instruction set, or the runtime and its version.
    #[serde(skip)]
    pub kernels: String,
    /// `null` but for the engine, as the sizes of arena and weights.
    pub instruction_set: Option<&'static str>,
    pub precision: &'static str,
    pub threads: usize,
    pub steps: usize,
    pub runs: usize,
    pub open_ms: f64,
    pub first_sample_ms: f64,
    /// New processes, the first one first; `null` if they do not start, and why.
    #[serde(serialize_with = "or_null")]
    pub cold_start: Result<Vec<Start>, String>,
    pub step_ms: Distribution,
    /// `null` without a manifest.
    pub sample_ms: Option<Distribution>,
    /// Of the steps: p99 over p50.
    pub jitter: f64,
    pub allocations_per_step: f64,
    /// Whether the state of a sample stays in the provider's memory; then steps are not timed alone.
    pub state_on_device: bool,
    /// `null` but for ONNX Runtime, which names it.
    pub bound_memory: Option<String>,
    pub arena_bytes: Option<usize>,
    pub weights_bytes: Option<usize>,
    /// `null` where the system does not tell.
    pub rss_bytes: Option<u64>,
    /// `null` where the system does not tell.
    pub private_dirty_bytes: Option<u64>,
    /// Of the timed runs; `null` without a sensor, and why.
    #[serde(serialize_with = "or_null")]
    pub energy: Result<Energy, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sustained: Option<Sustained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Vec<Point>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

/// What a sensor has counted, of all that it covers and whoever used it.
#[derive(Serialize)]
pub struct Energy {
    pub sensor: String,
    pub seconds: f64,
    pub joules: f64,
    pub watts: f64,
    pub joules_per_run: f64,
}

#[derive(Serialize)]
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    pub threads: usize,
    pub note: Option<&'static str>,
    pub runs: usize,
    pub step_ms: Distribution,
    /// Our own evaluations, in turns with the peer's.
    pub own_step_ms: Distribution,
    /// The peer's median over ours: above one, ours is the faster.
    pub ratio: f64,
    /// `null` if there is no f32 output, or it is not finite.
    pub max_relative_l2: Option<f64>,
}

impl Energy {
    pub fn of(sensor: String, counted: machine::Energy, runs: usize) -> Energy {
        let machine::Energy { seconds, joules } = counted;
        Energy { sensor, seconds, joules, watts: joules / seconds, joules_per_run: joules / runs as f64 }
    }
}

/// A value, or `null`: why there is none is for people.
fn or_null<T: Serialize, S: Serializer>(value: &Result<T, String>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().ok().serialize(serializer)
}
