//! `fewstep verify`: whether a provider draws the samples that the engine draws in f32.
#![forbid(unsafe_code)]

use super::provider::{ArgumentError, computed, note_fallback};
use super::sample::Classes;
use super::{IsaError, PrintError, Running, columns, count, first_step, models, print, print_json, row};
use fewstep::cache::CacheError;
use fewstep::manifest::Manifest;
use fewstep::provider::{Precision, Provider, Settings};
use fewstep::session::{Change, Session, SessionError};
use serde::Serialize;
use std::path::PathBuf;

/// Compare the samples of a provider, or of a precision, with those of the engine in f32.
///
/// The engine in f32 itself is compared with tract. It is an error if the peak signal-to-noise ratio is below the bound.
#[derive(clap::Args, Debug)]
pub struct Verify {
    /// An embedded model's name, a folder with a fewstep.toml, that file, or an .onnx file beside it
    model: PathBuf,
    /// Number of samples to compare, of one class after the other if there are classes
    #[arg(short = 'n', long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Seed of the first sample; the next one's is one more
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The least peak signal-to-noise ratio, relative to the range of the f32 samples, in dB
    #[arg(long, value_name = "DB", default_value_t = 40.0)]
    min_psnr: f64,
    /// Print one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(transparent)]
    Source(#[from] models::SourceError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("{}: there is no fewstep.toml that says how this network is sampled; write one beside it (docs/manifest.md)", .0.display())]
    NoManifest(PathBuf),
    #[error("sample {index} of {provider}: {source}")]
    Session { index: u32, provider: String, source: Box<SessionError> },
    #[error(
        "samples of {provider} have a PSNR of {psnr:.1} dB, and have to keep to {bound} dB; do not use it for this model"
    )]
    Off { provider: String, psnr: f64, bound: f64 },
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl Verify {
    pub fn run(&self) -> Result<(), VerifyError> {
        let (provider, settings) = (self.running.provider()?, self.running.settings()?);
        let source = models::find(&self.model)?;
        let manifest = source.manifest.as_ref();
        let manifest = manifest.ok_or_else(|| VerifyError::NoManifest(source.path().into()))?;
        let single = Settings { precision: Precision::F32, ..settings };
        let is_engine = matches!(provider, Provider::Cpu) && settings.precision == Precision::F32;
        let reference = if is_engine { Provider::Tract } else { Provider::Cpu };

        let (wanted, by) = self.samples(&source, manifest, &reference, single)?;
        let (found, what) = self.samples(&source, manifest, &provider, settings)?;
        let change = Change::of(&wanted, &found);
        let report = Report {
            model: &source.name,
            provider: what,
            reference: by,
            samples: self.count,
            psnr_db: change.psnr(),
            max_error: change.most,
            min_psnr_db: self.min_psnr,
        };
        if self.json {
            print_json(&report)?
        } else {
            print(&columns(&report.rows()))?
        }
        match change.psnr() {
            psnr if psnr >= self.min_psnr => Ok(()),
            psnr => Err(VerifyError::Off { provider: report.provider, psnr, bound: self.min_psnr }),
        }
    }

    /// The samples, one after the other, and what drew them.
    fn samples(
        &self,
        source: &models::Source,
        manifest: &Manifest,
        provider: &Provider,
        settings: Settings,
    ) -> Result<(Vec<f32>, String), VerifyError> {
        let mut session = source.session(manifest, provider, settings, self.running.cache()?.as_ref())?;
        note_fallback(session.network());
        session.set_seed(self.seed);
        let name = match provider {
            Provider::Cpu => format!("cpu in {}", computed(session.network())),
            provider => provider.name(),
        };
        let mut samples = vec![0.0; self.count as usize * session.elements()];
        let elements = session.elements();
        for (index, out) in (0..self.count).zip(samples.chunks_mut(elements.max(1))) {
            let drawn = self.draw(&mut session, manifest, index, out);
            let wrap =
                |source| VerifyError::Session { index, provider: name.clone(), source: Box::new(source) };
            drawn.map_err(wrap)?;
        }
        Ok((samples, name))
    }

    fn draw(
        &self,
        session: &mut Session,
        manifest: &Manifest,
        index: u32,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        for (name, condition) in manifest.conditions().filter(|(_, condition)| condition.default.is_none()) {
            session.set_condition(name, &first_step::condition_values(condition))?;
        }
        if let Some(classes) = Classes::of(manifest, &[]) {
            session.set_condition(&classes.name, &[classes.value(index as usize) as f64])?;
        }
        session.sample(out)
    }
}

/// What `--json` prints: keys stay, new ones may come.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    provider: String,
    reference: String,
    samples: u32,
    /// Relative to the range of the reference's samples; `null` if they are the same.
    psnr_db: f64,
    /// The largest difference of two elements, relative to that range.
    max_error: f64,
    min_psnr_db: f64,
}

impl Report<'_> {
    fn rows(&self) -> Vec<Vec<String>> {
        let samples = count(self.samples as usize, "sample");
        vec![
            row(&["model", self.model]),
            row(&["compared", &format!("{samples} of {} with {}", self.provider, self.reference)]),
            row(&["PSNR", &format!("{:.1} dB, at least {} dB", self.psnr_db, self.min_psnr_db)]),
            row(&["largest error", &format!("{:.1e} of the range", self.max_error)]),
        ]
    }
}
