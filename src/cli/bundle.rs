//! `fewstep compile FOLDER`: a pipeline in one file.
#![forbid(unsafe_code)]

use super::pipeline::precision;
use super::{Precision, PrintError, bytes, count, note, print, scaled, time};
use fewstep::kernels::Isa;
use fewstep::pipeline::{Event, Pipeline, PipelineError, Placement, Placements, Request};
use fewstep::provider::{Provider, Settings};
use fewstep::session::Flow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a pipeline is compiled for.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Pipeline")]
pub struct BundleArgs {
    /// Columns of the pictures [default: what the model was made for]
    #[arg(long, value_name = "PIXELS")]
    width: Option<u32>,
    /// Rows of the pictures
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,
    /// Tokens of the prompts that T5 and Gemma read
    #[arg(long, value_name = "COUNT")]
    prompt_tokens: Option<usize>,
    /// A prompt that is as long as those to come, for encoders that read as many tokens as there are
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The scale of guidance: with more than 1, the network is evaluated for two prompts [default: the class's]
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f64>,
    /// The precision of a component, where it is not that of all: vae=f32
    #[arg(long, value_name = "COMPONENT=auto|f32|f16", value_parser = precision)]
    precision_of: Vec<(String, Precision)>,
    /// Bytes of memory that the pipeline is to run in, such as 500M: plans that take little, and tiles that fit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{0} has no meaning for a pipeline; leave it out")]
    Meaningless(&'static str),
    #[error("{0} is for a folder with a model_index.json, and MODEL is none")]
    NoPipeline(&'static str),
    #[error(
        "a pipeline is compiled in one precision; give one, and --precision-of for components of another"
    )]
    Precisions,
    #[error("{}: {source}", path.display())]
    Pipeline { path: PathBuf, source: Box<PipelineError> },
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl BundleArgs {
    /// That nothing is said to a pipeline where there is none.
    pub fn check_absent(&self) -> Result<(), BundleError> {
        let given = [
            ("--width", self.width.is_some()),
            ("--height", self.height.is_some()),
            ("--prompt-tokens", self.prompt_tokens.is_some()),
            ("--prompt", self.prompt.is_some()),
            ("--guidance", self.guidance.is_some()),
            ("--precision-of", !self.precision_of.is_empty()),
            ("--max-memory", self.max_memory.is_some()),
        ];
        let given = given.into_iter().find(|(_, given)| *given);
        given.map_or(Ok(()), |(name, _)| Err(BundleError::NoPipeline(name)))
    }

    /// Writes the bundle of a pipeline's folder.
    pub fn compile(
        &self,
        model: &Path,
        output: &Path,
        target: Isa,
        precisions: &[Precision],
        low_memory: bool,
    ) -> Result<(), BundleError> {
        let &[precision] = precisions else { return Err(BundleError::Precisions) };
        let begin = Instant::now();
        let wrap = |source| BundleError::Pipeline { path: model.into(), source: Box::new(source) };
        let settings = Settings {
            precision: precision.into(),
            max_memory: self.max_memory,
            frugal: low_memory || self.max_memory.is_some(),
            ..Settings::default()
        };
        let placed = |precision: Precision| Placement {
            provider: Provider::Cpu,
            settings: Settings { precision: precision.into(), ..settings },
        };
        let named = self.precision_of.iter().map(|(name, precision)| (name.clone(), placed(*precision)));
        let placements = Placements { default: placed(precision), named: named.collect(), cache: None };
        let pipeline = Pipeline::open(model, placements).map_err(wrap)?;
        let mut request = Request {
            prompt: self.prompt.as_deref().unwrap_or_default(),
            prompt_tokens: self.prompt_tokens,
            height: self.height.map(|height| height as usize),
            width: self.width.map(|width| width as usize),
            ..Request::default()
        };
        request.sampling.guidance = self.guidance;
        let [height, width] = pipeline.size(&request).map_err(wrap)?;
        let mut opened = 0;
        let mut watch = |event: Event<'_>| {
            match event {
                Event::Note(text) => note(text),
                Event::Opening(_) => opened += 1,
                Event::Step { .. } => {}
            }
            Flow::Continue
        };
        let bytes = pipeline.bundle(&request, target, output, &mut watch).map_err(wrap)?;
        Ok(print(&format!(
            "{}: {} of {} for {target}, {width} x {height}, {}B, compiled in {}\n",
            output.display(),
            count(opened, "network"),
            pipeline.class().name,
            scaled(bytes as f64),
            time(begin.elapsed())
        ))?)
    }
}
