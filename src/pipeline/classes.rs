//! The pipelines of diffusers 0.42.1, one row each: what they make of a prompt, how many steps they take, and what they
//! tell the scheduler.

use std::{format, string::String, vec::Vec};

use serde_json::Value;

use super::{
    PipelineError,
    preview::{self, Colours},
    text::{Features, Layer, TextEncoder},
};

/// A class of pipelines.
#[derive(Debug)]
pub struct Class {
    /// Without `Pipeline`.
    pub name: &'static str,
    /// The denoiser's folder.
    pub denoiser: &'static str,
    pub text: Text,
    /// Steps, and the scale of guidance, when none are asked for.
    pub steps: usize,
    pub guidance: f64,
    /// Whether guidance is between two evaluations, unless the network reads its scale.
    pub guided: bool,
    /// Whether four latents of a square are one token of the denoiser's.
    pub packed: bool,
    pub(super) scheduler: Scheduler,
    /// What its latents look like, if that is known.
    pub(super) colours: Option<&'static Colours>,
}

/// How a prompt's features become what the denoiser reads.
#[derive(Debug)]
pub enum Text {
    One(TextEncoder),
    /// Two encoders' features beside each other, and what the second makes of the whole prompt.
    Two([TextEncoder; 2]),
    /// Two encoders' features beside each other, before those of a third one, which may be missing.
    Three([TextEncoder; 3]),
    /// What the first makes of the whole prompt, and the second's features.
    Whole([TextEncoder; 2]),
}

/// What a pipeline tells its scheduler.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheduler {
    /// The number of steps.
    Plain,
    /// As that; and of a picture to begin with, all steps are in what is left of the times.
    Whole,
    /// Times in thousandths, shifted by the number of tokens if the configuration says so.
    Shifted,
    /// As that, even times, and the network reads them from 0 to 1.
    Even,
    /// The middle one of three angles.
    Angles,
}

const CLIP: TextEncoder = TextEncoder {
    encoder: "text_encoder",
    tokenizer: "tokenizer",
    layer: Layer::Last,
    length: None,
    plain: false,
    instruction: None,
};
const INNER_CLIP: TextEncoder = TextEncoder { layer: Layer::Penultimate, ..CLIP };
const SECOND_CLIP: TextEncoder =
    TextEncoder { encoder: "text_encoder_2", tokenizer: "tokenizer_2", ..INNER_CLIP };
const SECOND_T5: TextEncoder =
    TextEncoder { encoder: "text_encoder_2", tokenizer: "tokenizer_2", length: Some(512), ..CLIP };
const THIRD_T5: TextEncoder =
    TextEncoder { encoder: "text_encoder_3", tokenizer: "tokenizer_3", length: Some(256), ..CLIP };
const PLAIN_T5: TextEncoder = TextEncoder { length: Some(120), plain: true, ..CLIP };
const GEMMA: TextEncoder =
    TextEncoder { length: Some(300), plain: true, instruction: Some(SANA_INSTRUCTION), ..CLIP };

/// All classes.
pub static CLASSES: [Class; 8] = [
    Class {
        name: "StableDiffusion",
        denoiser: "unet",
        text: Text::One(CLIP),
        steps: 50,
        guidance: 7.5,
        guided: true,
        packed: false,
        scheduler: Scheduler::Plain,
        colours: Some(&preview::FIRST),
    },
    Class {
        name: "LatentConsistencyModel",
        denoiser: "unet",
        text: Text::One(CLIP),
        steps: 4,
        guidance: 8.5,
        guided: false,
        packed: false,
        scheduler: Scheduler::Whole,
        colours: Some(&preview::FIRST),
    },
    Class {
        name: "StableDiffusionXL",
        denoiser: "unet",
        text: Text::Two([INNER_CLIP, SECOND_CLIP]),
        steps: 50,
        guidance: 5.0,
        guided: true,
        packed: false,
        scheduler: Scheduler::Plain,
        colours: Some(&preview::XL),
    },
    Class {
        name: "StableDiffusion3",
        denoiser: "transformer",
        text: Text::Three([INNER_CLIP, SECOND_CLIP, THIRD_T5]),
        steps: 28,
        guidance: 7.0,
        guided: true,
        packed: false,
        scheduler: Scheduler::Shifted,
        colours: Some(&preview::THIRD),
    },
    Class {
        name: "Flux",
        denoiser: "transformer",
        text: Text::Whole([CLIP, SECOND_T5]),
        steps: 28,
        guidance: 3.5,
        guided: false,
        packed: true,
        scheduler: Scheduler::Even,
        colours: Some(&preview::FLUX),
    },
    Class {
        name: "SanaSprint",
        denoiser: "transformer",
        text: Text::One(GEMMA),
        steps: 2,
        guidance: 4.5,
        guided: false,
        packed: false,
        scheduler: Scheduler::Angles,
        colours: None,
    },
    Class {
        name: "PixArtAlpha",
        denoiser: "transformer",
        text: Text::One(PLAIN_T5),
        steps: 20,
        guidance: 4.5,
        guided: true,
        packed: false,
        scheduler: Scheduler::Plain,
        colours: Some(&preview::FIRST),
    },
    Class {
        name: "PixArtSigma",
        denoiser: "transformer",
        text: Text::One(TextEncoder { length: Some(300), ..PLAIN_T5 }),
        steps: 20,
        guidance: 4.5,
        guided: true,
        packed: false,
        scheduler: Scheduler::Plain,
        colours: Some(&preview::XL),
    },
];

/// The class of this name.
pub(super) fn find(name: &str) -> Result<&'static Class, PipelineError> {
    CLASSES.iter().find(|class| class.name == name).ok_or_else(|| {
        let known: Vec<_> = CLASSES.iter().map(|class| class.name).collect();
        PipelineError::Class { class: name.into(), known: known.join(", ") }
    })
}

/// Encodes prompts with one encoder.
pub(super) type Encode<'a> = &'a mut dyn FnMut(&TextEncoder) -> Result<Vec<Features>, PipelineError>;

impl Class {
    /// What components are called, `vae` for both halves of the autoencoder.
    pub fn components(&self) -> Vec<&'static str> {
        let encoders = self.text.encoders().iter().map(|encoder| encoder.encoder);
        encoders.chain([self.denoiser, "vae", "vae_encoder", "vae_decoder"]).collect()
    }
}

impl Text {
    /// All encoders, in the order in which they are used.
    pub fn encoders(&self) -> &[TextEncoder] {
        match self {
            Text::One(one) => core::slice::from_ref(one),
            Text::Two(two) | Text::Whole(two) => two,
            Text::Three(three) => three,
        }
    }

    /// What the denoiser reads, for each prompt.
    pub(super) fn features(&self, encode: Encode<'_>) -> Result<Vec<Features>, PipelineError> {
        let found = self.encoders().iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or_default();
        let pairs = |a: Vec<Features>, b: Vec<Features>, join: fn(&Features, &Features) -> Features| {
            a.iter().zip(&b).map(|(a, b)| join(a, b)).collect::<Vec<_>>()
        };
        Ok(match self {
            Text::One(_) => next(),
            Text::Two(_) => {
                pairs(next(), next(), |a, b| Features { pooled: b.pooled.clone(), ..a.beside(b) })
            }
            Text::Whole(_) => {
                pairs(next(), next(), |a, b| Features { pooled: a.pooled.clone(), ..b.clone() })
            }
            Text::Three(_) => pairs(pairs(next(), next(), Features::beside), next(), Features::before),
        })
    }
}

impl Scheduler {
    /// Keys of `[sampling]` beside what the scheduler's configuration says, for so many tokens of latents.
    pub(super) fn keys(self, steps: usize, config: &str, tokens: usize) -> String {
        let steps = format!("steps = {steps}\n");
        match self {
            // The pipelines tell it so, whatever its own default is.
            Scheduler::Plain if config.contains("\"TCDScheduler\"") => steps + "eta = 0\n",
            Scheduler::Plain | Scheduler::Whole => steps,
            Scheduler::Shifted => steps + &shift(config, tokens, 1.16, "linspace"),
            Scheduler::Even => {
                steps + "schedule = \"uniform\"\ntime_scale = 1\n" + &shift(config, tokens, 1.15, "uniform")
            }
            Scheduler::Angles => steps + "times = [1.5708, 1.3, 0]\n",
        }
    }
}

/// Timesteps of the distillation.
const POINTS: usize = 50;

impl Scheduler {
    /// Where so many steps lie that begin with a picture, if not all times are divided by their number: `LCMScheduler` with
    /// a strength.
    pub(super) fn begun_times(self, strength: Option<f64>, steps: usize) -> Option<Vec<f64>> {
        let points = (POINTS as f64 * strength?) as usize;
        if !matches!(self, Scheduler::Whole) || steps > points {
            return None;
        }
        let point = |step: usize| (points - points * step / steps) * (1000 / POINTS) - 1;
        Some((0..steps).map(|step| point(step) as f64).chain([0.0]).collect())
    }
}

/// The shift for so many tokens, if the configuration leaves it to the pipeline: `calculate_shift`.
fn shift(config: &str, tokens: usize, most: f64, schedule: &str) -> String {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    if config.get("use_dynamic_shifting") != Some(&Value::Bool(true)) {
        return String::new();
    }
    let number = |key: &str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
    let (first, last) = (number("base_image_seq_len", 256.0), number("max_image_seq_len", 4096.0));
    let (low, high) = (number("base_shift", 0.5), number("max_shift", most));
    let slope = (high - low) / (last - first);
    let mu = tokens as f64 * slope + low - slope * first;
    let linear = config.get("time_shift_type").is_some_and(|kind| kind == "linear");
    let shift = if linear { mu } else { mu.exp() };
    let schedule = if schedule == "uniform" { String::new() } else { format!("schedule = {schedule:?}\n") };
    format!("{schedule}shift = {shift}\n")
}

/// `complex_human_instruction` of diffusers' `SanaSprintPipeline`.
const SANA_INSTRUCTION: &str = "\
Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable for image generation. Evaluate the level of detail in the user prompt:
- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships to create vivid and concrete scenes.
- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.
Here are examples of how to transform or refine prompts:
- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.
- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.
Please generate only the enhanced description for the prompt below and avoid including any additional commentary or evaluations:
User Prompt: ";

#[cfg(test)]
mod tests {
    use super::*;

    /// diffusers 0.42.1, `LCMScheduler().set_timesteps(4, original_inference_steps=50, strength=0.6)`.
    #[test]
    fn all_steps_are_in_what_is_left() {
        let times = Scheduler::Whole.begun_times(Some(0.6), 4);
        assert_eq!(times.as_deref(), Some(&[599.0, 459.0, 299.0, 159.0, 0.0][..]));
        assert_eq!(Scheduler::Plain.begun_times(Some(0.6), 4), None);
    }

    #[test]
    fn shifts_depend_on_the_tokens() {
        let config = r#"{"use_dynamic_shifting": true}"#;
        let keys = Scheduler::Even.keys(4, config, 4096);
        assert!(keys.contains("shift = 3.158"), "{keys}");
        let keys = Scheduler::Even.keys(4, "{}", 4096);
        assert!(!keys.contains("shift"), "{keys}");
    }
}
