//! From the file to a [`Manifest`]: which keys go together, and where a mistake is.

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    fmt, format,
    ops::Range,
    path::PathBuf,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use toml::Spanned;

use super::{
    Condition, HeightTransform, Heightmap, Input, Manifest, ManifestError, Model, Output, OutputKind, Role,
    Sampling, file::*,
};
use crate::sampler::Family;

/// Parses the text of the manifest that stands at `origin`.
pub(super) fn manifest(text: &str, origin: PathBuf) -> Result<Manifest, ManifestError> {
    let parsed =
        toml::from_str::<RawManifest>(text).map_err(|error| Fault::from_toml(error, text)).and_then(|raw| {
            let inputs = inputs(raw.inputs)?;
            let sampling = raw.sampling.parse()?;
            check_roles(&inputs, &sampling)?;
            Ok((raw.model.parse(), raw.output.parse(&inputs)?, inputs, sampling))
        });
    match parsed {
        Ok((model, output, inputs, sampling)) => {
            let inputs = inputs.into_iter().map(Spanned::into_inner).collect();
            Ok(Manifest { model, inputs, sampling: sampling.into_inner(), output, origin })
        }
        Err(Fault { at, problem }) => {
            let before = &text.as_bytes()[..at.start.min(text.len())];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            let problem = problem.replace(char::is_control, " ");
            Err(ManifestError::Invalid { path: origin, line, problem })
        }
    }
}

/// A mistake in the text: which bytes, and what to do about them.
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) problem: String,
}

pub(super) type Checked<T> = Result<T, Fault>;

impl Fault {
    fn from_toml(mut error: toml::de::Error, text: &str) -> Fault {
        let at = error.span().unwrap_or(0..0);
        // Without its input, toml names the key in place of quoting the text, if it has come as far as keys.
        error.set_input(None);
        let message = error.to_string();
        let problem = match (message.trim_end().rsplit_once("\nin "), text.get(at.clone())) {
            (Some((message, key)), _) => format!("{key}: {message}"),
            (None, Some(quote)) if !quote.trim().is_empty() => format!("`{quote}`: {}", message.trim_end()),
            (None, _) => message.trim_end().to_owned(),
        };
        Fault { at, problem }
    }
}

pub(super) fn fault<T, V>(at: &Spanned<T>, problem: impl fmt::Display) -> Checked<V> {
    Err(Fault { at: at.span(), problem: problem.to_string() })
}

pub(super) fn value<T: Copy>(key: &Key<T>) -> Option<T> {
    key.as_ref().map(|key| *key.get_ref())
}

pub(super) fn span<T>(key: &Key<T>) -> Option<Range<usize>> {
    key.as_ref().map(Spanned::span)
}

/// The key's value, or an error at what needs it.
pub(super) fn required<N>(
    name: &str,
    key: &Key<Positive>,
    needed_by: &Spanned<N>,
    why: &str,
) -> Checked<f64> {
    value(key).map_or_else(|| fault(needed_by, format_args!("`{name}` is missing: {why}")), |key| Ok(key.0))
}

/// A key that would be read and ignored is a mistake that nobody sees.
pub(super) fn refuse(why: &str, keys: &[(&str, Option<Range<usize>>)]) -> Checked<()> {
    keys.iter().try_for_each(|(name, at)| match at.clone() {
        Some(at) => Err(Fault { at, problem: format!("`{name}` has no meaning here: {why}") }),
        None => Ok(()),
    })
}

impl RawModel {
    fn parse(self) -> Model {
        let line = |line: Line| line.0;
        Model {
            name: self.name.0,
            network: self.network.0,
            summary: self.summary.map(line),
            license: self.license.map(line),
        }
    }
}

/// The inputs in the order of the file, each with its place.
fn inputs(raw: Spanned<BTreeMap<Line, Spanned<RawInput>>>) -> Checked<Vec<Spanned<Input>>> {
    let at = raw.span();
    let parse = |(Line(name), input): (Line, Spanned<RawInput>)| {
        let at = input.span();
        let role = input.into_inner().parse(&name)?;
        Ok(Spanned::new(at, Input { name, role }))
    };
    let mut inputs = raw.into_inner().into_iter().map(parse).collect::<Checked<Vec<_>>>()?;
    inputs.sort_by_key(|input| input.span().start);
    if !inputs.iter().any(|input| matches!(input.get_ref().role, Role::State { .. })) {
        let problem = "no input of `inputs` has the role \"state\": name the noisy sample".to_owned();
        return Err(Fault { at, problem });
    }
    Ok(inputs)
}

impl RawInput {
    fn parse(self, name: &str) -> Checked<Role> {
        let role = *self.role.get_ref();
        if role == RawRole::Condition {
            return self.condition(name).map(Role::Condition);
        }
        let only_condition = [
            ("default", span(&self.default)),
            ("range", span(&self.range)),
            ("integer", span(&self.integer)),
        ];
        refuse("only an input with the role \"condition\" has it", &only_condition)?;
        if role != RawRole::State {
            refuse("a time is one number for each sample", &[("shape", span(&self.shape))])?;
        }
        match (role, self.shape) {
            (RawRole::Time, _) => Ok(Role::Time),
            (RawRole::Target, _) => Ok(Role::Target),
            (RawRole::Duration, _) => Ok(Role::Duration),
            (_, Some(shape)) => Ok(Role::State { shape: shape.into_inner().0 }),
            (_, None) => fault(&self.role, format_args!("`shape` is missing: the state `{name}` needs one")),
        }
    }

    fn condition(self, name: &str) -> Checked<Condition> {
        let at = span(&self.default);
        // A list of defaults is a shape already.
        let (default, listed) = match self.default.map(Spanned::into_inner) {
            None => (None, Vec::new()),
            Some(Numbers::One(value)) => (Some(vec![value]), Vec::new()),
            Some(Numbers::List(values)) => {
                let shape = vec![values.len()];
                (Some(values), shape)
            }
        };
        let condition = Condition {
            shape: self.shape.map_or(listed, |shape| shape.into_inner().0),
            default,
            range: value(&self.range).map(|range| range.0),
            integer: value(&self.integer).unwrap_or(false),
        };
        if let (Some(at), Some(values)) = (at, &condition.default)
            && let Err(error) = condition.check(name, values)
        {
            return Err(Fault { at, problem: format!("`default`: {error}") });
        }
        Ok(condition)
    }
}

/// One state, one time, and for a flow map the time it jumps to; nothing that nobody feeds.
fn check_roles(inputs: &[Spanned<Input>], sampling: &Spanned<Sampling>) -> Checked<()> {
    let find = |role: fn(&Role) -> bool| inputs.iter().filter(move |input| role(&input.get_ref().role));
    let roles: [fn(&Role) -> bool; 4] = [
        |role| matches!(role, Role::State { .. }),
        |role| *role == Role::Time,
        |role| *role == Role::Target,
        |role| *role == Role::Duration,
    ];
    if let Some(second) = roles.into_iter().find_map(|role| find(role).nth(1)) {
        return fault(
            second,
            format_args!("`{}` has a `role` that another input has: keep one", second.get_ref().name),
        );
    }
    if find(roles[1]).next().is_none() {
        return fault(sampling, "no input of `inputs` has the role \"time\": say which one reads it");
    }
    let jump = find(roles[2]).chain(find(roles[3])).next();
    match (sampling.get_ref().family, jump) {
        (Family::FlowMap, None) => fault(
            sampling,
            "no input of `inputs` has the role \"target\" or \"duration\": a flow-map needs one",
        ),
        (Family::Consistency | Family::RectifiedFlow | Family::Diffusion, Some(input)) => fault(
            input,
            format_args!("`{}` has a `role` that only the family flow-map uses", input.get_ref().name),
        ),
        _ => Ok(()),
    }
}

impl RawOutput {
    fn parse(self, inputs: &[Spanned<Input>]) -> Checked<Output> {
        let kind = *self.kind.get_ref();
        if kind != RawKind::Image {
            refuse("only the kind \"image\" has it", &[("range", span(&self.range))])?;
        }
        if kind != RawKind::Heightmap {
            let keys = [
                ("transform", span(&self.transform)),
                ("scale", span(&self.scale)),
                ("height_range", span(&self.height_range)),
                ("zero_floor", span(&self.zero_floor)),
            ];
            refuse("only the kind \"heightmap\" has it", &keys)?;
        }
        let channels: &[usize] = match kind {
            RawKind::Tensor => &[],
            RawKind::Image => &[1, 3, 4],
            RawKind::Heightmap => &[1],
        };
        let fits = |input: &Spanned<Input>| match &input.get_ref().role {
            Role::State { shape } => shape.len() == 3 && channels.contains(&shape[0]),
            _ => false,
        };
        if kind != RawKind::Tensor && !inputs.iter().any(fits) {
            return fault(
                &self.kind,
                format_args!(
                    "this `kind` needs a state of shape [channels, rows, columns] with channels in {channels:?}"
                ),
            );
        }
        let kind = match kind {
            RawKind::Tensor => OutputKind::Tensor,
            RawKind::Image => {
                OutputKind::Image { range: value(&self.range).map_or([-1.0, 1.0], |range| range.0) }
            }
            RawKind::Heightmap => OutputKind::Heightmap(self.heightmap()?),
        };
        Ok(Output { name: self.name.map(|name| name.0), kind })
    }

    fn heightmap(&self) -> Checked<Heightmap> {
        let transform = match value(&self.transform) {
            Some(RawTransform::Asinh) => {
                let why = "asinh needs the metres that it divides by";
                HeightTransform::Asinh { scale: required("scale", &self.scale, &self.kind, why)? }
            }
            Some(RawTransform::Linear) | None => {
                refuse("only the transform asinh uses it", &[("scale", span(&self.scale))])?;
                HeightTransform::Linear
            }
        };
        let why = "write the largest height in metres";
        Ok(Heightmap {
            transform,
            height_range: required("height_range", &self.height_range, &self.kind, why)?,
            zero_floor: value(&self.zero_floor).unwrap_or(false),
        })
    }
}
