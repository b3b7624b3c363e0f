//! `fewstep sample`: noise becomes samples, and samples a picture or an array.
#![forbid(unsafe_code)]

use super::choice::{Choice, SchedulerError};
use super::npy::{self, Array, Elements, NpyError};
use super::pipeline::{self, DrawError, PromptArgs};
use super::progress::Progress;
use super::provider::{ArgumentError, computed, note_fallback};
use super::reference::{ReferenceArgs, ReferenceError};
use super::sample_file::{FileError, SampleFile};
use super::speech::{self, SpeakError, SpeechArgs};
use super::{IsaError, PrintError, Running, assignment, count, models, print, time};
use fewstep::cache::CacheError;
use fewstep::manifest::{Condition, ConditionError, Manifest, RequestError};
use fewstep::pipeline::Folder;
use fewstep::pipeline::speech::Speech;
use fewstep::sampler::{self, GENERATORS, NamedGenerator, Noise};
use fewstep::session::{self, Flow, Run, Session, SessionError};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A model with so many classes at most shows one sample of each by itself.
const SHEET_CLASSES: usize = 16;
/// Samples from one noise to another.
const BETWEEN: usize = 8;

/// Draw samples: a picture, or an array of numbers.
///
/// Sample i comes from the noise of seed SEED + i, as PyTorch draws it on a CPU unless --rng says otherwise, so that a sample of many is the
/// same as that sample alone. The first whole-number condition with a range (a class) that gets no value goes through
/// its range, one value a sample; other conditions have the manifest's default.
///
/// A folder with a model_index.json, which diffusers or optimum exported to ONNX, draws what --prompt says; one whose
/// manifest has a table [speech] says it (docs/speech.md).
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct Sample {
    /// An embedded model's name, a folder with a fewstep.toml, that file, an .onnx file beside it, or a pipeline's folder or bundle
    #[arg(default_value = "digits")]
    pub model: PathBuf,
    /// Number of samples [default: one of each class, or one if there are no classes or too many]
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub speech: SpeechArgs,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub reference: ReferenceArgs,
    /// A condition's value for all samples, or one value for each of its elements
    #[arg(long = "cond", value_name = "NAME=VALUE[,VALUE..]", value_parser = values)]
    pub conditions: Vec<(String, Vec<f64>)>,
    /// What guidance moves away from, in the place of a condition's value
    #[arg(long = "negative", value_name = "NAME=VALUE[,VALUE..]", value_parser = values)]
    pub negatives: Vec<(String, Vec<f64>)>,
    /// Seed of the first sample; the next one's is one more
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Whose random numbers: torch-cpu, torch-cuda, numpy, numpy-legacy, jax, jax-legacy, philox (docs/random.md)
    #[arg(long, value_name = "NAME", default_value = "torch-cpu", value_parser = generator)]
    pub rng: &'static NamedGenerator,
    /// Start from the unit normal noise in this array, with the shape of a sample or of several
    #[arg(long, value_name = "FILE.npy")]
    pub noise: Option<PathBuf>,
    /// Go from the noise of one seed to that of another in COUNT samples [default: 8]
    #[arg(long, value_name = "SEED,SEED", value_parser = seeds, conflicts_with_all = ["noise", "seed"])]
    pub between: Option<[u64; 2]>,
    #[command(flatten)]
    pub running: Running,
    /// A picture, speech, or the samples as numbers, height maps in metres [default: NAME.png, NAME.wav for speech, NAME.npy
    /// for what is neither]
    #[arg(short = 'o', long, value_name = "FILE.png|.wav|.npy")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(
        "{}: there is no fewstep.toml that says how this network is sampled; write one beside it (docs/manifest.md), or \
         evaluate it once with `fewstep run`", .0.display()
    )]
    NoManifest(PathBuf),
    #[error("{option} {name} is given twice; give it once")]
    ConditionTwice { option: &'static str, name: String },
    #[error("{option}: {source}")]
    Condition { option: &'static str, source: ConditionError },
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    #[error("--between needs two samples at least; ask for more with -n")]
    Between,
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Npy(#[from] NpyError),
    #[error("{}: the noise is {found}; one sample needs f32{shape:?}, several f32 with their number before that", path.display())]
    Noise { path: PathBuf, found: String, shape: Vec<usize> },
    #[error("{}: there is noise for {found}, but -n asks for {wanted}; leave one of them out", path.display())]
    NoiseCount { path: PathBuf, found: usize, wanted: usize },
    #[error(transparent)]
    Source(#[from] models::SourceError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: Box<SessionError> },
    #[error("sample {index}: {source}")]
    Session { index: usize, source: Box<SessionError> },
    #[error(transparent)]
    Sampler(#[from] sampler::Error),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    Speak(#[from] SpeakError),
}

impl Sample {
    pub fn run(&self) -> Result<(), SampleError> {
        if Folder::is_one(&self.model) {
            return Ok(pipeline::draw(self)?);
        }
        if Speech::is_one(&self.model) {
            return Ok(speech::speak(self)?);
        }
        self.prompt.check_absent()?;
        let provider = self.running.provider()?;
        let source = models::find(&self.model)?;
        let own = source.manifest.as_ref().ok_or_else(|| SampleError::NoManifest(source.path().into()))?;
        let manifest = &self.choice.manifest(own)?;
        let request = self.choice.request(self.reference.strength());
        manifest.guidance(&request)?;
        check_conditions("--cond", manifest, &self.conditions)?;
        check_conditions("--negative", manifest, &self.negatives)?;
        let reference = self.reference.load(manifest)?;
        manifest.table(&request)?;
        let order = Order::new(self, manifest)?;
        let file = SampleFile::new(self.output.as_deref(), manifest, order.count)?;

        let begin = Instant::now();
        let mut session =
            source.session(manifest, &provider, self.running.settings()?, self.running.cache()?.as_ref())?;
        note_fallback(session.network());
        let wrap = |error| SampleError::Open { path: source.path().into(), source: Box::new(error) };
        self.prepare(&mut session).map_err(wrap)?;
        if let Some(reference) = reference {
            reference.give(&mut session)?;
        }
        let opened = begin.elapsed();

        let begin = Instant::now();
        let samples = order.draw(&mut session)?;
        let sampled = begin.elapsed();
        file.write(samples, |sample| order.label(sample))?;

        let asked = self.choice.sampler.as_deref().and_then(|name| sampler::find(name).ok());
        let sampler = asked.unwrap_or(manifest.sampling.sampler).name;
        print(&format!(
            "{}: {} of {}, {sampler}, {}, {}, {} a sample, opened in {}\n",
            file.path().display(),
            count(order.count, "sample"),
            manifest.model.name,
            count(session.steps(), "step"),
            computed(session.network()),
            time(sampled.div_f64(order.count as f64)),
            time(opened),
        ))?;
        Ok(())
    }

    fn prepare(&self, session: &mut Session) -> Result<(), SessionError> {
        session.prepare(&self.choice.request(self.reference.strength()))?;
        for (name, values) in &self.conditions {
            session.set_condition(name, values)?;
        }
        for (name, values) in &self.negatives {
            session.set_negative(name, values)?;
        }
        Ok(())
    }
}

fn check_conditions(
    option: &'static str,
    manifest: &Manifest,
    given: &[(String, Vec<f64>)],
) -> Result<(), SampleError> {
    for (i, (name, values)) in given.iter().enumerate() {
        manifest.condition(name, values).map_err(|source| SampleError::Condition { option, source })?;
        if given[..i].iter().any(|(other, _)| other == name) {
            return Err(SampleError::ConditionTwice { option, name: name.clone() });
        }
    }
    Ok(())
}

/// `NAME=VALUE[,VALUE..]`.
fn values(text: &str) -> Result<(String, Vec<f64>), String> {
    let (name, values) = assignment(text)?;
    let number = |text: &str| match text.trim().parse() {
        Ok(value) if f64::is_finite(value) => Ok(value),
        _ => Err(format!("`{text}` is no number")),
    };
    Ok((name, values.split(',').map(number).collect::<Result<_, _>>()?))
}

/// `SEED,SEED`.
fn seeds(text: &str) -> Result<[u64; 2], String> {
    let seeds: Option<Vec<u64>> = text.split(',').map(|seed| seed.trim().parse().ok()).collect();
    seeds.and_then(|seeds| seeds.try_into().ok()).ok_or_else(|| "write two whole numbers, SEED,SEED".into())
}

/// A random number generator's name.
fn generator(name: &str) -> Result<&'static NamedGenerator, String> {
    let known = || GENERATORS.iter().map(|generator| generator.name).collect::<Vec<_>>().join(", ");
    GENERATORS.iter().find(|generator| generator.name == name).ok_or_else(|| format!("there are {}", known()))
}

/// The samples that are to be drawn.
struct Order {
    count: usize,
    seed: u64,
    /// From one sample's seed to the next.
    step: u64,
    rng: &'static NamedGenerator,
    classes: Option<Classes>,
    /// [count, elements of a sample]
    noise: Option<Vec<f32>>,
}

impl Order {
    fn new(args: &Sample, manifest: &Manifest) -> Result<Order, SampleError> {
        let classes = Classes::of(manifest, &args.conditions);
        let wanted = args.count.map(|count| count as usize);
        if let Some(ends) = args.between {
            let count = wanted.unwrap_or(BETWEEN);
            let noise = Some(interpolated(args.rng, ends, count, manifest.state_shape())?);
            return Ok(Order { count, seed: ends[0], step: 0, rng: args.rng, classes, noise });
        }
        let (noise, given) = match &args.noise {
            Some(path) => {
                let (noise, given) = read_noise(path, manifest.state_shape())?;
                if let Some(wanted) = wanted.filter(|&wanted| wanted != given) {
                    return Err(SampleError::NoiseCount { path: path.clone(), found: given, wanted });
                }
                (Some(noise), Some(given))
            }
            None => (None, None),
        };
        let each = classes.as_ref().map(|classes| classes.count);
        let each = each.filter(|&each| each <= SHEET_CLASSES && args.conditions.is_empty());
        let count = wanted.or(given).or(each).unwrap_or(1);
        Ok(Order { count, seed: args.seed, step: 1, rng: args.rng, classes, noise })
    }

    fn seed(&self, sample: usize) -> u64 {
        self.seed.wrapping_add(self.step * sample as u64)
    }

    /// What tells a sample from the others.
    fn label(&self, sample: usize) -> String {
        let class = self.classes.as_ref().map(|classes| classes.value(sample));
        let origin = match self.noise {
            Some(_) => format!("noise {sample}"),
            None => format!("seed {}", self.seed(sample)),
        };
        match (class, &self.classes) {
            _ if self.count == 1 => String::new(),
            (Some(class), Some(classes)) if self.count <= classes.count || self.count > 100 => {
                class.to_string()
            }
            (Some(class), _) => format!("{class}, {origin}"),
            (None, _) => origin,
        }
    }

    /// Draws the samples: [count, elements of a sample].
    fn draw(&self, session: &mut Session) -> Result<Vec<f32>, SampleError> {
        let (elements, steps) = (session.elements(), session.steps());
        let mut progress = Progress::new(self.count * steps);
        let mut samples = Vec::new();
        for index in 0..self.count {
            let wrap = |source| SampleError::Session { index, source: Box::new(source) };
            if let Some(classes) = &self.classes {
                session.set_condition(&classes.name, &[classes.value(index) as f64]).map_err(wrap)?;
            }
            let begin = samples.len();
            samples.resize(begin + elements, 0.0);
            let initial = self.noise.as_ref().map(|noise| &noise[begin..begin + elements]);
            let mut noise = (self.rng.new)(self.seed(index));
            let mut after = |reached: session::Progress<'_>| {
                progress.reach(index * steps + reached.step);
                Flow::Continue
            };
            // Whoever looks on needs the state here.
            let after = if session.keeps_state() { None } else { Some(&mut after as _) };
            let run = Run { initial, after, ..Run::default() };
            session.sample_with(run, &mut noise, &mut samples[begin..]).map_err(wrap)?;
            progress.reach((index + 1) * steps);
        }
        Ok(samples)
    }
}

/// Noise along the arc between that of two seeds: [count, elements of a sample].
fn interpolated(
    rng: &NamedGenerator,
    ends: [u64; 2],
    count: usize,
    shape: &[usize],
) -> Result<Vec<f32>, SampleError> {
    if count < 2 {
        return Err(SampleError::Between);
    }
    let elements = shape.iter().product();
    let [from, to] = ends.map(|seed| {
        let mut noise = vec![0.0; elements];
        (rng.new)(seed).fill_normal(&mut noise);
        noise
    });
    let mut all = from.repeat(count);
    for (i, noise) in all.chunks_mut(elements).enumerate() {
        sampler::slerp(noise, &to, i as f64 / (count - 1) as f64)?;
    }
    Ok(all)
}

/// The noise in a file, and for how many samples it is.
fn read_noise(path: &Path, shape: &[usize]) -> Result<(Vec<f32>, usize), SampleError> {
    let Array { shape: found, data } = npy::read(path)?;
    let count = match found.split_first() {
        _ if found == shape => 1,
        Some((&count, rest)) if rest == shape => count,
        _ => 0,
    };
    match data {
        Elements::F32(noise) if count > 0 => Ok((noise, count)),
        data => {
            let found = format!("{}{found:?}", data.dtype());
            Err(SampleError::Noise { path: path.into(), found, shape: shape.to_vec() })
        }
    }
}

/// A condition that goes through its range, one value a sample.
pub struct Classes {
    pub name: String,
    first: i64,
    count: usize,
}

impl Classes {
    /// The first whole-number condition with a range that is not given.
    pub fn of(manifest: &Manifest, given: &[(String, Vec<f64>)]) -> Option<Classes> {
        let classes = |(name, condition): (&str, &Condition)| {
            let [low, high] = condition.range.filter(|_| condition.integer && condition.elements() == 1)?;
            let (first, last) = (low.ceil() as i64, high.floor() as i64);
            let count =
                usize::try_from(last.checked_sub(first)?.checked_add(1)?).ok().filter(|&count| count > 0)?;
            Some(Classes { name: name.into(), first, count })
        };
        let open = |(name, _): &(&str, &Condition)| given.iter().all(|(other, _)| other != name);
        manifest.conditions().filter(open).find_map(classes)
    }

    pub fn value(&self, sample: usize) -> i64 {
        self.first + (sample % self.count) as i64
    }
}
