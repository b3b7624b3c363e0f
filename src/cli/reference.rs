//! The arguments of `sample` that give samples a reference.
#![forbid(unsafe_code)]

use super::npy::{self, Array, Elements, NpyError};
use clap::ValueEnum;
use fewstep::manifest::{Manifest, OutputKind};
use fewstep::pipeline::Planes;
use fewstep::session::{Control, Session, SessionError};
use image::{RgbImage, imageops, imageops::FilterType};
use std::path::{Path, PathBuf};

/// What diffusers' image-to-image pipelines have.
const STRENGTH: f64 = 0.8;

/// A picture or an array, and what a sample has to do with it.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Reference")]
pub struct ReferenceArgs {
    /// Begin with this picture or array, noised; its numbers are those that the network knows
    #[arg(long, visible_alias = "image", value_name = "FILE.png|.npy")]
    init: Option<PathBuf>,
    /// Share of the steps that are taken from it [default: 0.8, and 1 with --mask or --edit]
    #[arg(long, requires = "init")]
    strength: Option<f64>,
    /// Keep it where this is black or 0, and draw anew where it is white or 1
    #[arg(long, value_name = "FILE.png|.npy", requires = "init")]
    mask: Option<PathBuf>,
    /// Keep it in every clean estimate: where the mask says, its grey, or its means of 8 by 8 pixels
    #[arg(long, value_enum, requires = "init")]
    edit: Option<Edit>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Edit {
    Inpaint,
    Colorize,
    Superres,
}

#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("--edit inpaint needs a --mask that says where")]
    NoMask,
    #[error("--mask says nothing to this --edit; leave one of them out, or use inpaint")]
    Mask,
    #[error(transparent)]
    Npy(#[from] NpyError),
    #[error("{}: references are read from .png or .npy; name such a file", .0.display())]
    Extension(PathBuf),
    #[error("{}: cannot read the picture: {source}", path.display())]
    Picture { path: PathBuf, source: image::ImageError },
    #[error("{}: {model} makes no pictures; give an .npy file", path.display())]
    NoPicture { path: PathBuf, model: String },
    #[error("{}: it has {found}, a sample of this model {wanted:?}; give one of that shape", path.display())]
    Shape { path: PathBuf, found: String, wanted: Vec<usize> },
    #[error("{}: a pipeline begins with a picture; give a .png file", .0.display())]
    NoArray(PathBuf),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A reference that was read.
pub struct Loaded {
    values: Vec<f32>,
    mask: Vec<f32>,
    edit: Option<Edit>,
}

impl ReferenceArgs {
    /// `None`: all steps.
    pub fn strength(&self) -> Option<f64> {
        let begun = self.init.is_some() && self.mask.is_none() && self.edit.is_none();
        self.strength.or(begun.then_some(STRENGTH))
    }

    /// Whether there is one.
    pub fn is_given(&self) -> bool {
        self.init.is_some()
    }

    /// Whether an `--edit` is asked for.
    pub fn edits(&self) -> bool {
        self.edit.is_some()
    }

    /// The picture to begin with, for a pipeline: its own size counts where none of this is given.
    pub fn picture(&self, height: Option<u32>, width: Option<u32>) -> Result<Option<Planes>, ReferenceError> {
        self.init.as_deref().map(|path| sized(path, height, width, 3, [-1.0, 1.0])).transpose()
    }

    /// The mask, for pictures of this size.
    pub fn picture_mask(&self, height: u32, width: u32) -> Result<Option<Planes>, ReferenceError> {
        self.mask.as_deref().map(|path| sized(path, Some(height), Some(width), 1, [0.0, 1.0])).transpose()
    }

    pub fn load(&self, manifest: &Manifest) -> Result<Option<Loaded>, ReferenceError> {
        let Some(init) = &self.init else { return Ok(None) };
        match (self.edit, &self.mask) {
            (Some(Edit::Inpaint), None) => return Err(ReferenceError::NoMask),
            (Some(Edit::Colorize | Edit::Superres), Some(_)) => return Err(ReferenceError::Mask),
            _ => {}
        }
        let shape = manifest.state_shape();
        let range = match manifest.output.kind {
            OutputKind::Image { range } => Some(range),
            _ => None,
        };
        let values = match (read(init)?, range) {
            (File::Picture(picture), Some(range)) => planes(&picture, init, shape, shape, range)?,
            (File::Picture(_), None) => {
                return Err(ReferenceError::NoPicture {
                    path: init.clone(),
                    model: manifest.model.name.clone(),
                });
            }
            (File::Array(array), _) => numbers(array, init, &[shape])?,
        };
        let mask = match &self.mask {
            Some(path) => load_mask(path, shape)?,
            None => Vec::new(),
        };
        Ok(Some(Loaded { values, mask, edit: self.edit }))
    }
}

impl Loaded {
    pub fn give(&self, session: &mut Session) -> Result<(), ReferenceError> {
        let mask = &self.mask[..];
        let control = match self.edit {
            Some(Edit::Inpaint) => Control::Inpaint { mask },
            Some(Edit::Colorize) => Control::Colorize,
            Some(Edit::Superres) => Control::SuperResolution,
            None if mask.is_empty() => Control::Start,
            None => Control::Keep { mask },
        };
        Ok(session.set_reference(&self.values, control)?)
    }
}

/// A picture in so many channels, resized as diffusers does if it has another size.
fn sized(
    path: &Path,
    height: Option<u32>,
    width: Option<u32>,
    channels: usize,
    range: [f64; 2],
) -> Result<Planes, ReferenceError> {
    let File::Picture(mut picture) = read(path)? else { return Err(ReferenceError::NoArray(path.into())) };
    let (wide, high) = (width.unwrap_or(picture.width()), height.unwrap_or(picture.height()));
    if picture.dimensions() != (wide, high) {
        picture = imageops::resize(&picture, wide, high, FilterType::Lanczos3);
    }
    let shape = [channels, high as usize, wide as usize];
    Ok(Planes { values: planes(&picture, path, &shape, &shape, range)?, shape })
}

/// A mask of one channel, or of all.
fn load_mask(path: &Path, shape: &[usize]) -> Result<Vec<f32>, ReferenceError> {
    let one = match shape {
        [_, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    match read(path)? {
        File::Picture(picture) => planes(&picture, path, &[&[1], one].concat(), shape, [0.0, 1.0]),
        File::Array(array) => numbers(array, path, &[shape, one]),
    }
}

enum File {
    Picture(RgbImage),
    Array(Array),
}

fn read(path: &Path) -> Result<File, ReferenceError> {
    match path.extension().and_then(|extension| extension.to_ascii_lowercase().into_string().ok()).as_deref()
    {
        Some("npy") => Ok(File::Array(npy::read(path)?)),
        Some("png") => {
            let failed = |source| ReferenceError::Picture { path: path.into(), source };
            Ok(File::Picture(image::open(path).map_err(failed)?.into_rgb8()))
        }
        _ => Err(ReferenceError::Extension(path.into())),
    }
}

/// A picture as an array of `shape`, [1 or 3, rows, columns], with black and white as in `range`. A sample is `wanted`.
fn planes(
    picture: &RgbImage,
    path: &Path,
    shape: &[usize],
    wanted: &[usize],
    [low, high]: [f64; 2],
) -> Result<Vec<f32>, ReferenceError> {
    let (columns, rows) = (picture.width() as usize, picture.height() as usize);
    let found = || format!("{rows} rows of {columns} pixels");
    let &[channels @ (1 | 3), own_rows, own_columns] = shape else {
        return Err(shape_error(path, found(), wanted));
    };
    if [own_rows, own_columns] != [rows, columns] {
        return Err(shape_error(path, found(), wanted));
    }
    let level = |byte: f64| (low + (high - low) * byte / 255.0) as f32;
    let plane = |channel: usize| {
        picture.pixels().map(move |pixel| match channels {
            1 => level(pixel.0.iter().map(|&byte| f64::from(byte)).sum::<f64>() / 3.0),
            _ => level(pixel.0[channel].into()),
        })
    };
    Ok((0..channels).flat_map(plane).collect())
}

/// The numbers of an array that has one of these shapes, the first for messages, or that with a 1 before it.
fn numbers(array: Array, path: &Path, shapes: &[&[usize]]) -> Result<Vec<f32>, ReferenceError> {
    let own = array.shape.strip_prefix(&[1]).unwrap_or(&array.shape);
    match array.data {
        Elements::F32(values) if shapes.iter().any(|shape| [&array.shape, own].contains(shape)) => Ok(values),
        data => {
            let found = format!("{}{:?}", data.dtype(), array.shape);
            Err(shape_error(path, found, shapes.first().copied().unwrap_or_default()))
        }
    }
}

fn shape_error(path: &Path, found: String, wanted: &[usize]) -> ReferenceError {
    ReferenceError::Shape { path: path.into(), found, wanted: wanted.to_vec() }
}
