//! From tokens to what a denoiser reads of a prompt: CLIP, CLIP with a projection, T5, Gemma.

use std::{borrow::ToOwned, string::String, vec, vec::Vec};

use super::{
    PipelineError,
    component::{Components, failed, names},
    tokenizer::{Tokenizer, Tokens},
};
use crate::onnx::{Declared, Header, Shapes};
use crate::provider::Network;

/// Which of an encoder's states is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Last,
    /// The one before it.
    Penultimate,
}

/// One of a pipeline's encoders: `encoder` and `tokenizer` are its folders.
#[derive(Clone, Copy, Debug)]
pub struct TextEncoder {
    pub encoder: &'static str,
    pub tokenizer: &'static str,
    pub layer: Layer,
    /// Tokens of a prompt; `None`: what the tokenizer's configuration says.
    pub length: Option<usize>,
    /// Whether prompts are stripped and in small letters, and nothing reads what they are filled up with.
    pub plain: bool,
    /// What stands before a prompt. What an encoder makes of it is left out.
    pub instruction: Option<&'static str>,
}

/// What an encoder makes of one prompt.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// [length, width]
    pub hidden: Vec<f32>,
    pub length: usize,
    pub width: usize,
    /// Of the whole prompt, if the encoder gives one.
    pub pooled: Vec<f32>,
    /// 1 for a token of the prompt, 0 for what fills up. [length]
    pub mask: Vec<f32>,
}

impl TextEncoder {
    /// Encodes prompts, and drops the encoder; `warn` is told of what was cut off.
    pub(super) fn encode(
        &self,
        components: &Components,
        prompts: &[&str],
        warn: &mut dyn FnMut(String),
    ) -> Result<Vec<Features>, PipelineError> {
        let tokenizer = Tokenizer::read(components.folder.files(), self.tokenizer)?;
        let before = self.instruction.map_or(Ok(0), |text| tokenizer.count(text))?;
        let length = self.length.unwrap_or(tokenizer.longest());
        // The instruction's own first and last tokens are not counted twice.
        let whole = if before > 0 { before + length - 2 } else { length };
        let mut tokens = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let prompt =
                if self.plain { prompt.to_lowercase().trim().to_owned() } else { (*prompt).to_owned() };
            let found = tokenizer.encode(&[self.instruction.unwrap_or(""), &prompt].concat(), whole)?;
            if found.clipped > 0 {
                warn(std::format!(
                    "the prompt is too long for {}: its last {} tokens are left out",
                    self.encoder,
                    found.clipped
                ));
            }
            tokens.push(found);
        }
        drop(tokenizer);
        let features = self.evaluate(components, &tokens)?;
        Ok(features.into_iter().map(|features| features.selected(length)).collect())
    }

    fn evaluate(&self, components: &Components, tokens: &[Tokens]) -> Result<Vec<Features>, PipelineError> {
        let missing = || components.folder.missing(self.encoder);
        let header = components.header(self.encoder)?.ok_or_else(missing)?;
        let ports = Ports::of(self, &header)?;
        let wrap = |error| failed(self.encoder, error);
        let run = |network: &mut Network, tokens: &Tokens| -> Result<Features, PipelineError> {
            ports.write(network, tokens).map_err(|error| wrap(error.into()))?;
            network.run().map_err(wrap)?;
            ports.read(network, tokens).map_err(|error| wrap(error.into()))
        };
        let mut found: Vec<Features> = Vec::with_capacity(tokens.len());
        let mut opened: Option<(usize, Network)> = None;
        for tokens in tokens {
            // What reads no mask is not shown what it would mask.
            let all = tokens.ids.len();
            let length = if self.plain && ports.mask.is_none() { tokens.used } else { all };
            let read = Tokens { ids: tokens.ids[..length].to_vec(), ..tokens.clone() };
            let mut network = match opened.take() {
                Some((own, network)) if own == length => network,
                _ => {
                    let shape = |input: &Declared| (input.name.clone(), vec![1, length]);
                    let shapes: Shapes = header.inputs.iter().map(shape).collect();
                    let mut calibrate = |network: &mut Network| Ok(run(network, &read)?.hidden);
                    components.open(self.encoder, &shapes, &mut calibrate)?
                }
            };
            found.push(run(&mut network, &read)?.filled(all));
            opened = Some((length, network));
        }
        Ok(found)
    }
}

/// Numbers of an encoder's inputs and outputs.
struct Ports {
    ids: usize,
    mask: Option<usize>,
    hidden: usize,
    pooled: Option<usize>,
}

impl Ports {
    fn of(encoder: &TextEncoder, header: &Header) -> Result<Ports, PipelineError> {
        let problem = |what: &'static str, found: &[Declared]| PipelineError::Interface {
            component: encoder.encoder.to_owned(),
            what,
            found: names(found),
        };
        let input = |name: &str| header.inputs.iter().position(|input| input.name == name);
        let output = |name: &str| header.outputs.iter().position(|output| output.name == name);
        let of_rank = |rank: usize| header.outputs.iter().position(|output| output.dims.len() == rank);
        let ids = input("input_ids").ok_or_else(|| problem("no input input_ids", &header.inputs))?;
        let mask = input("attention_mask");
        if header.inputs.len() > 1 + usize::from(mask.is_some()) {
            return Err(problem("other inputs than input_ids and attention_mask", &header.inputs));
        }
        let hidden = match encoder.layer {
            Layer::Last => output("last_hidden_state").or_else(|| of_rank(3)),
            Layer::Penultimate => penultimate(&header.outputs),
        };
        let what = match encoder.layer {
            Layer::Last => "no output last_hidden_state",
            Layer::Penultimate => {
                "no outputs hidden_states.N, which it has if it is exported with output_hidden_states"
            }
        };
        let hidden = hidden.ok_or_else(|| problem(what, &header.outputs))?;
        let pooled = output("text_embeds").or_else(|| output("pooler_output")).or_else(|| of_rank(2));
        Ok(Ports { ids, mask, hidden, pooled })
    }

    fn write(&self, network: &mut Network, tokens: &Tokens) -> Result<(), crate::engine::EngineError> {
        let mut io = network.io()?;
        io.fill(self.ids, |i| tokens.ids.get(i).copied().unwrap_or(0).into())?;
        match self.mask {
            Some(mask) => io.fill(mask, |i| if i < tokens.used { 1.0 } else { 0.0 }),
            None => Ok(()),
        }
    }

    fn read(&self, network: &mut Network, tokens: &Tokens) -> Result<Features, crate::engine::EngineError> {
        let mut io = network.io()?;
        let hidden = io.output_f32(self.hidden)?.to_vec();
        let pooled = match self.pooled {
            Some(pooled) => io.output_f32(pooled)?.to_vec(),
            None => Vec::new(),
        };
        let length = tokens.ids.len();
        let mask = (0..length).map(|i| if i < tokens.used { 1.0 } else { 0.0 }).collect();
        Ok(Features { width: hidden.len() / length.max(1), hidden, length, pooled, mask })
    }
}

/// The last but one of `hidden_states.N`.
fn penultimate(outputs: &[Declared]) -> Option<usize> {
    let number = |output: &Declared| -> Option<usize> {
        let number = output.name.strip_prefix("hidden_states")?;
        number.trim_start_matches(['.', '_']).parse().ok()
    };
    let mut states: Vec<(usize, usize)> =
        outputs.iter().enumerate().filter_map(|(i, output)| Some((number(output)?, i))).collect();
    states.sort_unstable();
    Some(states.get(states.len().checked_sub(2)?)?.1)
}

impl Features {
    /// The first token's, and those of the last of so many: what stands between them is an instruction's.
    fn selected(self, length: usize) -> Features {
        if self.length <= length {
            return self;
        }
        let (skipped, width) = (self.length - length + 1, self.width);
        let hidden = [&self.hidden[..width], &self.hidden[skipped * width..]].concat();
        let mask = [&self.mask[..1], &self.mask[skipped..]].concat();
        Features { hidden, mask, length, ..self }
    }

    /// Zeros after them, up to a length.
    fn filled(mut self, length: usize) -> Features {
        self.hidden.resize(length * self.width, 0.0);
        self.mask.resize(length, 0.0);
        Features { length, ..self }
    }

    /// Zeros for an encoder that is not there.
    pub(super) fn nothing(length: usize, width: usize) -> Features {
        Features {
            hidden: vec![0.0; length * width],
            length,
            width,
            pooled: Vec::new(),
            mask: vec![1.0; length],
        }
    }

    /// As many zeros.
    pub(super) fn zeroed(&self) -> Features {
        Features {
            hidden: vec![0.0; self.hidden.len()],
            pooled: vec![0.0; self.pooled.len()],
            ..self.clone()
        }
    }

    /// Two encoders' features of the same tokens beside each other.
    pub(super) fn beside(&self, other: &Features) -> Features {
        let rows = self.hidden.chunks(self.width.max(1)).zip(other.hidden.chunks(other.width.max(1)));
        Features {
            hidden: rows.flat_map(|(own, other)| own.iter().chain(other)).copied().collect(),
            width: self.width + other.width,
            pooled: [&self.pooled[..], &other.pooled].concat(),
            ..self.clone()
        }
    }

    /// These tokens before another encoder's, filled up with zeros to its width.
    pub(super) fn before(&self, other: &Features) -> Features {
        let width = other.width.max(self.width);
        let mut hidden = Vec::with_capacity((self.length + other.length) * width);
        for own in [self, other] {
            for row in own.hidden.chunks(own.width.max(1)) {
                hidden.extend_from_slice(row);
                hidden.resize(hidden.len() + width - own.width, 0.0);
            }
        }
        Features {
            hidden,
            width,
            length: self.length + other.length,
            mask: [&self.mask[..], &other.mask].concat(),
            pooled: self.pooled.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(hidden: &[f32], width: usize) -> Features {
        let length = hidden.len() / width;
        Features { hidden: hidden.to_vec(), length, width, pooled: vec![hidden[0]], mask: vec![1.0; length] }
    }

    #[test]
    fn features_are_joined_as_the_pipelines_do() {
        let (a, b) = (features(&[1.0, 2.0], 1), features(&[3.0, 4.0, 5.0, 6.0], 2));
        let beside = a.beside(&b);
        assert_eq!((&beside.hidden[..], beside.width), (&[1.0, 3.0, 4.0, 2.0, 5.0, 6.0][..], 3));
        assert_eq!(beside.pooled, [1.0, 3.0]);
        let before = a.before(&b);
        assert_eq!(before.hidden, [1.0, 0.0, 2.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((before.length, before.width, &before.pooled[..]), (4, 2, &[1.0][..]));
    }

    #[test]
    fn an_instruction_is_left_out() {
        let all = features(&[0.0, 1.0, 2.0, 3.0, 4.0], 1);
        assert_eq!(all.clone().selected(3).hidden, [0.0, 3.0, 4.0]);
        assert_eq!(all.selected(5).hidden.len(), 5);
    }

    #[test]
    fn states_are_counted_and_not_sorted_by_name() {
        let output = |name: &str| Declared { name: name.into(), onnx_type: 1, dims: Vec::new() };
        let outputs: Vec<_> = (0..12).map(|i| output(&std::format!("hidden_states.{i}"))).collect();
        assert_eq!(penultimate(&outputs), Some(10));
        assert_eq!(penultimate(&outputs[..1]), None);
    }
}
