//! The table `[guidance]`.

use std::{format, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{
    file::{InnerPath, Interval as Ends, Key},
    parse::{Checked, Fault, refuse, span, value},
};
use crate::sampler::{Guidance, Interval, MAX_STEPS, Method, Start};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGuidance {
    scale: Spanned<f64>,
    method: Key<RawMethod>,
    start: Key<RawStart>,
    rescale: Key<f64>,
    interval: Key<Ends>,
    noise: Key<Ends>,
    zero_steps: Key<usize>,
    momentum: Key<f64>,
    norm: Key<f64>,
    eta: Key<f64>,
    network: Option<InnerPath>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMethod {
    Cfg,
    ZeroStar,
    Apg,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawStart {
    Unconditional,
    Conditional,
}

impl RawGuidance {
    /// The guidance, and the network that it is relative to, if that is another one.
    pub(super) fn parse(self) -> Checked<(Guidance, Option<PathBuf>)> {
        let method = value(&self.method).unwrap_or(RawMethod::Cfg);
        if !matches!(method, RawMethod::ZeroStar) {
            refuse("only the method zero-star has it", &[("zero_steps", span(&self.zero_steps))])?;
        }
        if !matches!(method, RawMethod::Apg) {
            let keys =
                [("momentum", span(&self.momentum)), ("norm", span(&self.norm)), ("eta", span(&self.eta))];
            refuse("only the method apg has it", &keys)?;
        }
        if self.interval.is_some() {
            refuse("`interval` says which steps are guided", &[("noise", span(&self.noise))])?;
        }
        let guidance = Guidance {
            method: match method {
                RawMethod::Cfg => Method::ClassifierFree,
                RawMethod::ZeroStar => {
                    Method::ZeroStar { zero_steps: value(&self.zero_steps).unwrap_or(1).min(MAX_STEPS) }
                }
                RawMethod::Apg => Method::Projected {
                    momentum: value(&self.momentum),
                    norm: value(&self.norm),
                    eta: value(&self.eta).unwrap_or(1.0),
                },
            },
            scale: *self.scale.get_ref(),
            start: match value(&self.start) {
                Some(RawStart::Conditional) => Start::Conditional,
                Some(RawStart::Unconditional) | None => Start::Unconditional,
            },
            rescale: value(&self.rescale).unwrap_or(0.0),
            interval: match (&self.interval, &self.noise) {
                (Some(ends), _) => Interval::Steps(ends.get_ref().0),
                (None, Some(ends)) => Interval::Noise(ends.get_ref().0),
                (None, None) => Interval::Steps([0.0, 1.0]),
            },
        };
        match guidance.check() {
            Ok(()) => Ok((guidance, self.network.map(|network| network.0))),
            Err(error) => Err(Fault { at: self.scale.span(), problem: format!("`[guidance]`: {error}") }),
        }
    }
}
