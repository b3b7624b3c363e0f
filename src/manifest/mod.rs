//! `fewstep.toml`: how an exported network is sampled.
//!
//! No standard says which input of an ONNX file is the noisy state, what its time means, or what its output is. A
//! manifest beside the file does. [`Manifest::parse`] turns its text into types that admit no contradiction, or
//! into one line that says where the mistake is: a [`Manifest`] that exists can be sampled. The reference of all
//! keys is `docs/manifest.md`. Plan files hold it [archived](Manifest::from_archive), so that devices need no parser.
#![forbid(unsafe_code)]

mod archive;
#[cfg(feature = "compile")]
mod diffusers;
mod encoding;
#[cfg(feature = "compile")]
mod file;
#[cfg(feature = "compile")]
mod guidance;
#[cfg(feature = "compile")]
mod parse;
mod request;
#[cfg(feature = "compile")]
mod roles;
mod rules;
#[cfg(feature = "compile")]
mod sampling;
#[cfg(feature = "compile")]
mod schedule;
#[cfg(feature = "compile")]
mod speech;
#[cfg(all(test, feature = "compile"))]
mod tests;

use std::{
    borrow::ToOwned,
    fmt,
    path::{Path, PathBuf},
    string::String,
    vec::Vec,
};
#[cfg(feature = "compile")]
use std::{
    fs,
    io::{self, Read},
};

use rkyv::{
    Archive, Deserialize, Serialize,
    with::{AsString, Map, Skip},
};

#[cfg(feature = "compile")]
pub use diffusers::ConfigError;
pub use encoding::Encoding;
pub use request::{Request, RequestError};
#[cfg(feature = "compile")]
pub use speech::{Speech, SpeechEncoder, Window};

use archive::ByName;

use crate::sampler::{
    self, Curve, Family, Grid, Guidance, Options, Parameterisation, Policy, Prediction, Rounding, Sampler,
    Stop, Table,
};

/// What a manifest is called in a model's folder.
pub const FILE_NAME: &str = "fewstep.toml";

/// The key under which an ONNX file's metadata may hold the text of a manifest instead.
pub const METADATA_KEY: &str = "fewstep";

/// Manifests are written by hand; anything longer is not one.
#[cfg(feature = "compile")]
const MAX_BYTES: u64 = 64 * 1024;

/// How one network is sampled.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub struct Manifest {
    pub model: Model,
    /// In the order of the file.
    pub inputs: Vec<Input>,
    pub sampling: Sampling,
    /// The guidance when none is asked for.
    pub guidance: Option<Guidance>,
    /// A weaker network that guides, relative to the manifest's folder, and inside it.
    #[rkyv(with = Map<AsString>)]
    pub guide: Option<PathBuf>,
    pub output: Output,
    /// Where the manifest stands, for messages and for the network's place.
    #[rkyv(with = Skip)]
    origin: PathBuf,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// Relative to the manifest's folder, and inside it.
    #[rkyv(with = AsString)]
    pub network: PathBuf,
    pub summary: Option<String>,
    pub license: Option<String>,
}

/// An input of the network, by its name in the ONNX file.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Input {
    pub name: String,
    pub role: Role,
}

/// What an input is for.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Role {
    /// The noisy sample, without its batch dimension.
    State { shape: Vec<usize> },
    /// `t`.
    Time,
    /// `s`, where a flow map jumps to.
    Target,
    /// `h = t - s`.
    Duration,
    /// The number of the step, from 0, of networks with the update inside.
    Step,
    /// How many steps there are.
    Steps,
    /// Chosen by the user: a class, a prompt's embedding, an observation.
    Condition(Condition),
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Condition {
    /// Without its batch dimension; empty for one number.
    pub shape: Vec<usize>,
    /// One value for all elements, or one for each. `None`: the user has to give it.
    pub default: Option<Vec<f64>>,
    /// What guidance moves away from: a null class, an empty prompt.
    pub negative: Option<Vec<f64>>,
    /// Smallest and largest value.
    pub range: Option<[f64; 2]>,
    /// Whole numbers only.
    pub integer: bool,
    /// What the noise leads to, and samples begin with: the observation that is enhanced.
    pub prior: bool,
    /// Of the scale of guidance, one number: how the network reads it.
    pub encoding: Option<Encoding>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub struct Sampling {
    pub family: Family,
    /// The sampler when none is asked for.
    #[rkyv(with = ByName)]
    pub sampler: &'static Sampler,
    /// The steps when no number is asked for.
    pub steps: usize,
    pub max_steps: usize,
    pub parameterisation: Parameterisation,
    /// Those that a sampler does not have are not passed to it.
    pub options: Options,
    pub curve: Curve<'static>,
    /// [`Grid::shift`].
    pub shift: f64,
    /// [`Grid::terminal`].
    pub terminal: Option<f64>,
    pub stop: Stop,
    /// [`Grid::rounding`].
    pub rounding: Option<Rounding>,
    /// Times that replace the schedule for one number of steps: theirs.
    pub times: Option<Vec<f64>>,
    /// The same as [`Curve::Sigmas`].
    pub sigmas: Option<Vec<f64>>,
}

/// What the network's output is, once sampled.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Output {
    /// Which output of the ONNX file; `None`: its first.
    pub name: Option<String>,
    pub kind: OutputKind,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum OutputKind {
    /// Numbers that are left as they are.
    Tensor,
    /// Channels, rows, columns; `range` is black and white.
    Image {
        range: [f64; 2],
    },
    Heightmap(Heightmap),
}

/// Heights in metres, which the network knows as -1 to 1.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Heightmap {
    pub transform: HeightTransform,
    /// The largest height; the smallest is 0.
    pub height_range: f64,
    /// Subtract the smallest height of each sample.
    pub zero_floor: bool,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum HeightTransform {
    Linear,
    /// The network's values are even in `asinh(metres / scale)`.
    Asinh {
        scale: f64,
    },
}

impl Manifest {
    /// A manifest of its parts, which something else than a manifest's file says, at `origin`: a path, which messages name
    /// and other files are relative to.
    ///
    /// # Errors
    /// If the parts contradict each other.
    pub fn new(
        origin: impl Into<PathBuf>,
        model: Model,
        inputs: Vec<Input>,
        sampling: Sampling,
        guidance: Option<Guidance>,
        output: Output,
    ) -> Result<Manifest, ManifestError> {
        let origin = origin.into();
        let manifest = Manifest { model, inputs, sampling, guidance, guide: None, output, origin };
        match rules::check(&manifest) {
            Ok(()) => Ok(manifest),
            Err(problem) => Err(ManifestError::Parts { path: manifest.origin, problem }),
        }
    }

    /// Reads a manifest, or the one in a folder. The scheduler's configuration that it names is read as well.
    #[cfg(feature = "compile")]
    pub fn read(path: impl AsRef<Path>) -> Result<Manifest, ManifestError> {
        Ok(read(path.as_ref())?.0)
    }

    /// Parses a manifest that stands at `origin`: a path, which messages name and other files are relative to.
    #[cfg(feature = "compile")]
    pub fn parse(text: &str, origin: impl Into<PathBuf>) -> Result<Manifest, ManifestError> {
        Ok(parse(text, origin.into())?.0)
    }

    /// Where the network is.
    pub fn network_path(&self) -> PathBuf {
        self.beside(&self.model.network)
    }

    /// Where the network that guides is.
    pub fn guide_path(&self) -> Option<PathBuf> {
        self.guide.as_deref().map(|guide| self.beside(guide))
    }

    /// Where a path that the manifest names is.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.origin.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The shape of one sample.
    pub fn state_shape(&self) -> &[usize] {
        let shape = self.inputs.iter().find_map(|input| match &input.role {
            Role::State { shape } => Some(&shape[..]),
            _ => None,
        });
        shape.unwrap_or_default()
    }

    /// The condition called `name`, if it may take `values`: one for all elements, or one for each.
    pub fn condition(&self, name: &str, values: &[f64]) -> Result<&Condition, ConditionError> {
        let (_, condition) = self.conditions().find(|(known, _)| *known == name).ok_or_else(|| {
            let known = self.conditions().map(|(known, _)| known.to_owned()).collect();
            ConditionError::Unknown { name: name.to_owned(), known: Names(known) }
        })?;
        condition.check(name, values)?;
        Ok(condition)
    }

    /// The scale of the guidance that was distilled into the network, if it reads one.
    pub fn distilled_guidance(&self) -> Option<&str> {
        self.conditions().find(|(_, condition)| condition.encoding.is_some()).map(|(name, _)| name)
    }

    pub fn conditions(&self) -> impl Iterator<Item = (&str, &Condition)> {
        self.inputs.iter().filter_map(|input| match &input.role {
            Role::Condition(condition) => Some((input.name.as_str(), condition)),
            _ => None,
        })
    }
}

/// A manifest, or the one in a folder, and what it says of speech.
#[cfg(feature = "compile")]
fn read(path: &Path) -> Result<(Manifest, Option<Speech>), ManifestError> {
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let mut text = String::new();
    let read = fs::File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(source) => Err(ManifestError::Unreadable { path, source }),
        Ok(_) => parse(&text, path),
    }
}

#[cfg(feature = "compile")]
fn parse(text: &str, origin: PathBuf) -> Result<(Manifest, Option<Speech>), ManifestError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(ManifestError::TooLarge { path: origin });
    }
    parse::manifest(text, origin)
}

impl Condition {
    /// How many numbers it has for one sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn check(&self, name: &str, values: &[f64]) -> Result<(), ConditionError> {
        let name = || name.to_owned();
        let expected = if self.encoding.is_some() { 1 } else { self.elements() };
        if values.len() != 1 && values.len() != expected {
            return Err(ConditionError::Length { name: name(), found: values.len(), expected });
        }
        for &value in values {
            // Above 2^53 not every whole number is an f64.
            if self.integer && !(value.trunc() == value && value.abs() <= 9_007_199_254_740_992.0) {
                return Err(ConditionError::NotWhole { name: name(), value });
            }
            let [low, high] = self.range.unwrap_or([f64::MIN, f64::MAX]);
            if !(low..=high).contains(&value) {
                return Err(ConditionError::OutOfRange { name: name(), value, low, high });
            }
        }
        Ok(())
    }
}

impl Sampling {
    /// The times of so many steps.
    pub fn grid(&self, steps: usize) -> Grid<'_> {
        let curve = match (&self.times, &self.sigmas) {
            (Some(times), _) if times.len() == steps + 1 => Curve::Times(times),
            (_, Some(sigmas)) if sigmas.len() == steps + 1 => Curve::Sigmas(sigmas),
            _ => self.curve,
        };
        let (shift, terminal) = (self.shift, self.terminal);
        Grid { curve, steps, shift, terminal, stop: self.stop, rounding: self.rounding }
    }

    /// How the velocities of a step become one, if the network gives several.
    pub fn policy(&self) -> Option<Policy> {
        match self.parameterisation.prediction {
            Prediction::VelocityGrid { points } => {
                Some(Policy { points: usize::from(points), shift: self.shift })
            }
            _ => None,
        }
    }

    fn options(&self, sampler: &Sampler) -> Options {
        let Options { eta, order, churn, .. } = self.options;
        Options {
            eta: eta.filter(|_| sampler.eta.is_some()),
            order: order.filter(|order| sampler.orders.contains(order)),
            churn: churn.filter(|_| sampler.churns),
            ..self.options
        }
    }

    /// The default run with this sampler.
    fn run(&self, sampler: &Sampler) -> Result<Table, sampler::Error> {
        sampler.table(&self.parameterisation, &self.grid(self.steps), &self.options(sampler))
    }
}

impl Heightmap {
    /// Turns one sample of the network, -1 to 1, into metres, in place.
    pub fn to_metres(&self, values: &mut [f32]) {
        let metres = |unit: f64| match self.transform {
            HeightTransform::Linear => unit * self.height_range,
            HeightTransform::Asinh { scale } => {
                scale * libm::sinh(unit * libm::asinh(self.height_range / scale))
            }
        };
        for value in values.iter_mut() {
            let unit = f64::from(((*value + 1.0) * 0.5).clamp(0.0, 1.0));
            *value = metres(unit).clamp(0.0, self.height_range) as f32;
        }
        if self.zero_floor {
            let floor = values.iter().copied().fold(f32::INFINITY, f32::min);
            values.iter_mut().for_each(|value| *value -= floor);
        }
    }
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[cfg(feature = "compile")]
    #[error("{}: cannot read the manifest: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[cfg(feature = "compile")]
    #[error("{}: longer than {MAX_BYTES} bytes, so it is not a manifest: give the path of a {FILE_NAME}", path.display())]
    TooLarge { path: PathBuf },
    #[cfg(feature = "compile")]
    #[error("{}:{line}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, problem: String },
    #[error("{}: this does not say how the network is sampled: {problem}", path.display())]
    Parts { path: PathBuf, problem: String },
    #[error("{}: the plan's manifest is not sound ({problem}); compile the model again", path.display())]
    Archive { path: PathBuf, problem: String },
}

/// Why a condition may not take a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConditionError {
    #[error("there is no condition `{name}`; there are {known}")]
    Unknown { name: String, known: Names },
    #[error("condition `{name}` got {found} values: it takes 1 or {expected}")]
    Length { name: String, found: usize, expected: usize },
    #[error("condition `{name}` = {value} is outside its range, {low} to {high}")]
    OutOfRange { name: String, value: f64, low: f64, high: f64 },
    #[error("condition `{name}` = {value} is not a whole number, which this network needs")]
    NotWhole { name: String, value: f64 },
}

/// Names in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    fn of(names: &[&str]) -> Names {
        Names(names.iter().map(|name| (*name).to_owned()).collect())
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn samplers(family: Family) -> Names {
    Names(family.samplers().map(|sampler| sampler.name.to_owned()).collect())
}
