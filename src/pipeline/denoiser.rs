//! What a denoiser's inputs are for: the manifest of a network that only its folder describes.

use std::{borrow::ToOwned, string::String, vec, vec::Vec};

use super::{
    PipelineError,
    classes::{Class, Scheduler},
    component::{Components, names},
    folder::{DenoiserConfig, INDEX, SCHEDULER, Sides},
    text::Features,
};
use crate::manifest::{Condition, Encoding, Input, Manifest, Model, Output, OutputKind, Role, Sampling};
use crate::onnx::{Declared, Dimension, Header};
use crate::sampler::{Guidance, Process};

/// Rows and columns of latents, where no configuration says so: those of FLUX.1.
const ROWS: usize = 128;
/// The same, of pipelines whose older exports have no configuration: Stable Diffusion 1.
const ROWS_OF_FIRST: usize = 64;

/// A denoiser's network and configuration.
#[derive(Debug)]
pub(super) struct Denoiser {
    pub(super) class: &'static Class,
    header: Header,
    config: DenoiserConfig,
    reduction: usize,
    /// Of latents, before they are packed.
    pub(super) channels: usize,
    /// The scheduler's configuration.
    scheduler: String,
}

impl Denoiser {
    /// Reads what a folder says of its denoiser.
    pub(super) fn read(
        components: &Components,
        class: &'static Class,
        reduction: usize,
    ) -> Result<Denoiser, PipelineError> {
        let header =
            components.header(class.denoiser)?.ok_or_else(|| components.folder.missing(class.denoiser))?;
        let config: DenoiserConfig = components.folder.config(class.denoiser)?;
        let declared =
            header.inputs.iter().find(|input| is_state(input)).and_then(|input| input.dims.get(axis(class)));
        let channels = match (config.in_channels, declared) {
            (Some(channels), _) | (None, Some(&Dimension::Fixed(channels))) => channels,
            _ => 4,
        };
        let channels = if class.packed { channels / 4 } else { channels };
        let scheduler = components.folder.scheduler()?;
        Ok(Denoiser { class, header, config, reduction, channels, scheduler })
    }

    /// Rows and columns of a picture.
    pub(super) fn size(
        &self,
        height: Option<usize>,
        width: Option<usize>,
    ) -> Result<[usize; 2], PipelineError> {
        let rows = if self.class.denoiser == "unet" { ROWS_OF_FIRST } else { ROWS };
        let own = self.config.sample_size.unwrap_or(Sides::Both(rows)).rows_and_columns();
        let size = [height.unwrap_or(own[0] * self.reduction), width.unwrap_or(own[1] * self.reduction)];
        // Whole patches of whole latents.
        let patch = if self.class.packed { 2 } else { self.config.patch_size.unwrap_or(1) };
        let multiple = self.reduction * patch;
        if size.iter().any(|&side| side == 0 || side % multiple > 0) {
            return Err(PipelineError::Size { size, multiple });
        }
        Ok(size)
    }

    /// Channels, rows and columns of the latents of such a picture.
    pub(super) fn latents(&self, size: [usize; 2]) -> [usize; 3] {
        [self.channels, size[0] / self.reduction, size[1] / self.reduction]
    }

    /// What the network takes of a token, if it says so.
    pub(super) fn text_width(&self) -> Option<usize> {
        let input = self.header.inputs.iter().find(|input| input.name == "encoder_hidden_states")?;
        match input.dims.last() {
            Some(&Dimension::Fixed(width)) => Some(width),
            _ => None,
        }
    }

    /// Whether the network reads the scale of its guidance.
    pub(super) fn reads_guidance(&self) -> bool {
        self.header.inputs.iter().any(|input| ["timestep_cond", "guidance"].contains(&input.name.as_str()))
    }

    /// Whether guidance of such a scale is between two evaluations.
    pub(super) fn is_guided(&self, scale: Option<f64>) -> bool {
        self.class.guided && !self.reads_guidance() && scale.unwrap_or(self.class.guidance) > 1.0
    }

    /// How the network is sampled for pictures of a size and prompts of a length. What differs between prompts is not in it,
    /// so that one plan serves them all.
    pub(super) fn manifest(
        &self,
        components: &Components,
        size: [usize; 2],
        features: &Features,
        guided: bool,
    ) -> Result<Manifest, PipelineError> {
        let latents = self.latents(size);
        let input = |declared: &Declared| {
            let role = self.role(declared, size, features)?;
            Ok(Input { name: declared.name.clone(), role })
        };
        let inputs = self.header.inputs.iter().map(input).collect::<Result<Vec<_>, PipelineError>>()?;
        let network = components.folder.needed(self.class.denoiser)?.into();
        let model = Model { name: self.class.name.to_owned(), network, summary: None, license: None };
        let scale = self.class.guidance;
        let guidance = guided.then(|| Guidance { scale, ..Guidance::default() });
        let sampling = self.sampling(components, latents)?;
        let output = Output { name: None, kind: OutputKind::Tensor };
        let origin = components.folder.files().path(INDEX);
        Ok(Manifest::new(origin, model, inputs, sampling, guidance, output)?)
    }

    fn sampling(&self, components: &Components, latents: [usize; 3]) -> Result<Sampling, PipelineError> {
        let patch = self.config.patch_size.unwrap_or(2);
        let patch = if self.class.packed { 2 } else { patch };
        let tokens = latents[1] / patch * (latents[2] / patch);
        let beside = self.class.scheduler.keys(self.class.steps, &self.scheduler, tokens);
        let path = components.folder.files().path(SCHEDULER);
        Sampling::from_scheduler_config(&self.scheduler, &beside)
            .map_err(|source| PipelineError::Scheduler { path, source })
    }

    /// What an input is for, by the name that all exporters give it.
    fn role(&self, input: &Declared, size: [usize; 2], features: &Features) -> Result<Role, PipelineError> {
        let latents @ [channels, rows, columns] = self.latents(size);
        let given = |shape: Vec<usize>| Condition { shape, ..nothing() };
        let known =
            |shape: Vec<usize>, values: Vec<f64>| Condition { shape, default: Some(values), ..nothing() };
        let scale = |shape, encoding| Condition {
            shape,
            default: Some(vec![self.class.guidance]),
            encoding: Some(encoding),
            ..nothing()
        };
        let tokens = features.length;
        Ok(Role::Condition(match input.name.as_str() {
            "sample" | "hidden_states" if self.class.packed => {
                return Ok(Role::State { shape: vec![rows / 2 * (columns / 2), 4 * channels] });
            }
            "sample" | "hidden_states" => return Ok(Role::State { shape: latents.to_vec() }),
            "timestep" => return Ok(Role::Time),
            "encoder_hidden_states" => {
                self.check_width(input, features.width)?;
                given(vec![tokens, features.width])
            }
            "encoder_attention_mask" => known(vec![tokens], vec![1.0]),
            "text_embeds" | "pooled_projections" => {
                self.check_width(input, features.pooled.len())?;
                given(vec![features.pooled.len()])
            }
            "time_ids" => known(vec![6], time_ids(size)),
            "resolution" => known(vec![2], size.map(|side| side as f64).to_vec()),
            "aspect_ratio" => known(vec![1], vec![size[0] as f64 / size[1] as f64]),
            "txt_ids" => known(vec![tokens, 3], vec![0.0]),
            "img_ids" => known(vec![rows / 2 * (columns / 2), 3], positions(rows / 2, columns / 2)),
            "timestep_cond" => {
                let Some(&Dimension::Fixed(length)) = input.dims.last() else {
                    return Err(self.unknown(input, "its length is open, which the export has to fix"));
                };
                scale(vec![length], Encoding::Embedding)
            }
            "guidance" => {
                let scaled = self.config.guidance_embeds_scale.unwrap_or(match self.class.scheduler {
                    Scheduler::Angles => 0.1,
                    _ => 1.0,
                });
                scale(Vec::new(), Encoding::Scaled { scale: scaled })
            }
            _ => return Err(self.unknown(input, "no pipeline of this class has it; export it without")),
        }))
    }

    /// That an encoder gives what the network takes.
    fn check_width(&self, input: &Declared, found: usize) -> Result<(), PipelineError> {
        match input.dims.last() {
            Some(&Dimension::Fixed(wanted)) if wanted != found => Err(PipelineError::Width {
                component: self.class.denoiser.to_owned(),
                input: input.name.clone(),
                found,
                wanted,
            }),
            _ => Ok(()),
        }
    }

    fn unknown(&self, input: &Declared, what: &'static str) -> PipelineError {
        PipelineError::Input {
            component: self.class.denoiser.to_owned(),
            input: input.name.clone(),
            what,
            known: names(&self.header.inputs),
        }
    }
}

/// Standard deviation of the data that a process's states are scaled by, which latents are divided by in the end.
pub(super) fn data_deviation(manifest: &Manifest) -> f64 {
    match manifest.sampling.parameterisation.process {
        Process::Trigonometric { sigma_data } => sigma_data,
        _ => 1.0,
    }
}

/// Latents as tokens: four of a square, with all their channels, in one. [rows / 2 * columns / 2, channels * 4]
pub(super) fn pack(latents: &[f32], shape: [usize; 3]) -> Vec<f32> {
    places(shape).map(|place| latents[place]).collect()
}

/// What was [packed](pack), as it was.
pub(super) fn unpack(packed: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let mut latents = vec![0.0; packed.len()];
    places(shape).zip(packed).for_each(|(place, &value)| latents[place] = value);
    latents
}

/// Where each number of the tokens is among the latents.
fn places([channels, rows, columns]: [usize; 3]) -> impl Iterator<Item = usize> {
    let squares = (0..rows / 2).flat_map(move |y| (0..columns / 2).map(move |x| (2 * y, 2 * x)));
    squares.flat_map(move |(y, x)| {
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let place = move |channel, (dy, dx)| (channel * rows + y + dy) * columns + x + dx;
        (0..channels).flat_map(move |channel| corners.map(move |corner| place(channel, corner)))
    })
}

fn is_state(input: &Declared) -> bool {
    ["sample", "hidden_states"].contains(&input.name.as_str())
}

/// Where the channels of a state are.
fn axis(class: &Class) -> usize {
    if class.packed { 2 } else { 1 }
}

fn nothing() -> Condition {
    Condition {
        shape: Vec::new(),
        default: None,
        negative: None,
        range: None,
        integer: false,
        prior: false,
        encoding: None,
    }
}

/// SDXL: the size of the original, where it was cut, and the size that is asked for.
fn time_ids([height, width]: [usize; 2]) -> Vec<f64> {
    [height, width, 0, 0, height, width].map(|number| number as f64).to_vec()
}

/// FLUX: nothing, the row and the column of each token.
fn positions(rows: usize, columns: usize) -> Vec<f64> {
    (0..rows).flat_map(|y| (0..columns).flat_map(move |x| [0.0, y as f64, x as f64])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone() {
        let shape = [3, 4, 6];
        let latents: Vec<f32> = (0..72).map(|i| i as f32).collect();
        let packed = pack(&latents, shape);
        // The first token: the square at the top left, channel by channel.
        assert_eq!(packed[..8], [0.0, 1.0, 6.0, 7.0, 24.0, 25.0, 30.0, 31.0]);
        assert_eq!(unpack(&packed, shape), latents);
    }
}
