//! `fewstep sample FOLDER --prompt TEXT`, `fewstep sample BUNDLE --prompt TEXT`: pictures of what a text says, by a pipeline's folder.
#![forbid(unsafe_code)]

use super::choice::SchedulerError;
use super::progress::Progress;
use super::provider::ArgumentError;
use super::reference::ReferenceError;
use super::sample::Sample;
use super::sample_file::{FileError, SampleFile};
use super::{IsaError, Precision, PrintError, assignment, count, note, print, time};
use clap::ValueEnum;
use fewstep::cache::CacheError;
use fewstep::manifest::OutputKind;
use fewstep::pipeline::{Event, Pipeline, PipelineError, Placement, Placements, Request};
use fewstep::session::Flow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a pipeline is to draw.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Pipeline")]
pub struct PromptArgs {
    /// What the picture is to show, or the phonemes to be spoken
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// What guidance moves away from
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    negative_prompt: Option<String>,
    /// Tokens of the prompt that T5 and Gemma read: fewer take less time [default: what the pipeline has in diffusers]
    #[arg(long, value_name = "COUNT", requires = "prompt")]
    prompt_tokens: Option<usize>,
    /// Columns of the picture [default: what the model was made for, or those of --init]
    #[arg(long, value_name = "PIXELS", requires = "prompt")]
    width: Option<u32>,
    /// Rows of the picture
    #[arg(long, value_name = "PIXELS", requires = "prompt")]
    height: Option<u32>,
    /// The precision of a component, where it is not that of all: vae=f32
    #[arg(long, value_name = "COMPONENT=auto|f32|f16", requires = "prompt", value_parser = precision)]
    precision_of: Vec<(String, Precision)>,
    /// A picture to write after each step, of what the step sees, with a pixel for each latent; the next one replaces it
    #[arg(long, value_name = "FILE.png", requires = "prompt")]
    preview: Option<PathBuf>,
    /// Decode the picture in tiles, which takes less memory
    #[arg(long, requires = "prompt")]
    tiled: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    #[error("{}: this is a pipeline, which draws what a text says; give one with --prompt", .0.display())]
    NoPrompt(PathBuf),
    #[error(
        "--prompt is for a folder with a model_index.json, or a manifest of speech, and MODEL is neither"
    )]
    NoPipeline,
    #[error("--preview: what latents of a {class} look like is not known; leave it out")]
    Unseen { class: &'static str },
    #[error("{0} has no meaning for a pipeline; leave it out")]
    Meaningless(&'static str),
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{}: {source}", path.display())]
    Pipeline { path: PathBuf, source: Box<PipelineError> },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl PromptArgs {
    pub fn text(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// What is asked for, which only pictures have.
    pub fn given_of_pictures(&self) -> Option<&'static str> {
        let given = [
            ("--negative-prompt", self.negative_prompt.is_some()),
            ("--prompt-tokens", self.prompt_tokens.is_some()),
            ("--width", self.width.is_some()),
            ("--height", self.height.is_some()),
            ("--preview", self.preview.is_some()),
            ("--tiled", self.tiled),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// That nothing is said to a pipeline where there is none.
    pub fn check_absent(&self) -> Result<(), DrawError> {
        if self.prompt.is_some() { Err(DrawError::NoPipeline) } else { Ok(()) }
    }
}

/// Draws the pictures that `sample` asks of a pipeline.
pub fn draw(args: &Sample) -> Result<(), DrawError> {
    let PromptArgs { prompt, negative_prompt, prompt_tokens, width, height, tiled, .. } = &args.prompt;
    let prompt = prompt.as_deref().ok_or_else(|| DrawError::NoPrompt(args.model.clone()))?;
    if let Some(name) = of_manifests(args).or_else(|| args.speech.given()) {
        return Err(DrawError::Meaningless(name));
    }
    let wrap = |source| DrawError::Pipeline { path: args.model.clone(), source: Box::new(source) };
    let placements = placements(args)?;
    let pipeline = Pipeline::open(&args.model, placements).map_err(wrap)?;
    let image = args.reference.picture(*height, *width)?;
    let size = image.as_ref().map(|image| (image.shape[1] as u32, image.shape[2] as u32));
    let mask = size.map(|(height, width)| args.reference.picture_mask(height, width)).transpose()?.flatten();
    let request = Request {
        prompt,
        negative_prompt: negative_prompt.as_deref(),
        prompt_tokens: *prompt_tokens,
        instructed: true,
        height: height.map(|height| height as usize),
        width: width.map(|width| width as usize),
        count: args.count.unwrap_or(1) as usize,
        seed: args.seed,
        rng: args.rng,
        sampling: args.choice.request(args.reference.strength()),
        image: image.as_ref(),
        mask: mask.as_ref(),
        tiled: *tiled,
    };
    let [height, width] = pipeline.size(&request).map_err(wrap)?;
    let kind = OutputKind::Image { range: [-1.0, 1.0] };
    let name = pipeline.class().name;
    let file = SampleFile::of(args.output.as_deref(), name, kind, &[3, height, width], request.count)?;

    let begin = Instant::now();
    let mut progress = None;
    let mut unseen = None;
    let mut watch = |event: Event<'_>| {
        match event {
            Event::Note(text) => note(text),
            Event::Opening(_) => {}
            Event::Step { picture, step, steps, clean, shape } => {
                let all = request.count * steps;
                progress.get_or_insert_with(|| Progress::new(all)).reach(picture * steps + step);
                let shown = args.prompt.preview.as_ref().map(|path| show(&pipeline, path, clean, shape));
                if let Some(Err(error)) = shown {
                    unseen = Some(error);
                    return Flow::Cancel;
                }
            }
        }
        Flow::Continue
    };
    let drawn = pipeline.generate(&request, &mut watch);
    if let Some(error) = unseen {
        return Err(error);
    }
    let drawn = drawn.map_err(wrap)?;
    let took = begin.elapsed();
    let steps = drawn.steps;
    let pixels = drawn.pictures.into_iter().flat_map(|picture| picture.values).collect();
    let label = |picture: usize| match request.count {
        1 => String::new(),
        _ => format!("seed {}", request.seed.wrapping_add(picture as u64)),
    };
    file.write(pixels, label)?;
    print(&format!(
        "{}: {} of {name}, {width} x {height}, {}, {} in all\n",
        file.path().display(),
        count(request.count, "picture"),
        count(steps, "step"),
        time(took),
    ))?;
    Ok(())
}

/// Writes what a step sees.
fn show(pipeline: &Pipeline, path: &Path, clean: &[f32], shape: [usize; 3]) -> Result<(), DrawError> {
    let class = pipeline.class().name;
    let planes = pipeline.preview(clean, shape).ok_or(DrawError::Unseen { class })?;
    let kind = OutputKind::Image { range: [-1.0, 1.0] };
    let file = SampleFile::of(Some(path), class, kind, &planes.shape, 1)?;
    Ok(file.write(planes.values, |_| String::new())?)
}

/// What is asked for, which only models with a manifest have.
pub fn of_manifests(args: &Sample) -> Option<&'static str> {
    let given = [
        ("--cond", !args.conditions.is_empty()),
        ("--negative", !args.negatives.is_empty()),
        ("--noise", args.noise.is_some()),
        ("--between", args.between.is_some()),
        ("--edit", args.reference.edits()),
        ("--scheduler", args.choice.has_scheduler()),
    ];
    given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
}

/// What evaluates the components.
pub fn placements(args: &Sample) -> Result<Placements, DrawError> {
    let settings = args.running.settings()?;
    let (provider, components) = args.running.provider.of_components()?;
    let default = Placement { provider, settings };
    let placed = |(name, provider)| (name, Placement { provider, settings });
    let mut named: BTreeMap<_, _> = components.into_iter().map(placed).collect();
    for (name, precision) in &args.prompt.precision_of {
        let placement = named.entry(name.clone()).or_insert_with(|| default.clone());
        placement.settings.precision = (*precision).into();
    }
    Ok(Placements { default, named, cache: args.running.cache()? })
}

/// `COMPONENT=PRECISION`.
pub fn precision(text: &str) -> Result<(String, Precision), String> {
    let (name, precision) = assignment(text)?;
    Ok((name, Precision::from_str(precision, false)?))
}
