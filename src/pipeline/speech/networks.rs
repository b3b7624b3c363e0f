//! The three networks, one after the other.

use std::{path::Path, string::String, vec, vec::Vec};

use super::{
    DECODER, ENCODER, Request, Speech, SpeechError, VOCODER,
    timing::{self, Alignment, Part},
};
use crate::manifest::{Manifest, Role};
use crate::onnx::Shapes;
use crate::pipeline::{Event, PipelineError, Planes, component};
use crate::provider::{Network, NetworkError};
use crate::sampler::Noise;
use crate::session::{Flow, Progress, Run, Session, SessionError};

/// What the encoder says of a text.
pub(super) struct Encoded {
    /// Symbols that it has read, with those after the text's.
    padded: usize,
    /// [channels, padded]
    means: Vec<f32>,
    /// Of the text's symbols.
    pub(super) log_durations: Vec<f32>,
    /// Outputs that the decoder has conditions of the same name for.
    conditions: Vec<(String, Vec<f64>)>,
}

impl Speech {
    /// Evaluates the encoder.
    pub(super) fn encode(&self, numbers: &[i64], speaker: Option<u32>) -> Result<Encoded, SpeechError> {
        let own = &self.speech.encoder;
        if speaker.is_some() && own.speaker.is_none() {
            return Err(SpeechError::OneSpeaker);
        }
        let padded = if own.buckets { timing::bucket(numbers.len(), 1) } else { numbers.len() };
        let (shapes, inputs) = self.encoder_inputs(numbers, speaker, padded);
        let conditions: Vec<&str> = self.encoder.outputs.iter().map(|own| own.name.as_str()).collect();
        let conditions = conditions.into_iter().filter(|name| self.passes(name));
        let outputs: Vec<&str> = [&own.means[..], &own.log_durations].into_iter().chain(conditions).collect();
        let mut found = self.evaluate(ENCODER, &own.network, &shapes, &inputs, &outputs)?;
        let others = found.split_off(2);
        let mut log_durations = found.pop().unwrap_or_default();
        let means = found.pop().unwrap_or_default();
        if log_durations.len() != padded {
            let found = log_durations.len();
            return Err(SpeechError::Durations { component: ENCODER, found, wanted: padded });
        }
        if means.len() != self.channels() * padded {
            let found = means.len() / padded.max(1);
            return Err(SpeechError::Channels { component: ENCODER, found, wanted: self.channels() });
        }
        log_durations.truncate(numbers.len());
        let names = outputs[2..].iter().map(|&name| name.into());
        let others = others.into_iter().map(|values| values.into_iter().map(f64::from).collect());
        Ok(Encoded { padded, means, log_durations, conditions: names.zip(others).collect() })
    }

    /// Shapes and values of the encoder's inputs, by their names.
    fn encoder_inputs(
        &self,
        numbers: &[i64],
        speaker: Option<u32>,
        padded: usize,
    ) -> (Shapes, Vec<(&str, Vec<f64>)>) {
        let own = &self.speech.encoder;
        let (mut shapes, mut inputs) = (Shapes::new(), Vec::new());
        for declared in &self.encoder.inputs {
            let name = &declared.name;
            let mut shape = vec![1; declared.dims.len()];
            let values = if *name == own.symbols {
                if let Some(last) = shape.last_mut() {
                    *last = padded;
                }
                numbers.iter().map(|&number| number as f64).collect()
            } else if own.lengths.as_ref() == Some(name) {
                vec![numbers.len() as f64]
            } else {
                vec![speaker.unwrap_or(0).into()]
            };
            shapes.insert(name.clone(), shape);
            inputs.push((name.as_str(), values));
        }
        (shapes, inputs)
    }

    /// Whether an output of the encoder is a condition of the decoder by its name.
    fn passes(&self, output: &str) -> bool {
        let given = [&self.speech.mask, &self.speech.means].iter().any(|name| *name == output);
        !given && self.manifest.conditions().any(|(name, _)| name == output)
    }

    /// Samples the decoder: the mel spectrogram, and in how many steps.
    pub(super) fn decode(
        &self,
        encoded: &Encoded,
        alignment: &Alignment,
        request: &Request<'_>,
        watch: &mut (dyn FnMut(Event<'_>) -> Flow + Send),
    ) -> Result<(Planes, usize), SpeechError> {
        let (channels, frames) = (self.channels(), alignment.frames);
        // As far as PyTorch draws noise.
        let drawn = frames.next_multiple_of(self.speech.multiple);
        let buckets = self.speech.decoder_buckets;
        let padded = if buckets { timing::bucket(frames, self.speech.multiple) } else { drawn };
        let wrap = |error: SessionError| match error {
            SessionError::Cancelled { .. } => PipelineError::Cancelled,
            error => component::session_failed(DECODER, error),
        };
        let manifest = self.manifest_of(padded);
        let mut session = self.placements.session(DECODER, &self.manifest.network_path(), manifest)?;
        session.prepare(&request.sampling).map_err(wrap)?;
        self.condition(&mut session, encoded, alignment, padded).map_err(wrap)?;

        let mut generator = (request.rng.new)(request.seed);
        let mut noise = vec![0.0; channels * drawn];
        generator.fill_normal(&mut noise);
        let initial = resized(&noise, drawn, padded);
        let mut after = |Progress { step, steps, clean, .. }: Progress<'_>| {
            watch(Event::Step { picture: 0, step, steps, clean, shape: [1, channels, padded] })
        };
        let run = Run { initial: Some(&initial), after: Some(&mut after), ..Run::default() };
        let mut state = vec![0.0; session.elements()];
        session.sample_with(run, &mut generator, &mut state).map_err(wrap)?;
        let (mean, deviation) = (self.speech.mean as f32, self.speech.deviation as f32);
        let mut values = resized(&state, padded, frames);
        values.iter_mut().for_each(|value| *value = *value * deviation + mean);
        Ok((Planes { values, shape: [1, channels, frames] }, session.steps()))
    }

    /// Tells the decoder what the encoder says.
    fn condition(
        &self,
        session: &mut Session,
        encoded: &Encoded,
        alignment: &Alignment,
        padded: usize,
    ) -> Result<(), SessionError> {
        let mask: Vec<f64> = (0..padded).map(|frame| f64::from(u8::from(frame < alignment.frames))).collect();
        session.set_condition(&self.speech.mask, &mask)?;
        session
            .set_condition(&self.speech.means, &alignment.spread(&encoded.means, encoded.padded, padded))?;
        encoded.conditions.iter().try_for_each(|(name, values)| session.set_condition(name, values))
    }

    /// The decoder's manifest for so many frames.
    fn manifest_of(&self, frames: usize) -> Manifest {
        let mut manifest = self.manifest.clone();
        for input in &mut manifest.inputs {
            let shape = match &mut input.role {
                Role::State { shape } => shape,
                Role::Condition(own) if [&self.speech.mask, &self.speech.means].contains(&&input.name) => {
                    &mut own.shape
                }
                _ => continue,
            };
            if let Some(last) = shape.last_mut() {
                *last = frames;
            }
        }
        manifest
    }

    /// Evaluates the vocoder, in windows if there are any: one plan for all of them.
    pub(super) fn vocode(&self, mel: &Planes) -> Result<Vec<f32>, SpeechError> {
        let [_, channels, frames] = mel.shape;
        let parts = timing::parts(frames, self.speech.window);
        let Some(&first) = parts.first() else { return Ok(Vec::new()) };
        let (hop, name) = (self.speech.hop, &self.vocoder.inputs[0].name);
        let shapes = Shapes::from([(name.clone(), vec![1, channels, first.frames])]);
        let cut = |part: &Part| -> Vec<f64> {
            let rows = mel.values.chunks(frames);
            rows.flat_map(|row| &row[part.start..part.start + part.frames])
                .map(|&value| value.into())
                .collect()
        };
        let output = [self.vocoder.outputs.first().map_or("", |output| &output.name)];
        let run = |network: &mut Network, part: &Part| -> Result<Vec<f32>, PipelineError> {
            let found = evaluated(network, &[(name, cut(part))], &output);
            let found = found.map_err(|error| component::failed(VOCODER, error))?;
            Ok(found.into_iter().flatten().collect())
        };
        let path = self.manifest.beside(&self.speech.vocoder);
        let mut calibrate = |network: &mut Network| run(network, &first);
        let mut network = self.placements.open(VOCODER, &path, &shapes, &mut calibrate)?;
        let mut waveform = Vec::with_capacity(hop * frames);
        for part in &parts {
            let found = run(&mut network, part)?;
            if found.len() != hop * part.frames {
                let (found, frames) = (found.len(), part.frames);
                return Err(SpeechError::Hop { component: VOCODER, found, frames, hop });
            }
            waveform.extend(&found[part.kept[0] * hop..part.kept[1] * hop]);
        }
        Ok(waveform)
    }

    /// Opens a network, evaluates it once and drops it.
    fn evaluate(
        &self,
        name: &'static str,
        network: &Path,
        shapes: &Shapes,
        inputs: &[(&str, Vec<f64>)],
        outputs: &[&str],
    ) -> Result<Vec<Vec<f32>>, SpeechError> {
        let path = self.manifest.beside(network);
        let run = |network: &mut Network| {
            evaluated(network, inputs, outputs).map_err(|error| component::failed(name, error))
        };
        let mut calibrate = |network: &mut Network| Ok(run(network)?.concat());
        let mut network = self.placements.open(name, &path, shapes, &mut calibrate)?;
        Ok(run(&mut network)?)
    }
}

/// Writes inputs by their names, 0 where there are no more values, evaluates, and reads outputs by theirs.
fn evaluated(
    network: &mut Network,
    inputs: &[(&str, Vec<f64>)],
    outputs: &[&str],
) -> Result<Vec<Vec<f32>>, NetworkError> {
    for (name, values) in inputs {
        let Some(index) = network.inputs().position(|(own, _)| own == *name) else { continue };
        network.io()?.fill(index, |i| values.get(i).copied().unwrap_or_default())?;
    }
    network.run()?;
    let indices: Vec<_> =
        outputs.iter().filter_map(|name| network.outputs().position(|(own, _)| own == *name)).collect();
    let mut io = network.io()?;
    indices.into_iter().map(|index| Ok(io.output_f32(index)?.to_vec())).collect()
}

/// Rows of another length, which begin with the same values and end with zeros.
fn resized(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    let row = |row: &[f32]| row.iter().copied().chain(core::iter::repeat(0.0)).take(to).collect::<Vec<_>>();
    values.chunks(from).flat_map(row).collect()
}
