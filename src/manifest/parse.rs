//! From the file to a [`Manifest`]: which keys go together, and where a mistake is.

use std::{
    borrow::ToOwned,
    fmt, format, fs,
    ops::Range,
    path::{Path, PathBuf},
    string::{String, ToString},
};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    HeightTransform, Heightmap, Input, Manifest, ManifestError, Model, Output, OutputKind, Role,
    diffusers::{self, Keys},
    file::*,
    guidance::RawGuidance,
    roles::{check_roles, inputs},
    speech::Speech,
};

/// Parses the text of the manifest that stands at `origin`.
pub(super) fn manifest(text: &str, origin: PathBuf) -> Result<(Manifest, Option<Speech>), ManifestError> {
    let parsed = read(text, &origin).and_then(|raw| {
        let table = raw.inputs.span();
        let inputs = inputs(raw.inputs.into_inner())?;
        let sampling = raw.sampling.parse()?;
        check_roles(&inputs, &sampling, table)?;
        let guidance = raw.guidance.map(RawGuidance::parse).transpose()?;
        let speech = raw.speech.map(|speech| speech.parse(&inputs)).transpose()?;
        Ok((raw.model.parse(), raw.output.parse(&inputs)?, inputs, sampling, guidance, speech))
    });
    match parsed {
        Ok((model, output, inputs, sampling, guidance, speech)) => {
            let (guidance, guide) =
                guidance.map_or((None, None), |(guidance, guide)| (Some(guidance), guide));
            let inputs = inputs.into_iter().map(Spanned::into_inner).collect();
            let sampling = sampling.into_inner();
            Ok((Manifest { model, inputs, sampling, guidance, guide, output, origin }, speech))
        }
        Err(Fault { at, problem }) => {
            let before = &text.as_bytes()[..at.start.min(text.len())];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            let problem = problem.replace(char::is_control, " ");
            Err(ManifestError::Invalid { path: origin, line, problem })
        }
    }
}

/// The file as it is written, with the keys of the scheduler that it names.
fn read(text: &str, origin: &Path) -> Checked<RawManifest> {
    let keys: Keys;
    let mut document = DeTable::parse(text).map_err(|error| Fault::from_toml(error, text))?;
    if let Some(DeValue::Table(sampling)) = document.get_mut().get_mut("sampling").map(Spanned::get_mut)
        && let Some(named) = sampling.remove("scheduler")
    {
        keys = scheduler(&named, origin)?;
        diffusers::include(sampling, &keys, named.span())?;
    }
    RawManifest::deserialize(toml::Deserializer::from(document))
        .map_err(|error| Fault::from_toml(error, text))
}

/// The keys of the scheduler's configuration that is named.
fn scheduler(named: &Spanned<DeValue<'_>>, origin: &Path) -> Checked<Keys> {
    let path = match named.get_ref() {
        DeValue::String(path) => InnerPath::try_from(path.to_string()),
        _ => Err("write the path of a `scheduler_config.json`"),
    };
    let path = match path {
        Ok(InnerPath(path)) => origin.parent().unwrap_or(Path::new("")).join(path),
        Err(problem) => return fault(named, format_args!("`scheduler`: {problem}")),
    };
    let json = fs::read_to_string(&path).map_err(|error| error.to_string());
    let keys = json.and_then(|json| diffusers::keys(&json).map_err(|error| error.to_string()));
    keys.or_else(|problem| fault(named, format_args!("{}: {problem}", path.display())))
}

/// A mistake in the text: which bytes, and what to do about them.
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) problem: String,
}

pub(super) type Checked<T> = Result<T, Fault>;

impl Fault {
    pub(super) fn from_toml(mut error: toml::de::Error, text: &str) -> Fault {
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
        let kind = match kind {
            RawKind::Tensor => OutputKind::Tensor,
            RawKind::Image => {
                OutputKind::Image { range: value(&self.range).map_or([-1.0, 1.0], |range| range.0) }
            }
            RawKind::Heightmap => OutputKind::Heightmap(self.heightmap()?),
        };
        let fits = |input: &Spanned<Input>| match &input.get_ref().role {
            Role::State { shape } => kind.fits(shape),
            _ => false,
        };
        if let Some(channels) = kind.channels().filter(|_| !inputs.iter().any(fits)) {
            return fault(
                &self.kind,
                format_args!(
                    "this `kind` needs a state of shape [channels, rows, columns] with channels in {channels:?}"
                ),
            );
        }
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
