//! What holds of every manifest and its types leave open, whether it is written or archived.

use std::{
    format,
    path::{Component, Path},
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Condition, Encoding, HeightTransform, Heightmap, Input, Manifest, Model, Output, OutputKind, Role,
    Sampling,
};
use crate::sampler::{Family, MAX_STEPS, Parameterisation, Prediction, Process};

const MAX_RANK: usize = 8;
const MAX_ELEMENTS: usize = 1 << 31;

type Rule = Result<(), &'static str>;

/// All rules, for a manifest that nobody has parsed.
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
    let Manifest { model, inputs, sampling, guidance, guide, output, .. } = manifest;
    let Model { name, network, summary, license } = model;
    let lines = [Some(name), summary.as_ref(), license.as_ref(), output.name.as_ref()];
    lines.into_iter().flatten().try_for_each(|text| line(text))?;
    [Some(network), guide.as_ref()].into_iter().flatten().try_for_each(|path| inner_path(path))?;
    for (i, input) in inputs.iter().enumerate() {
        line(&input.name)?;
        if inputs[..i].iter().any(|other| other.name == input.name) {
            return Err(format!("there are two inputs `{}`", input.name));
        }
        match &input.role {
            Role::State { shape: sizes } => shape(sizes).map_err(ToString::to_string)?,
            Role::Condition(own) => condition(&input.name, own)?,
            _ => {}
        }
    }
    sampled(sampling)?;
    let inputs: Vec<&Input> = inputs.iter().collect();
    roles(&inputs, sampling).map_err(|broken| broken.problem)?;
    guidance.map_or(Ok(()), |guidance| guidance.check()).map_err(|error| error.to_string())?;
    shown(output, manifest.state_shape())
}

/// Text that fits a message or a terminal.
pub(super) fn line(text: &str) -> Rule {
    let fits = !text.is_empty() && text.len() <= 200 && !text.contains(char::is_control);
    fits.then_some(()).ok_or("write one line of 1 to 200 bytes")
}

/// A path that cannot leave its folder.
pub(super) fn inner_path(path: &Path) -> Rule {
    // Backslashes and colons are letters here, and a way out of the folder on Windows.
    let plain = path.to_str().is_some_and(|text| !text.is_empty() && !text.contains(['\\', ':', '\0']));
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && inside)
        .then_some(())
        .ok_or("write a path inside the manifest's folder: relative, with `/`, without `..`")
}

/// The shape of one sample of an input.
pub(super) fn shape(sizes: &[usize]) -> Rule {
    let elements = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let fits = matches!(elements, Some(1..=MAX_ELEMENTS)) && sizes.len() <= MAX_RANK;
    fits.then_some(()).ok_or("write up to 8 sizes above 0, without the batch, of at most 2^31 elements")
}

pub(super) fn positive(value: f64) -> Rule {
    (value.is_finite() && value > 0.0).then_some(()).ok_or("write a finite number above 0")
}

pub(super) fn interval([low, high]: [f64; 2]) -> Rule {
    let fits = low.is_finite() && high.is_finite() && low < high;
    fits.then_some(()).ok_or("write [smallest, largest], both finite")
}

fn condition(name: &str, condition: &Condition) -> Result<(), String> {
    shape(&condition.shape)?;
    condition.range.map_or(Ok(()), interval)?;
    if let Some(Encoding::Scaled { scale } | Encoding::Excess { scale }) = condition.encoding {
        positive(scale)?;
    }
    let mut values = [&condition.default, &condition.negative].into_iter().flatten();
    values.try_for_each(|values| condition.check(name, values)).map_err(|error| error.to_string())
}

/// The default run can be sampled.
fn sampled(sampling: &Sampling) -> Result<(), String> {
    let Sampling { family, sampler, steps, max_steps, .. } = sampling;
    if !sampler.families.contains(family) {
        return Err(format!("the sampler {} is not one of the family {family}", sampler.name));
    }
    if *max_steps > MAX_STEPS || steps > max_steps {
        return Err(format!("{steps} of at most {max_steps} steps: there are up to {MAX_STEPS}"));
    }
    sampling.run(sampler).map(drop).map_err(|error| error.to_string())
}

/// The state can be shown as what the output is said to be.
fn shown(output: &Output, state: &[usize]) -> Result<(), String> {
    if !output.kind.fits(state) {
        return Err("the state is not of the shape of the output's kind".to_string());
    }
    match output.kind {
        OutputKind::Tensor => {}
        OutputKind::Image { range } => interval(range)?,
        OutputKind::Heightmap(Heightmap { transform, height_range, .. }) => {
            positive(height_range)?;
            if let HeightTransform::Asinh { scale } = transform {
                positive(scale)?;
            }
        }
    }
    Ok(())
}

impl OutputKind {
    /// How many channels it may have; `None`: it need not have any.
    pub(super) fn channels(&self) -> Option<&'static [usize]> {
        match self {
            OutputKind::Tensor => None,
            OutputKind::Image { .. } => Some(&[1, 3, 4]),
            OutputKind::Heightmap(_) => Some(&[1]),
        }
    }

    /// Whether a state of this shape is one of channels, rows and columns, if it has to be.
    pub(super) fn fits(&self, state: &[usize]) -> bool {
        self.channels().is_none_or(|channels| state.len() == 3 && channels.contains(&state[0]))
    }
}

/// A rule about several parts of a manifest that does not hold: where to say so, and what to do.
#[cfg_attr(not(feature = "compile"), expect(dead_code, reason = "archives have no lines"))]
pub(super) struct Broken {
    pub(super) at: Part,
    pub(super) problem: String,
}

#[cfg_attr(not(feature = "compile"), expect(dead_code, reason = "archives have no lines"))]
pub(super) enum Part {
    /// By its number.
    Input(usize),
    Inputs,
    Sampling,
}

fn broken(at: Part, problem: impl Into<String>) -> Result<(), Broken> {
    Err(Broken { at, problem: problem.into() })
}

/// One state, what its moment needs to be known by, and nothing that nobody feeds.
pub(super) fn roles(inputs: &[&Input], sampling: &Sampling) -> Result<(), Broken> {
    let find = |role: fn(&Role) -> bool| (0..inputs.len()).filter(move |&i| role(&inputs[i].role));
    let roles: [fn(&Role) -> bool; 8] = [
        |role| matches!(role, Role::State { .. }),
        |role| *role == Role::Time,
        |role| *role == Role::Target,
        |role| *role == Role::Duration,
        |role| *role == Role::Step,
        |role| *role == Role::Steps,
        |role| matches!(role, Role::Condition(Condition { encoding: Some(_), .. })),
        |role| matches!(role, Role::Condition(Condition { prior: true, .. })),
    ];
    if let Some(second) = roles.into_iter().find_map(|role| find(role).nth(1)) {
        let name = &inputs[second].name;
        let problem = format!("`{name}` has a `role` that another input has: keep one");
        return broken(Part::Input(second), problem);
    }
    let [state, time, target, duration, step, steps, _, prior] = roles.map(|role| find(role).next());
    if state.is_none() {
        return broken(Part::Inputs, "no input of `inputs` has the role \"state\": name the noisy sample");
    }
    let Sampling { family, max_steps, parameterisation, .. } = sampling;
    let only = |input: usize, what: &str| {
        broken(Part::Input(input), format!("`{}` has a `role` that only {what} uses", inputs[input].name))
    };
    if parameterisation.prediction == Prediction::NextState {
        if step.is_none() {
            return broken(
                Part::Sampling,
                "no input of `inputs` has the role \"step\": the update inside the network needs one",
            );
        }
    } else if let Some(input) = step.or(steps) {
        return only(input, "the prediction \"next-state\"");
    } else if time.is_none() && *max_steps > 1 {
        return broken(
            Part::Sampling,
            "no input of `inputs` has the role \"time\": say which one reads it, or write `max_steps = 1`",
        );
    }
    check_prior(prior, inputs, sampling)?;
    match (family, target.or(duration)) {
        (Family::FlowMap, None) => broken(
            Part::Sampling,
            "no input of `inputs` has the role \"target\" or \"duration\": a flow-map needs one",
        ),
        (Family::Consistency | Family::RectifiedFlow | Family::Diffusion, Some(input)) => {
            only(input, "the family flow-map")
        }
        _ => Ok(()),
    }
}

/// An observation that the state is relative to: as long as the state, and with a prediction of differences.
fn check_prior(prior: Option<usize>, inputs: &[&Input], sampling: &Sampling) -> Result<(), Broken> {
    let Parameterisation { process, prediction, .. } = sampling.parameterisation;
    let Some(prior) = prior else {
        return match process {
            Process::MeanReverting { .. } => broken(
                Part::Sampling,
                "no input of `inputs` has `prior = true`: say which one the noise leads to",
            ),
            _ => Ok(()),
        };
    };
    let name = &inputs[prior].name;
    let elements = |role: &Role| match role {
        Role::State { shape } => Some(shape.iter().product::<usize>()),
        Role::Condition(condition) if condition.prior => Some(condition.elements()),
        _ => None,
    };
    let mut lengths = inputs.iter().filter_map(|input| elements(&input.role));
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        let problem = format!("`{name}` has a `prior` of another length than the state: write its `shape`");
        return broken(Part::Input(prior), problem);
    }
    match prediction {
        Prediction::Score | Prediction::Epsilon | Prediction::Velocity => Ok(()),
        _ => broken(
            Part::Input(prior),
            format!(
                "`{name}` has a `prior`, for which the prediction must be \"score\", \"epsilon\" or \"velocity\""
            ),
        ),
    }
}
