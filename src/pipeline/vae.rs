//! From latents to pictures and back: the two halves of an autoencoder.

use std::{borrow::ToOwned, collections::BTreeMap, format, string::String, vec, vec::Vec};

use super::{
    PipelineError,
    component::{Components, failed},
    folder::AutoencoderConfig,
};
use crate::onnx::Shapes;
use crate::provider::{Network, NetworkError};

pub(super) const DECODER: &str = "vae_decoder";
pub(super) const ENCODER: &str = "vae_encoder";

/// What of a tile lies in the next one, as in diffusers' `AutoencoderKL`.
const OVERLAP: f64 = 0.25;

/// Numbers in channels, rows and columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planes {
    /// [channels, rows, columns]
    pub values: Vec<f32>,
    /// Channels, rows, columns.
    pub shape: [usize; 3],
}

/// Rows and columns of latents that no tile is smaller than.
const LEAST: usize = 8;

/// An autoencoder's configuration, and how many pixels of a side one latent is.
#[derive(Clone, Debug)]
pub(super) struct Autoencoder {
    pub(super) config: AutoencoderConfig,
    pub(super) reduction: usize,
}

impl Autoencoder {
    pub(super) fn read(components: &Components) -> Result<Autoencoder, PipelineError> {
        let config: AutoencoderConfig = components.folder.config(DECODER)?;
        let header = components.header(DECODER)?.ok_or_else(|| components.folder.missing(DECODER))?;
        // Each of them doubles the sides.
        let enlargements = || {
            header
                .operators
                .iter()
                .filter(|operator| ["Resize", "Upsample"].contains(&operator.as_str()))
                .count()
        };
        let reduction = config.reduction().unwrap_or_else(|| 1 << enlargements().min(8));
        Ok(Autoencoder { config, reduction })
    }

    /// Rows and columns of latents that it was made for.
    fn tile(&self) -> [usize; 2] {
        self.config.sample_size().map(|side| (side / self.reduction).max(LEAST))
    }
}

/// Decodes latents as a denoiser leaves them, of one shape, to pictures from -1 to 1: whole, or in tiles of the size that
/// the autoencoder was made for, or of the largest size that the memory allows. `note` is told of that.
pub(super) fn decode(
    components: &Components,
    autoencoder: &Autoencoder,
    latents: &[Planes],
    tiled: bool,
    note: &mut dyn FnMut(String),
) -> Result<Vec<Planes>, PipelineError> {
    let latents: Vec<Planes> = latents.iter().map(|latents| unscaled(latents, &autoencoder.config)).collect();
    let [_, rows, columns] = latents.first().map_or([0; 3], |latents| latents.shape);
    let mut side = if tiled { autoencoder.tile() } else { [rows, columns] };
    // Why not all at once.
    let mut first: Option<PipelineError> = None;
    loop {
        let tile = |latents| in_tiles(components, autoencoder.reduction, latents, side);
        let error = match (latents.iter().map(tile).collect::<Result<Vec<_>, _>>(), &first) {
            (Ok(decoded), None) => return Ok(decoded),
            (Ok(decoded), Some(error)) => {
                let why = match error.budget() {
                    Some([given, least]) => {
                        format!("all latents at once take {least} bytes, and {given} are allowed")
                    }
                    None => "the bundle has no plan for all latents at once".to_owned(),
                };
                let [rows, columns] = side;
                note(format!("{DECODER}: {why}, so they are decoded in tiles of {rows} by {columns}"));
                return Ok(decoded);
            }
            (Err(error), _) => error,
        };
        let is_unbundled = matches!(error, PipelineError::NotBundled { .. });
        let smaller = side.map(|side| (side / 2).max(LEAST).min(side));
        if side == smaller || error.budget().is_none() && !is_unbundled {
            // Which tiles it has, a bundle does not say; what all of them at once lack counts.
            return Err(first.filter(|_| is_unbundled).unwrap_or(error));
        }
        first.get_or_insert(error);
        side = smaller;
    }
}

/// What an encoder makes of a picture.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    mean: Planes,
    /// Standard deviations; empty if the encoder gives latents themselves.
    deviation: Vec<f32>,
}

/// Encodes a picture, -1 to 1, into so many channels, with one latent for `reduction` pixels of a side.
pub(super) fn encode(
    components: &Components,
    picture: &Planes,
    channels: usize,
    reduction: usize,
) -> Result<Encoded, PipelineError> {
    let header = components.header(ENCODER)?.ok_or_else(|| components.folder.missing(ENCODER))?;
    if let [noise] = &header.noise[..]
        && components.is_ours(ENCODER)
    {
        return encode_drawing(components, picture, channels, reduction, noise);
    }
    let found =
        evaluate(components, ENCODER, core::slice::from_ref(picture), None)?.pop().unwrap_or_default();
    let [all, rows, columns] = found.shape;
    let (mean, rest) = found.values.split_at((channels * rows * columns).min(found.values.len()));
    let deviation = match all {
        _ if all == channels => Vec::new(),
        // The logarithm of the variance, within its bounds.
        _ if all == 2 * channels => rest.iter().map(|log| (0.5 * log.clamp(-30.0, 20.0)).exp()).collect(),
        _ => {
            return Err(PipelineError::Channels {
                component: ENCODER.to_owned(),
                found: all,
                wanted: channels,
            });
        }
    };
    Ok(Encoded { mean: Planes { values: mean.to_vec(), shape: [channels, rows, columns] }, deviation })
}

/// As [`encode`], by an encoder of diffusers' older script, which draws noise itself: latents are linear in that.
fn encode_drawing(
    components: &Components,
    picture: &Planes,
    channels: usize,
    reduction: usize,
    noise: &str,
) -> Result<Encoded, PipelineError> {
    let shape = [channels, picture.shape[1] / reduction, picture.shape[2] / reduction];
    let inputs = [picture.clone(), picture.clone()];
    let drawn = [0.0, 1.0].map(|value| Planes { values: vec![value; shape.iter().product()], shape });
    let found = evaluate(components, ENCODER, &inputs, Some((noise, &drawn)))?;
    let [mean, further] = &found[..] else {
        return Ok(Encoded { mean: Planes::default(), deviation: Vec::new() });
    };
    let deviation = further.values.iter().zip(&mean.values).map(|(further, mean)| further - mean).collect();
    Ok(Encoded { mean: mean.clone(), deviation })
}

impl Encoded {
    /// Whether latents are drawn from what the encoder gives.
    pub(super) fn is_drawn(&self) -> bool {
        !self.deviation.is_empty()
    }

    /// Latents as a denoiser knows them, drawn with unit normal noise.
    pub(super) fn latents(&self, config: &AutoencoderConfig, noise: &[f32]) -> Planes {
        let drawn = self.deviation.iter().zip(noise).map(|(deviation, noise)| deviation * noise);
        let drawn = drawn.chain(core::iter::repeat(0.0));
        let values: Vec<f32> = self.mean.values.iter().zip(drawn).map(|(mean, drawn)| mean + drawn).collect();
        scaled(Planes { values, ..self.mean.clone() }, config)
    }
}

/// Latents of the decoder's, of a denoiser's.
fn unscaled(latents: &Planes, config: &AutoencoderConfig) -> Planes {
    let plane = latents.shape[1] * latents.shape[2];
    let (scale, shift) = (config.scale(), config.shift());
    let value = |(i, &x): (usize, &f32)| match config.statistics() {
        Some((mean, deviation)) => {
            let channel = (i / plane.max(1)).min(mean.len() - 1);
            x * (deviation.get(channel).copied().unwrap_or(1.0) / scale) as f32 + mean[channel] as f32
        }
        None => x / scale as f32 + shift as f32,
    };
    Planes { values: latents.values.iter().enumerate().map(value).collect(), shape: latents.shape }
}

/// Latents of a denoiser's, of the encoder's.
fn scaled(latents: Planes, config: &AutoencoderConfig) -> Planes {
    let plane = latents.shape[1] * latents.shape[2];
    let (scale, shift) = (config.scale(), config.shift());
    let value = |(i, &x): (usize, &f32)| match config.statistics() {
        Some((mean, deviation)) => {
            let channel = (i / plane.max(1)).min(mean.len() - 1);
            (x - mean[channel] as f32) * (scale / deviation.get(channel).copied().unwrap_or(1.0)) as f32
        }
        None => (x - shift as f32) * scale as f32,
    };
    Planes { values: latents.values.iter().enumerate().map(value).collect(), shape: latents.shape }
}

/// Evaluates one half for inputs of one shape, and drops it. `noise` is what nodes draw otherwise, one for each input.
fn evaluate(
    components: &Components,
    name: &str,
    inputs: &[Planes],
    noise: Option<(&str, &[Planes])>,
) -> Result<Vec<Planes>, PipelineError> {
    let Some(first) = inputs.first() else { return Ok(Vec::new()) };
    let header = components.header(name)?.ok_or_else(|| components.folder.missing(name))?;
    let [input] = &header.inputs[..] else {
        let found = super::component::names(&header.inputs);
        return Err(PipelineError::Interface { component: name.to_owned(), what: "not one input", found });
    };
    let wrap = |error: NetworkError| failed(name, error);
    let run = |network: &mut Network, at: usize| -> Result<Planes, NetworkError> {
        network.io()?.input_f32(0)?.copy_from_slice(&inputs[at].values);
        if let Some((_, noise)) = noise {
            network.io()?.input_f32(1)?.copy_from_slice(&noise[at].values);
        }
        network.run()?;
        let shape = network.outputs().next().map(|(_, fact)| fact.shape).unwrap_or_default();
        let shape = shape
            .try_into()
            .map_or([0; 3], |[_, channels, rows, columns]: [usize; 4]| [channels, rows, columns]);
        Ok(Planes { values: network.io()?.output_f32(0)?.to_vec(), shape })
    };
    let shape = |planes: &Planes| [&[1], &planes.shape[..]].concat();
    let mut shapes = Shapes::from([(input.name.clone(), shape(first))]);
    shapes.extend(noise.map(|(name, noise)| (name.to_owned(), shape(&noise[0]))));
    // The last one, for noise that is none scales nothing.
    let mut calibrate = |network: &mut Network| Ok(run(network, inputs.len() - 1).map_err(wrap)?.values);
    let mut network = components.open(name, &shapes, &mut calibrate)?;
    (0..inputs.len()).map(|at| run(&mut network, at).map_err(wrap)).collect()
}

/// As `AutoencoderKL.tiled_decode`: each tile is decoded by itself, and goes over into those above and left of it. Tiles of
/// one shape are decoded one after the other, so that one network is open at a time.
fn in_tiles(
    components: &Components,
    reduction: usize,
    latents: &Planes,
    side: [usize; 2],
) -> Result<Planes, PipelineError> {
    let [_, rows, columns] = latents.shape;
    if rows <= side[0] && columns <= side[1] {
        return Ok(evaluate(components, DECODER, core::slice::from_ref(latents), None)?
            .pop()
            .unwrap_or_default());
    }
    let stride = side.map(|side| ((side as f64 * (1.0 - OVERLAP)) as usize).max(1));
    let starts = |length: usize, stride: usize| (0..length).step_by(stride).collect::<Vec<_>>();
    let (tops, lefts) = (starts(rows, stride[0]), starts(columns, stride[1]));
    let mut by_shape: BTreeMap<[usize; 3], Vec<(usize, Planes)>> = BTreeMap::new();
    for (at, (&top, &left)) in
        tops.iter().flat_map(|top| lefts.iter().map(move |left| (top, left))).enumerate()
    {
        let tile = cut(latents, [top, left], side);
        by_shape.entry(tile.shape).or_default().push((at, tile));
    }
    let mut tiles = vec![Planes::default(); tops.len() * lefts.len()];
    for same in by_shape.into_values() {
        let (places, inputs): (Vec<_>, Vec<_>) = same.into_iter().unzip();
        for (at, tile) in places.into_iter().zip(evaluate(components, DECODER, &inputs, None)?) {
            tiles[at] = tile;
        }
    }
    let whole = [rows, columns].map(|length| length * reduction);
    let kept = stride.map(|stride| stride * reduction);
    let blend = side.map(|side| (side as f64 * reduction as f64 * OVERLAP) as usize);
    Ok(joined(tiles, lefts.len(), whole, kept, blend))
}

/// A part of latents, as large as `side` where that does not go over the edge.
fn cut(latents: &Planes, [top, left]: [usize; 2], side: [usize; 2]) -> Planes {
    let [channels, rows, columns] = latents.shape;
    let (height, width) = (side[0].min(rows - top), side[1].min(columns - left));
    let mut values = Vec::with_capacity(channels * height * width);
    for row in (0..channels).flat_map(|channel| (top..top + height).map(move |row| channel * rows + row)) {
        values.extend_from_slice(&latents.values[row * columns + left..][..width]);
    }
    Planes { values, shape: [channels, height, width] }
}

/// Tiles, `across` in a row, as one picture: of each, `kept` rows and columns, of which the first `blend` go over.
fn joined(
    mut tiles: Vec<Planes>,
    across: usize,
    [rows, columns]: [usize; 2],
    kept: [usize; 2],
    blend: [usize; 2],
) -> Planes {
    let channels = tiles.first().map_or(0, |tile| tile.shape[0]);
    let mut whole = Planes { values: vec![0.0; channels * rows * columns], shape: [channels, rows, columns] };
    for at in 0..tiles.len() {
        let (done, rest) = tiles.split_at_mut(at);
        let tile = &mut rest[0];
        if at >= across {
            blend_rows(&done[at - across], tile, blend[0]);
        }
        if at % across > 0 {
            blend_columns(&done[at - 1], tile, blend[1]);
        }
        let [_, height, width] = tile.shape;
        let (top, left) = (at / across * kept[0], at % across * kept[1]);
        let (height, wide) = (height.min(kept[0]).min(rows - top), width.min(kept[1]).min(columns - left));
        for channel in 0..channels {
            for row in 0..height {
                let from = (channel * tile.shape[1] + row) * width;
                let to = (channel * rows + top + row) * columns + left;
                whole.values[to..to + wide].copy_from_slice(&tile.values[from..from + wide]);
            }
        }
    }
    whole
}

fn blend_rows(above: &Planes, tile: &mut Planes, extent: usize) {
    let extent = extent.min(above.shape[1]).min(tile.shape[1]);
    let [channels, rows, columns] = tile.shape;
    for channel in 0..channels {
        for y in 0..extent {
            let from = (channel * above.shape[1] + above.shape[1] - extent + y) * above.shape[2];
            let to = (channel * rows + y) * columns;
            let share = y as f32 / extent as f32;
            for x in 0..columns.min(above.shape[2]) {
                tile.values[to + x] = above.values[from + x] * (1.0 - share) + tile.values[to + x] * share;
            }
        }
    }
}

fn blend_columns(left: &Planes, tile: &mut Planes, extent: usize) {
    let extent = extent.min(left.shape[2]).min(tile.shape[2]);
    let [channels, rows, columns] = tile.shape;
    for channel in 0..channels {
        for y in 0..rows.min(left.shape[1]) {
            let from = (channel * left.shape[1] + y + 1) * left.shape[2] - extent;
            let to = (channel * rows + y) * columns;
            for x in 0..extent {
                let share = x as f32 / extent as f32;
                tile.values[to + x] = left.values[from + x] * (1.0 - share) + tile.values[to + x] * share;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles of one picture are that picture, however they are blended.
    #[test]
    fn tiles_join_to_what_they_were_cut_from() {
        let values = (0..2 * 7 * 9).map(|i| i as f32).collect();
        let picture = Planes { values, shape: [2, 7, 9] };
        let (tops, lefts) = ([0, 3, 6], [0, 3, 6]);
        let tiles = tops.iter().flat_map(|&top| lefts.iter().map(move |&left| [top, left]));
        let tiles = tiles.map(|at| cut(&picture, at, [4, 4])).collect();
        let whole = joined(tiles, 3, [7, 9], [3, 3], [1, 1]);
        assert_eq!(whole, picture);
    }

    /// `AutoencoderKL.blend_h` and `blend_v`: the earlier tile's last rows and columns go over into the later one's first.
    #[test]
    fn tiles_go_over_into_each_other() {
        let tile = |value: f32, shape| Planes { values: vec![value; 4], shape };
        let across = joined(vec![tile(0.0, [1, 1, 4]), tile(1.0, [1, 1, 4])], 2, [1, 6], [1, 3], [1, 2]);
        assert_eq!(across.values, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
        let down = joined(vec![tile(0.0, [1, 4, 1]), tile(1.0, [1, 4, 1])], 1, [6, 1], [3, 1], [2, 1]);
        assert_eq!(down.values, across.values);
    }

    #[test]
    fn scaling_is_undone() {
        let latents = Planes { values: vec![1.0, -2.0], shape: [2, 1, 1] };
        for json in [
            r#"{"scaling_factor": 0.5, "shift_factor": 0.1}"#,
            r#"{"latents_mean": [1, 2], "latents_std": [3, 4]}"#,
        ] {
            let config: AutoencoderConfig = serde_json::from_str(json).unwrap();
            let back = scaled(unscaled(&latents, &config), &config);
            assert!(back.values.iter().zip(&latents.values).all(|(a, b)| (a - b).abs() < 1e-6), "{back:?}");
        }
    }
}
