//! The file as it is written. These types say what one value may be; `parse` says which keys go together.

use std::{collections::BTreeMap, format, path::PathBuf, string::String, vec::Vec};

use serde::Deserialize;
use toml::Spanned;

use super::{guidance::RawGuidance, rules, speech::RawSpeech};
use crate::sampler::MAX_STEPS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    pub(super) model: RawModel,
    pub(super) inputs: Spanned<BTreeMap<Line, Spanned<RawInput>>>,
    pub(super) sampling: RawSampling,
    pub(super) guidance: Option<RawGuidance>,
    pub(super) output: RawOutput,
    pub(super) speech: Option<RawSpeech>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) name: Line,
    pub(super) network: InnerPath,
    pub(super) summary: Option<Line>,
    pub(super) license: Option<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInput {
    pub(super) role: Spanned<RawRole>,
    pub(super) shape: Key<Shape>,
    pub(super) default: Key<Numbers>,
    pub(super) negative: Key<Numbers>,
    pub(super) range: Key<Interval>,
    pub(super) integer: Key<bool>,
    pub(super) prior: Key<bool>,
    pub(super) encoding: Key<RawEncoding>,
    pub(super) scale: Key<Positive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSampling {
    pub(super) family: Spanned<RawFamily>,
    pub(super) sampler: Key<String>,
    pub(super) steps: Key<Steps>,
    pub(super) max_steps: Option<Steps>,
    pub(super) prediction: Spanned<RawPrediction>,
    pub(super) time: Spanned<RawTime>,
    pub(super) time_scale: Option<Positive>,
    pub(super) noise_at: Key<NoiseAt>,
    pub(super) sigma_min: Key<Positive>,
    pub(super) sigma_max: Key<Positive>,
    pub(super) sigma_data: Key<Positive>,
    pub(super) theta: Key<Positive>,
    pub(super) betas: Key<RawBetas>,
    pub(super) beta_start: Key<Positive>,
    pub(super) beta_end: Key<Positive>,
    pub(super) zero_terminal_snr: Key<bool>,
    pub(super) clamp: Option<Positive>,
    pub(super) eta: Key<f64>,
    pub(super) order: Key<u8>,
    pub(super) churn: Key<f64>,
    pub(super) churn_range: Key<NoiseLevels>,
    pub(super) noise_scale: Key<Positive>,
    pub(super) temperature: Option<Positive>,
    pub(super) initial_scale: Option<Positive>,
    pub(super) schedule: Key<String>,
    pub(super) rho: Key<Positive>,
    pub(super) offset: Key<u8>,
    pub(super) points: Key<Points>,
    pub(super) sway: Key<f64>,
    pub(super) within: Key<RawWithin>,
    pub(super) rounding: Key<RawRounding>,
    pub(super) sigmas: Key<Vec<f64>>,
    pub(super) times: Key<Vec<f64>>,
    pub(super) ts: Key<Vec<usize>>,
    pub(super) shift: Key<Positive>,
    pub(super) terminal: Key<Positive>,
    pub(super) stop: Key<RawStop>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOutput {
    pub(super) name: Option<Line>,
    pub(super) kind: Spanned<RawKind>,
    pub(super) range: Key<Interval>,
    pub(super) transform: Key<RawTransform>,
    pub(super) scale: Key<Positive>,
    pub(super) height_range: Key<Positive>,
    pub(super) zero_floor: Key<bool>,
}

/// A key that may be left out, and whose place an error may have to name.
pub(super) type Key<T> = Option<Spanned<T>>;

/// Enums of words, as a manifest spells them.
macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),* })*) => {$(
        #[derive(Clone, Copy, Deserialize, PartialEq)]
        pub(super) enum $name { $(#[serde(rename = $word)] $variant),* }
    )*};
}

words! {
    RawRole {
        State = "state", Time = "time", Target = "target", Duration = "duration", Step = "step", Steps = "steps",
        Condition = "condition", Guidance = "guidance"
    }
    RawEncoding { Scaled = "scaled", Excess = "excess", Reciprocal = "reciprocal", Embedding = "embedding" }
    RawFamily { Consistency = "consistency", FlowMap = "flow-map", RectifiedFlow = "rectified-flow", Diffusion = "diffusion" }
    RawPrediction {
        Clean = "x0", Epsilon = "epsilon", V = "v", EdmConsistency = "edm-consistency", Edm = "edm",
        Velocity = "velocity", DataVelocity = "data-velocity", ScaledVelocity = "scaled-velocity",
        SimpleEdm = "simple-edm", WindowedNoise = "windowed-noise", Score = "score", VelocityGrid = "velocity-grid",
        NextState = "next-state"
    }
    RawTime {
        Sigma = "sigma", LogSigma = "log-sigma", Unit = "unit", Timestep = "timestep", Angle = "angle",
        AngleShare = "angle-share", MeanReverting = "mean-reverting"
    }
    RawBetas { Linear = "linear", ScaledLinear = "scaled-linear", Cosine = "cosine" }
    RawWithin { All = "all", Linspace = "linspace", Leading = "leading", Trailing = "trailing" }
    RawRounding { Nearest = "nearest", Down = "down" }
    RawStop { Data = "data", SigmaMin = "sigma-min" }
    RawKind { Tensor = "tensor", Image = "image", Heightmap = "heightmap" }
    RawTransform { Linear = "linear", Asinh = "asinh" }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of numbers")]
pub(super) enum Numbers {
    One(f64),
    List(Vec<f64>),
}

// Values with a rule of their own, checked while toml still knows the line and the key.

type Rule<T> = Result<T, &'static str>;

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Positive(pub(super) f64);

impl TryFrom<f64> for Positive {
    type Error = &'static str;

    fn try_from(value: f64) -> Rule<Positive> {
        rules::positive(value).map(|()| Positive(value))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
pub(super) struct Steps(pub(super) usize);

impl TryFrom<usize> for Steps {
    type Error = String;

    fn try_from(value: usize) -> Result<Steps, String> {
        let allowed = 1..=MAX_STEPS;
        allowed.contains(&value).then_some(Steps(value)).ok_or_else(|| format!("write 1 to {MAX_STEPS}"))
    }
}

/// How many timesteps a network was distilled at.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
pub(super) struct Points(pub(super) usize);

impl TryFrom<usize> for Points {
    type Error = &'static str;

    fn try_from(value: usize) -> Rule<Points> {
        (1..=1000).contains(&value).then_some(Points(value)).ok_or("write 1 to 1000")
    }
}

/// The network's time of pure noise: 1, or 0 for networks that count towards the data.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(try_from = "u8")]
pub(super) enum NoiseAt {
    Zero,
    One,
}

impl TryFrom<u8> for NoiseAt {
    type Error = &'static str;

    fn try_from(value: u8) -> Rule<NoiseAt> {
        [NoiseAt::Zero, NoiseAt::One].get(usize::from(value)).copied().ok_or("write 0 or 1")
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub(super) struct Interval(pub(super) [f64; 2]);

impl TryFrom<Vec<f64>> for Interval {
    type Error = &'static str;

    // Not from an array: toml would drop further values without a word.
    fn try_from(ends: Vec<f64>) -> Rule<Interval> {
        match ends[..] {
            [low, high] => rules::interval([low, high]).map(|()| Interval([low, high])),
            _ => Err("write [smallest, largest], both finite"),
        }
    }
}

/// Two noise levels; the larger may be infinite.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub(super) struct NoiseLevels(pub(super) [f64; 2]);

impl TryFrom<Vec<f64>> for NoiseLevels {
    type Error = &'static str;

    fn try_from(ends: Vec<f64>) -> Rule<NoiseLevels> {
        match ends[..] {
            [low, high] if low >= 0.0 && low < high => Ok(NoiseLevels([low, high])),
            _ => Err("write [smallest, largest], of which the largest may be inf"),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Vec<usize>")]
pub(super) struct Shape(pub(super) Vec<usize>);

impl TryFrom<Vec<usize>> for Shape {
    type Error = &'static str;

    fn try_from(sizes: Vec<usize>) -> Rule<Shape> {
        rules::shape(&sizes).map(|()| Shape(sizes))
    }
}

/// Text that fits a message or a terminal.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(super) struct Line(pub(super) String);

impl TryFrom<String> for Line {
    type Error = &'static str;

    fn try_from(text: String) -> Rule<Line> {
        rules::line(&text).map(|()| Line(text))
    }
}

/// A path that cannot leave its folder.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct InnerPath(pub(super) PathBuf);

impl TryFrom<String> for InnerPath {
    type Error = &'static str;

    fn try_from(text: String) -> Rule<InnerPath> {
        let path = PathBuf::from(text);
        rules::inner_path(&path).map(|()| InnerPath(path))
    }
}
