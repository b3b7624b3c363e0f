//! From a request to pictures: each component in its turn.

use std::{borrow::ToOwned, string::String, vec, vec::Vec};

use super::{
    Drawn, Event, Pipeline, PipelineError, Planes, Request,
    component::session_failed,
    denoiser::{Denoiser, data_deviation, pack, unpack},
    text::{Features, TextEncoder},
    vae::{self, Autoencoder, Encoded},
};
use crate::manifest;
use crate::mapping;
use crate::sampler::Noise;
use crate::session::{Control, Flow, Progress, Run, Session, SessionError};

pub(super) type Watch<'a> = &'a mut (dyn FnMut(Event<'_>) -> Flow + Send);

/// What diffusers' image-to-image pipelines have.
const STRENGTH: f64 = 0.8;
/// The encoder that Stable Diffusion 3 may do without, for which there are zeros then.
pub(super) const OPTIONAL: &str = "text_encoder_3";
/// What T5 gives of a token, if the denoiser does not say.
const T5_WIDTH: usize = 4096;

pub(super) fn generate(
    pipeline: &Pipeline,
    request: &Request<'_>,
    watch: Watch<'_>,
) -> Result<Drawn, PipelineError> {
    let Pipeline { class, components } = pipeline;
    let (denoiser, autoencoder) = described(pipeline)?;
    let mut request = request.clone();
    let size = size_of(&denoiser, &request)?;
    check_pictures(&request, size)?;
    let guided = denoiser.is_guided(request.sampling.guidance);
    if !guided && !denoiser.reads_guidance() {
        request.sampling.guidance = None;
    }
    if request.negative_prompt.is_some() && !class.guided {
        return Err(PipelineError::NoNegative { class: class.name });
    }
    let features = features(pipeline, &request, &denoiser, guided, watch)?;
    let reference = Reference::new(pipeline, &request, &denoiser, size, &autoencoder, watch)?;
    mapping::trim();
    let (latents, steps) = {
        watch(Event::Opening(class.denoiser));
        let manifest = denoiser.manifest(components, size, &features[0], guided)?;
        let mut session = components.session(class.denoiser, manifest)?;
        let run = Denoising { denoiser: &denoiser, request: &request, size, reference: reference.as_ref() };
        run.prepare(&mut session, &features).map_err(|error| session_failed(class.denoiser, error))?;
        drop(features);
        let steps = session.steps();
        (run.draw(&mut session, watch)?, steps)
    };
    mapping::trim();
    watch(Event::Opening(vae::DECODER));
    let mut note = |text: String| _ = watch(Event::Note(&text));
    let pictures = vae::decode(components, &autoencoder, &latents, request.tiled, &mut note)?;
    Ok(Drawn { pictures, latents, steps })
}

/// Rows and columns of the pictures that a request asks for.
pub(super) fn size(pipeline: &Pipeline, request: &Request<'_>) -> Result<[usize; 2], PipelineError> {
    size_of(&described(pipeline)?.0, request)
}

/// Those that are asked for, or those of the picture to begin with.
pub(super) fn size_of(denoiser: &Denoiser, request: &Request<'_>) -> Result<[usize; 2], PipelineError> {
    let own = request.image.map(|image| image.shape);
    denoiser.size(request.height.or(own.map(|own| own[1])), request.width.or(own.map(|own| own[2])))
}

pub(super) fn described(pipeline: &Pipeline) -> Result<(Denoiser, Autoencoder), PipelineError> {
    let Pipeline { class, components } = pipeline;
    let autoencoder = Autoencoder::read(components)?;
    Ok((Denoiser::read(components, class, autoencoder.reduction)?, autoencoder))
}

fn check_pictures(request: &Request<'_>, [height, width]: [usize; 2]) -> Result<(), PipelineError> {
    let wanted = [("the picture", request.image, 3), ("the mask", request.mask, 1)];
    for (what, planes, channels) in wanted {
        let wanted = [channels, height, width];
        match planes {
            Some(planes) if planes.shape != wanted => {
                return Err(PipelineError::Shape { what, found: planes.shape, wanted });
            }
            _ => {}
        }
    }
    if request.mask.is_some() && request.image.is_none() { Err(PipelineError::NoImage) } else { Ok(()) }
}

/// What the denoiser reads of the prompt, and of what it is to move away from.
pub(super) fn features(
    pipeline: &Pipeline,
    request: &Request<'_>,
    denoiser: &Denoiser,
    guided: bool,
    watch: Watch<'_>,
) -> Result<Vec<Features>, PipelineError> {
    let components = &pipeline.components;
    let zeros = guided
        && request.negative_prompt.is_none()
        && components.folder.flag("force_zeros_for_empty_prompt") == Some(true);
    let mut prompts = vec![request.prompt];
    if guided && !zeros {
        prompts.push(request.negative_prompt.unwrap_or(""));
    }
    let mut features = pipeline.class.text.features(&mut |encoder| {
        let length = encoder.length.map(|own| request.prompt_tokens.unwrap_or(own));
        if encoder.encoder == OPTIONAL && components.folder.network(OPTIONAL)?.is_none() {
            let width = denoiser.text_width().unwrap_or(T5_WIDTH);
            return Ok(vec![Features::nothing(length.unwrap_or(0), width); prompts.len()]);
        }
        watch(Event::Opening(encoder.encoder));
        let mut warn = |text: String| _ = watch(Event::Note(&text));
        let instruction = encoder.instruction.filter(|_| request.instructed);
        TextEncoder { length, instruction, ..*encoder }.encode(components, &prompts, &mut warn)
    })?;
    if zeros && let Some(own) = features.first() {
        features.push(own.zeroed());
    }
    Ok(features)
}

/// A picture that others begin with.
struct Reference {
    encoded: Encoded,
    autoencoder: Autoencoder,
    /// For each latent of a channel: 1 where it is drawn anew; empty if all are.
    mask: Vec<f32>,
}

impl Reference {
    fn new(
        pipeline: &Pipeline,
        request: &Request<'_>,
        denoiser: &Denoiser,
        size: [usize; 2],
        autoencoder: &Autoencoder,
        watch: Watch<'_>,
    ) -> Result<Option<Reference>, PipelineError> {
        let Some(image) = request.image else { return Ok(None) };
        watch(Event::Opening(vae::ENCODER));
        let encoded = vae::encode(&pipeline.components, image, denoiser.channels, autoencoder.reduction)?;
        let [_, rows, columns] = denoiser.latents(size);
        let mask = match request.mask {
            None => Vec::new(),
            // The pixel at the top left of what a latent stands for.
            Some(mask) => (0..rows)
                .flat_map(|y| (0..columns).map(move |x| (y * size[0] / rows, x * size[1] / columns)))
                .map(|(y, x)| if mask.values[y * size[1] + x] < 0.5 { 0.0 } else { 1.0 })
                .collect(),
        };
        Ok(Some(Reference { encoded, autoencoder: autoencoder.clone(), mask }))
    }
}

/// A denoiser's run.
struct Denoising<'a> {
    denoiser: &'a Denoiser,
    request: &'a Request<'a>,
    size: [usize; 2],
    reference: Option<&'a Reference>,
}

impl Denoising<'_> {
    /// Tells a session what is asked for, and the features of the prompt and of what guidance moves away from.
    fn prepare(&self, session: &mut Session, features: &[Features]) -> Result<(), SessionError> {
        let begun = self.reference.is_some_and(|reference| reference.mask.is_empty());
        let asked = self.request.sampling;
        let strength = asked.strength.or(begun.then_some(STRENGTH));
        let steps = asked.steps.unwrap_or(self.denoiser.class.steps);
        match self.denoiser.class.scheduler.begun_times(strength, steps) {
            Some(times) if asked.times.is_none() => {
                session.prepare(&manifest::Request { strength: None, times: Some(&times), ..asked })?;
            }
            _ => session.prepare(&manifest::Request { strength, ..asked })?,
        }
        let names: Vec<String> = session.manifest().conditions().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            for (at, features) in features.iter().enumerate().take(2) {
                let Some(values) = values(features, &name) else { continue };
                let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                match at {
                    0 => session.set_condition(&name, &values)?,
                    _ => session.set_negative(&name, &values)?,
                }
            }
        }
        Ok(())
    }

    /// Draws latents, one picture's after the other's.
    fn draw(&self, session: &mut Session, watch: Watch<'_>) -> Result<Vec<Planes>, PipelineError> {
        let deviation = data_deviation(session.manifest()) as f32;
        let name = self.denoiser.class.denoiser;
        let shape = self.denoiser.latents(self.size);
        let mut drawn = Vec::with_capacity(self.request.count);
        for picture in 0..self.request.count {
            let mut values = vec![0.0; session.elements()];
            let mut after = |progress: Progress<'_>| {
                let Progress { step, steps, clean, .. } = progress;
                let unpacked = self.denoiser.class.packed.then(|| unpack(clean, shape));
                let clean = unpacked.as_deref().unwrap_or(clean);
                watch(Event::Step { picture, step, steps, clean, shape })
            };
            match self.sample(session, picture, &mut after, &mut values) {
                Err(SessionError::Cancelled { .. }) => return Err(PipelineError::Cancelled),
                sampled => sampled.map_err(|error| session_failed(name, error))?,
            }
            values.iter_mut().for_each(|value| *value /= deviation);
            let values = if self.denoiser.class.packed { unpack(&values, shape) } else { values };
            drawn.push(Planes { values, shape });
        }
        Ok(drawn)
    }

    /// Draws one picture's latents, with noise in the order in which diffusers draws it: for the picture to begin with, the
    /// first state, what the mask leaves of the picture, the steps.
    fn sample(
        &self,
        session: &mut Session,
        picture: usize,
        after: &mut (dyn FnMut(Progress<'_>) -> Flow + Send),
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let shape = self.denoiser.latents(self.size);
        let mut generator = (self.request.rng.new)(self.request.seed.wrapping_add(picture as u64));
        let mut draw = || {
            let mut noise = vec![0.0; out.len()];
            generator.fill_normal(&mut noise);
            noise
        };
        let in_tokens =
            |latents: Vec<f32>| if self.denoiser.class.packed { pack(&latents, shape) } else { latents };
        if let Some(Reference { encoded, autoencoder, mask }) = self.reference {
            let noise = if encoded.is_drawn() { draw() } else { Vec::new() };
            let latents = in_tokens(encoded.latents(&autoencoder.config, &noise).values);
            let control = if mask.is_empty() { Control::Start } else { Control::Keep { mask } };
            session.set_reference(&latents, control)?;
        }
        let initial = in_tokens(draw());
        if self.reference.is_some_and(|reference| reference.encoded.is_drawn() && !reference.mask.is_empty())
        {
            draw();
        }
        let run = Run { initial: Some(&initial), after: Some(after), ..Run::default() };
        session.sample_with(run, &mut generator, out)
    }
}

/// What an input of the denoiser's reads of a prompt, if it does.
fn values<'a>(features: &'a Features, name: &str) -> Option<&'a [f32]> {
    match name {
        "encoder_hidden_states" => Some(&features.hidden),
        "encoder_attention_mask" => Some(&features.mask),
        "text_embeds" | "pooled_projections" => Some(&features.pooled),
        _ => None,
    }
}
