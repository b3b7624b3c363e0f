//! `fewstep sample FOLDER --prompt PHONEMES`: speech, by a folder whose manifest has a table `[speech]`.
#![forbid(unsafe_code)]

use super::file_stem;
use super::npy::{self, NpyError};
use super::output::{self, OutputError};
use super::pipeline::{self, DrawError};
use super::progress::Progress;
use super::sample::Sample;
use super::{PrintError, count, print, time};
use fewstep::pipeline::Event;
use fewstep::pipeline::speech::{Request, Speech, SpeechError};
use fewstep::session::Flow;
use hound::{SampleFormat, WavSpec, WavWriter};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a text is said.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Speech")]
pub struct SpeechArgs {
    /// The number of the speaker, of a model with several
    #[arg(long, value_name = "NUMBER", requires = "prompt")]
    speaker: Option<u32>,
    /// Multiplies how long everything lasts [default: the manifest's]
    #[arg(long, value_name = "SCALE", requires = "prompt")]
    length_scale: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum SpeakError {
    #[error("{}: this speaks; give the phonemes of a text with --prompt", .0.display())]
    NoPrompt(PathBuf),
    #[error("{0} has no meaning for speech; leave it out")]
    Meaningless(&'static str),
    #[error("{}: speech is written as .wav or .npy; name the file so", .0.display())]
    Extension(PathBuf),
    #[error("{}: {source}", path.display())]
    Speech { path: PathBuf, source: SpeechError },
    #[error("{}: cannot write the waveform: {source}", path.display())]
    Wav { path: PathBuf, source: hound::Error },
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Npy(#[from] NpyError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl SpeechArgs {
    /// What is asked for, which only speech has.
    pub fn given(&self) -> Option<&'static str> {
        let given = [("--speaker", self.speaker.is_some()), ("--length-scale", self.length_scale.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Says what `sample` asks of a model of speech.
pub fn speak(args: &Sample) -> Result<(), SpeakError> {
    let prompt = args.prompt.text().ok_or_else(|| SpeakError::NoPrompt(args.model.clone()))?;
    if let Some(name) = meaningless(args) {
        return Err(SpeakError::Meaningless(name));
    }
    let wrap = |source| SpeakError::Speech { path: args.model.clone(), source };
    let speech = Speech::open(&args.model, pipeline::placements(args)?).map_err(wrap)?;
    let name = &speech.manifest().model.name;
    let path = args.output.clone().unwrap_or_else(|| format!("{}.wav", file_stem(name)).into());
    let format = Format::of(&path)?;
    let request = Request {
        prompt,
        speaker: args.speech.speaker,
        length_scale: args.speech.length_scale,
        seed: args.seed,
        rng: args.rng,
        sampling: args.choice.request(None),
    };

    let begin = Instant::now();
    let mut progress = None;
    let mut watch = |event: Event<'_>| {
        if let Event::Step { step, steps, .. } = event {
            progress.get_or_insert_with(|| Progress::new(steps)).reach(step);
        }
        Flow::Continue
    };
    let said = speech.say(&request, &mut watch).map_err(wrap)?;
    let took = begin.elapsed();
    match format {
        Format::Wav => write_wav(&path, speech.sample_rate(), &said.waveform)?,
        Format::Npy => npy::write_f32(&path, &[said.waveform.len()], &said.waveform)?,
    }
    let seconds = said.waveform.len() as f64 / f64::from(speech.sample_rate());
    print(&format!(
        "{}: {seconds:.2} s of {name}, {}, {}, {} in all\n",
        path.display(),
        count(said.mel.shape[2], "frame"),
        count(said.steps, "step"),
        time(took),
    ))?;
    Ok(())
}

/// What is for models of other kinds.
fn meaningless(args: &Sample) -> Option<&'static str> {
    let given = [("-n", args.count.is_some_and(|count| count > 1)), ("--init", args.reference.is_given())];
    let given = given.into_iter().find(|(_, given)| *given).map(|(name, _)| name);
    given.or_else(|| args.prompt.given_of_pictures()).or_else(|| pipeline::of_manifests(args))
}

#[derive(Clone, Copy)]
enum Format {
    Wav,
    Npy,
}

impl Format {
    fn of(path: &Path) -> Result<Format, SpeakError> {
        let format =
            match path.extension().and_then(|extension| extension.to_ascii_lowercase().into_string().ok()) {
                Some(extension) if extension == "wav" => Format::Wav,
                Some(extension) if extension == "npy" => Format::Npy,
                _ => return Err(SpeakError::Extension(path.to_owned())),
            };
        output::check(path)?;
        Ok(format)
    }
}

/// One channel of 16 bits, which every player takes.
fn write_wav(path: &Path, sample_rate: u32, waveform: &[f32]) -> Result<(), SpeakError> {
    let encode = || -> Result<Vec<u8>, hound::Error> {
        let spec =
            WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec)?;
        for sample in waveform {
            writer.write_sample((sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16)?;
        }
        writer.finalize()?;
        Ok(file.into_inner())
    };
    let bytes = encode().map_err(|source| SpeakError::Wav { path: path.to_owned(), source })?;
    let write = |out: &mut dyn io::Write| out.write_all(&bytes);
    Ok(output::write_atomically(path, write)?)
}
