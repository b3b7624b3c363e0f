//! Text to speech: an encoder of phonemes, a decoder that makes a mel spectrogram of noise, and a vocoder.
//!
//! A [`Speech`] is a folder with a manifest that has a table `[speech]`, as Matcha-TTS is exported in three parts
//! (arXiv 2309.03199). The decoder is sampled by a [`Session`](crate::session::Session) like any other network. How many
//! frames there are, the encoder says: each network has a plan for each length, or for a bucket of lengths, in the cache.
//!
//! ```no_run
//! use fewstep::pipeline::{Placements, speech::{Request, Speech}};
//! use fewstep::session::Flow;
//! use std::path::Path;
//!
//! let speech = Speech::open(Path::new("matcha"), Placements::default())?;
//! let request = Request { prompt: "həlˈoʊ", ..Request::default() };
//! let said = speech.say(&request, &mut |_| Flow::Continue)?;
//! let waveform = &said.waveform; // -1 to 1, speech.sample_rate() a second
//! # Ok::<(), fewstep::pipeline::speech::SpeechError>(())
//! ```

mod networks;
mod symbols;
mod timing;

pub use symbols::SymbolError;

use std::{
    borrow::ToOwned,
    boxed::Box,
    path::{Path, PathBuf},
    string::{String, ToString},
    vec::Vec,
};

use super::{Event, PipelineError, Placements, Planes, component};
use crate::manifest::{self, Manifest, ManifestError};
use crate::onnx::{Declared, Dimension, Header};
use crate::provider::OnnxFile;
use crate::sampler::{GENERATORS, NamedGenerator};
use crate::session::Flow;
use symbols::Symbols;
use timing::Alignment;

pub(super) const ENCODER: &str = "encoder";
pub(super) const DECODER: &str = "decoder";
pub(super) const VOCODER: &str = "vocoder";

/// A folder of ONNX files that speaks.
#[derive(Debug)]
pub struct Speech {
    manifest: Manifest,
    speech: manifest::Speech,
    symbols: Symbols,
    /// Of the encoder and of the vocoder.
    encoder: Header,
    vocoder: Header,
    placements: Placements,
}

/// What is to be said, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Phonemes, as the model's symbols.
    pub prompt: &'a str,
    /// `None`: the first, of a model with several.
    pub speaker: Option<u32>,
    /// Multiplies durations; `None`: as the manifest says.
    pub length_scale: Option<f64>,
    pub seed: u64,
    pub rng: &'static NamedGenerator,
    /// Steps, temperature and the like.
    pub sampling: manifest::Request<'a>,
}

impl Default for Request<'_> {
    fn default() -> Self {
        let sampling = manifest::Request::default();
        Request { prompt: "", speaker: None, length_scale: None, seed: 0, rng: &GENERATORS[0], sampling }
    }
}

/// What was said.
#[derive(Clone, Debug)]
pub struct Said {
    /// -1 to 1. [hop * frames]
    pub waveform: Vec<f32>,
    /// As the vocoder takes it. [1, channels, frames]
    pub mel: Planes,
    /// Network evaluations of the decoder.
    pub steps: usize,
}

/// Why nothing is said. Every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{}: the manifest has no table [speech]; write one (docs/speech.md)", .0.display())]
    NoSpeech(PathBuf),
    #[error(transparent)]
    Symbols(#[from] SymbolError),
    #[error(transparent)]
    Pipeline(Box<PipelineError>),
    #[error("{component}: there is no {}, which the manifest names; export the network to there", path.display())]
    Missing { component: &'static str, path: PathBuf },
    #[error("{component} has no {port} {name}, which the manifest names; it has {known}")]
    Port { component: &'static str, port: &'static str, name: String, known: String },
    #[error(
        "{component} has an input {input} of which the manifest says nothing; export it without (docs/speech.md)"
    )]
    Input { component: &'static str, input: String },
    #[error(
        "{component} draws noise inside of the network ({operator}), so that no seed gives a sample again; export encoder, \
         decoder and vocoder as three networks (docs/speech.md)"
    )]
    Noise { component: &'static str, operator: String },
    #[error(
        "{component} has {found} mel channels, and the manifest's state {wanted}; the networks are of different models, or the \
         manifest is wrong"
    )]
    Channels { component: &'static str, found: usize, wanted: usize },
    #[error("{component} gives {found} durations for {wanted} symbols; name another output as log_durations")]
    Durations { component: &'static str, found: usize, wanted: usize },
    #[error(
        "speech of more than {most} frames, or of no finite length: say less at once, or check the encoder"
    )]
    Long { most: usize },
    #[error("a length scale of {0} is none; write a finite number above 0")]
    LengthScale(f64),
    #[error("the model has one speaker; leave the speaker's number out")]
    OneSpeaker,
    #[error("{component} gives {found} samples for {frames} frames, and a hop of {hop} needs {}; correct the hop, or export \
             a vocoder that gives the waveform itself", frames * hop)]
    Hop { component: &'static str, found: usize, frames: usize, hop: usize },
    #[error("stopped")]
    Cancelled,
}

impl From<PipelineError> for SpeechError {
    fn from(error: PipelineError) -> SpeechError {
        match error {
            PipelineError::Cancelled => SpeechError::Cancelled,
            error => SpeechError::Pipeline(Box::new(error)),
        }
    }
}

impl Speech {
    /// Whether a folder, or a manifest, is of speech.
    pub fn is_one(path: &Path) -> bool {
        manifest::Speech::is_one(path)
    }

    /// Reads a manifest, or the one in a folder, the table of symbols, and what its networks declare. They are opened when
    /// their turn comes.
    ///
    /// # Errors
    /// If it is not of speech, or its networks are missing or not as the manifest says.
    pub fn open(path: &Path, placements: Placements) -> Result<Speech, SpeechError> {
        let (manifest, speech) =
            manifest::Speech::read(path)?.ok_or_else(|| SpeechError::NoSpeech(path.to_owned()))?;
        let known = [ENCODER, DECODER, VOCODER];
        if let Some(name) = placements.named.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(PipelineError::Component { name: name.clone(), known: known.join(", ") }.into());
        }
        let symbols = Symbols::read(manifest.beside(&speech.tokens), speech.blank.as_deref())?;
        let encoder = header(ENCODER, &manifest.beside(&speech.encoder.network))?;
        header(DECODER, &manifest.network_path())?;
        let vocoder = header(VOCODER, &manifest.beside(&speech.vocoder))?;
        let opened = Speech { manifest, speech, symbols, encoder, vocoder, placements };
        opened.check()?;
        Ok(opened)
    }

    /// How the decoder is sampled.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> u32 {
        self.speech.sample_rate
    }

    /// Says a text; `watch` is told of what happens, and may end it after any step.
    ///
    /// # Errors
    /// If the text has symbols that the model does not know, or the networks do not run here.
    pub fn say(
        &self,
        request: &Request<'_>,
        watch: &mut (dyn FnMut(Event<'_>) -> Flow + Send),
    ) -> Result<Said, SpeechError> {
        let numbers = self.symbols.numbers(request.prompt)?;
        let scale = request.length_scale.unwrap_or(self.speech.length_scale);
        if !(scale.is_finite() && scale > 0.0) {
            return Err(SpeechError::LengthScale(scale));
        }
        watch(Event::Opening(ENCODER));
        let encoded = self.encode(&numbers, request.speaker)?;
        let alignment = Alignment::new(&encoded.log_durations, scale)?;
        watch(Event::Opening(DECODER));
        let (mel, steps) = self.decode(&encoded, &alignment, request, watch)?;
        watch(Event::Opening(VOCODER));
        let waveform = self.vocode(&mel)?;
        Ok(Said { waveform, mel, steps })
    }

    fn channels(&self) -> usize {
        self.manifest.state_shape().first().copied().unwrap_or_default()
    }

    /// That the networks have what the manifest names, and as many channels as each other.
    fn check(&self) -> Result<(), SpeechError> {
        let own = &self.speech.encoder;
        let inputs = [Some(&own.symbols), own.lengths.as_ref(), own.speaker.as_ref()];
        for name in inputs.into_iter().flatten() {
            named(ENCODER, "input", &self.encoder.inputs, name)?;
        }
        let unknown = self.encoder.inputs.iter().find(|input| !inputs.contains(&Some(&input.name)));
        if let Some(input) = unknown {
            return Err(SpeechError::Input { component: ENCODER, input: input.name.clone() });
        }
        named(ENCODER, "output", &self.encoder.outputs, &own.log_durations)?;
        let means = named(ENCODER, "output", &self.encoder.outputs, &own.means)?;
        let [mel] = &self.vocoder.inputs[..] else {
            let input = self.vocoder.inputs.get(1).map(|input| input.name.clone()).unwrap_or_default();
            return Err(SpeechError::Input { component: VOCODER, input });
        };
        for (component, declared) in [(ENCODER, means), (VOCODER, mel)] {
            match declared.dims.get(1) {
                Some(&Dimension::Fixed(found)) if found != self.channels() => {
                    return Err(SpeechError::Channels { component, found, wanted: self.channels() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a network declares, if it draws no noise of its own.
fn header(component: &'static str, path: &Path) -> Result<Header, SpeechError> {
    if !path.is_file() {
        return Err(SpeechError::Missing { component, path: path.to_owned() });
    }
    let header = OnnxFile { path, bytes: None }.header();
    let header = header.map_err(|error| component::failed(component, error.into()))?;
    match header.operators.iter().find(|operator| operator.starts_with("Random")) {
        Some(operator) => Err(SpeechError::Noise { component, operator: operator.clone() }),
        None => Ok(header),
    }
}

fn named<'a>(
    component: &'static str,
    port: &'static str,
    declared: &'a [Declared],
    name: &str,
) -> Result<&'a Declared, SpeechError> {
    declared.iter().find(|own| own.name == name).ok_or_else(|| SpeechError::Port {
        component,
        port,
        name: name.to_string(),
        known: component::names(declared),
    })
}
