//! `[speech]`: what stands before and after a network that gives the mel spectrogram of speech.

use std::{
    format,
    path::{Path, PathBuf},
    string::String,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    FILE_NAME, Input, Manifest, ManifestError, Role,
    file::{InnerPath, Key, Line, Positive},
    parse::{Checked, Fault, fault, value},
    read,
};

/// Frames that a U-Net with two halvings, as Matcha's, needs a multiple of.
const MULTIPLE: usize = 4;

/// How text becomes speech, by three networks: the encoder and the vocoder here, and the manifest's own, the decoder, of
/// whose inputs the last axis is one of frames. Paths are relative to the manifest's folder, and inside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    /// The table of symbols.
    pub tokens: PathBuf,
    /// The symbol that is put between all others, before the first and after the last.
    pub blank: Option<String>,
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples a frame.
    pub hop: usize,
    /// Of the mel spectrograms, which the decoder sees without: they are `x * deviation + mean`.
    pub mean: f64,
    pub deviation: f64,
    /// Multiplies the duration of every symbol.
    pub length_scale: f64,
    /// The decoder takes multiples of so many frames.
    pub multiple: usize,
    pub encoder: SpeechEncoder,
    /// The decoder's conditions: 1 where there is speech, and the mean that the encoder gives for each frame.
    pub mask: String,
    pub means: String,
    /// Whether frames that are masked do not change the others.
    pub decoder_buckets: bool,
    pub vocoder: PathBuf,
    pub window: Option<Window>,
}

/// The encoder's network, and the names of its inputs and outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeechEncoder {
    pub network: PathBuf,
    /// `[1, symbols]`
    pub symbols: String,
    /// `[1]`
    pub lengths: Option<String>,
    /// `[1]`
    pub speaker: Option<String>,
    /// `[1, channels, symbols]`
    pub means: String,
    /// `[1, 1, symbols]`
    pub log_durations: String,
    /// Whether symbols after the length do not change the others.
    pub buckets: bool,
}

/// Frames that a vocoder sees at once, and on how many on either side a frame's samples hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub frames: usize,
    pub context: usize,
}

impl Speech {
    /// Reads a manifest, or the one in a folder, and what it says of speech; `None` if it is not of speech.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn read(path: &Path) -> Result<Option<(Manifest, Speech)>, ManifestError> {
        let (manifest, speech) = read(path)?;
        Ok(speech.map(|speech| (manifest, speech)))
    }

    /// Whether there is a manifest of speech, with no mistakes, at a path.
    pub fn is_one(path: &Path) -> bool {
        let is_manifest = path.is_dir() || path.file_name().is_some_and(|name| name == FILE_NAME);
        is_manifest && Speech::read(path).is_ok_and(|speech| speech.is_some())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpeech {
    tokens: InnerPath,
    blank: Option<Line>,
    sample_rate: Count,
    hop: Count,
    mean: Option<f64>,
    deviation: Option<Positive>,
    length_scale: Option<Positive>,
    multiple: Option<Count>,
    encoder: RawEncoder,
    decoder: RawDecoder,
    vocoder: RawVocoder,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEncoder {
    network: InnerPath,
    symbols: Line,
    lengths: Option<Line>,
    speaker: Option<Line>,
    means: Line,
    log_durations: Line,
    #[serde(default)]
    buckets: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDecoder {
    mask: Spanned<Line>,
    means: Spanned<Line>,
    #[serde(default)]
    buckets: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVocoder {
    network: InnerPath,
    window: Key<Count>,
    context: Key<Count>,
}

/// Of samples or frames.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
struct Count(u32);

impl TryFrom<usize> for Count {
    type Error = &'static str;

    fn try_from(count: usize) -> Result<Count, &'static str> {
        let fits = (1..=1_000_000).contains(&count);
        u32::try_from(count).ok().filter(|_| fits).map(Count).ok_or("write 1 to 1000000")
    }
}

impl Count {
    fn size(self) -> usize {
        self.0 as usize
    }
}

impl RawSpeech {
    /// What the table says, with the inputs of the decoder.
    pub(super) fn parse(self, inputs: &[Spanned<Input>]) -> Checked<Speech> {
        self.decoder.check(inputs)?;
        let RawEncoder { network, symbols, lengths, speaker, means, log_durations, buckets } = self.encoder;
        let encoder = SpeechEncoder {
            network: network.0,
            symbols: symbols.0,
            lengths: lengths.map(|name| name.0),
            speaker: speaker.map(|name| name.0),
            means: means.0,
            log_durations: log_durations.0,
            buckets,
        };
        Ok(Speech {
            tokens: self.tokens.0,
            blank: self.blank.map(|symbol| symbol.0),
            sample_rate: self.sample_rate.0,
            hop: self.hop.size(),
            mean: self.mean.unwrap_or(0.0),
            deviation: self.deviation.map_or(1.0, |deviation| deviation.0),
            length_scale: self.length_scale.map_or(1.0, |scale| scale.0),
            multiple: self.multiple.map_or(MULTIPLE, Count::size),
            encoder,
            window: self.vocoder.window()?,
            vocoder: self.vocoder.network.0,
            decoder_buckets: self.decoder.buckets,
            mask: self.decoder.mask.into_inner().0,
            means: self.decoder.means.into_inner().0,
        })
    }
}

impl RawDecoder {
    /// A state of channels and frames, a mask and means for as many.
    fn check(&self, inputs: &[Spanned<Input>]) -> Checked<()> {
        let state = inputs.iter().find_map(|input| match &input.get_ref().role {
            Role::State { shape } => Some((input, &shape[..])),
            _ => None,
        });
        let (channels, frames) = match state {
            Some((_, &[channels, frames])) => (channels, frames),
            Some((input, _)) => return fault(input, "speech needs a state of `shape` [channels, frames]"),
            None => return Ok(()),
        };
        for (key, wanted) in [(&self.mask, [1, frames]), (&self.means, [channels, frames])] {
            let name = &key.get_ref().0;
            let fits = |input: &Spanned<Input>| match &input.get_ref().role {
                Role::Condition(condition) => input.get_ref().name == *name && condition.shape == wanted,
                _ => false,
            };
            if !inputs.iter().any(fits) {
                let problem =
                    format!("`{name}` has to be an input with the role \"condition\" and `shape` {wanted:?}");
                return fault(key, problem);
            }
        }
        Ok(())
    }
}

impl RawVocoder {
    fn window(&self) -> Checked<Option<Window>> {
        let (frames, context) = match (&self.window, &self.context) {
            (None, None) => return Ok(None),
            (Some(window), None) => return fault(window, "`window` needs a `context`"),
            (None, Some(context)) => return fault(context, "`context` has no meaning without a `window`"),
            (window, context) => (value(window), value(context)),
        };
        let at = self.window.as_ref().map(Spanned::span).unwrap_or_default();
        let window = frames.zip(context).map(|(frames, context)| (frames.size(), context.size()));
        match window {
            Some((frames, context)) if frames > 2 * context => Ok(Some(Window { frames, context })),
            _ => Err(Fault { at, problem: "`window` has to be more than twice the `context`".into() }),
        }
    }
}
