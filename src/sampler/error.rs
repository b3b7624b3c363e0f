//! What can go wrong before the first step and during one.

use core::fmt;

use super::{MAX_STEPS, SAMPLERS, SCHEDULES};

/// Why there is no table, or why a step could not be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("there is no sampler `{name}`; there are {}", SamplerNames)]
    UnknownSampler { name: ShortName },
    #[error("there is no schedule `{name}`; there are {}", ScheduleNames)]
    UnknownSchedule { name: ShortName },
    #[error("0 steps produce nothing: ask for 1 to {MAX_STEPS}")]
    NoSteps,
    #[error("{steps} steps are too many: ask for 1 to {MAX_STEPS}")]
    TooManySteps { steps: usize },
    #[error("{evaluations} network evaluations are too many: take fewer steps, for at most {MAX_STEPS}")]
    TooManyEvaluations { evaluations: usize },
    #[error("times[{index}] is {value}: times must be finite and not negative")]
    BadTime { index: usize, value: f64 },
    #[error("times[{index}] = {value} is not above the {next} after it: times must fall from noise to data")]
    NotFalling { index: usize, value: f64, next: f64 },
    #[error("the first time is {first}, above the noisiest the network knows: start at {start} or below")]
    AboveStart { first: f64, start: f64 },
    #[error("the last time is {last}, which is not yet data: end the list with {end}")]
    Unfinished { last: f64, end: f64 },
    #[error("point {index} is outside a grid of {points} points: use 0 to {}", points.saturating_sub(1))]
    OutsideGrid { index: usize, points: usize },
    #[error("this grid has no times for {what}: use {accepts}")]
    BadGrid { what: &'static str, accepts: &'static str },
    #[error("{name} is {value}: it must be {must}")]
    BadSetting { name: &'static str, value: f64, must: &'static str },
    #[error("sampler `{sampler}` cannot use {what}: it needs {accepts}")]
    Unsupported { sampler: &'static str, what: &'static str, accepts: &'static str },
    #[error("step {step} does not go through a clean sample that could be edited: choose another sampler")]
    NoClean { step: usize },
    #[error("the edit {edit} needs {needs}: choose another, or another model")]
    BadEdit { edit: &'static str, needs: &'static str },
    #[error("{name} has {found} values and the state has {expected}: pass slices of one length")]
    Length { name: &'static str, found: usize, expected: usize },
    #[error("{name} has {found} values: this window and state need {expected}")]
    WindowLength { name: &'static str, found: usize, expected: usize },
    #[error("there is no step {step} in a table of {steps} steps")]
    NoSuchStep { step: usize, steps: usize },
    #[error("the history has {found} values: this table and state need {expected}")]
    HistoryLength { found: usize, expected: usize },
    #[error("this step adds noise and got none: fill a slice as long as the state and pass it")]
    MissingNoise,
    #[error("this step looks back at earlier estimates: take it with `advance`, which keeps them")]
    MissingHistory,
}

/// A name as it was asked for, cut to what an error can carry without a heap.
pub type ShortName = heapless::String<40>;

pub(super) fn shorten(name: &str) -> ShortName {
    // `collect` would panic on a name that is too long.
    let mut short = ShortName::new();
    for character in name.chars() {
        if short.push(character).is_err() {
            break;
        }
    }
    short
}

struct SamplerNames;

impl fmt::Display for SamplerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listed(f, SAMPLERS.iter().map(|sampler| sampler.name))
    }
}

struct ScheduleNames;

impl fmt::Display for ScheduleNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listed(f, SCHEDULES.iter().map(|schedule| schedule.name))
    }
}

fn listed(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'static str>) -> fmt::Result {
    for (i, name) in names.enumerate() {
        write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}
