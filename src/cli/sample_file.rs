//! The file that samples are written to: a picture, or an array.
#![forbid(unsafe_code)]

use super::file_stem;
use super::npy::{self, NpyError};
use super::output::{self, OutputError};
use super::picture::{self, PictureError, SheetOptions, Tile};
use fewstep::manifest::{Manifest, OutputKind};
use std::path::{Path, PathBuf};

/// Pixels of a contact sheet.
const MAX_PIXELS: usize = 1 << 28;

/// The file that the samples go to.
pub struct SampleFile {
    path: PathBuf,
    format: Format,
    /// Of one sample.
    shape: Vec<usize>,
    kind: OutputKind,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Png,
    Npy,
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: samples are written as .png or .npy; name the file so", .0.display())]
    Extension(PathBuf),
    #[error("{}: the samples of {model} are no pictures; name an .npy file", path.display())]
    NoPicture { path: PathBuf, model: String },
    #[error("{}: a picture of {count} samples is too large; name an .npy file, or ask for fewer", path.display())]
    TooLarge { path: PathBuf, count: usize },
    #[error("{}: {source}", path.display())]
    Picture { path: PathBuf, source: PictureError },
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Npy(#[from] NpyError),
}

impl SampleFile {
    /// What can be known to be wrong is, before the work begins.
    pub fn new(path: Option<&Path>, manifest: &Manifest, count: usize) -> Result<SampleFile, FileError> {
        let (kind, shape) = (manifest.output.kind, manifest.state_shape());
        SampleFile::of(path, &manifest.model.name, kind, shape, count)
    }

    /// As [`SampleFile::new`], for samples that no manifest describes.
    pub fn of(
        path: Option<&Path>,
        model: &str,
        kind: OutputKind,
        shape: &[usize],
        count: usize,
    ) -> Result<SampleFile, FileError> {
        let extension = if kind == OutputKind::Tensor { "npy" } else { "png" };
        let default = || format!("{}.{extension}", file_stem(model)).into();
        let path = path.map_or_else(default, Path::to_path_buf);
        let format = path.extension().and_then(|extension| match extension.to_ascii_lowercase().to_str() {
            Some("png") => Some(Format::Png),
            Some("npy") => Some(Format::Npy),
            _ => None,
        });
        let format = format.ok_or_else(|| FileError::Extension(path.clone()))?;
        output::check(&path)?;
        let file = SampleFile { path, format, shape: shape.to_vec(), kind };
        if format == Format::Png {
            file.check_picture(model, count)?;
        }
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_picture(&self, model: &str, count: usize) -> Result<(), FileError> {
        let path = self.path.clone();
        // A small image is enlarged to 112 pixels, a height map shaded at four times its resolution.
        let scale = match self.kind {
            OutputKind::Tensor => {
                return Err(FileError::NoPicture { path, model: model.into() });
            }
            OutputKind::Image { .. } => 1,
            OutputKind::Heightmap(_) => 4,
        };
        let [channels, sides @ ..] = &self.shape[..] else { return Ok(()) };
        if !matches!(channels, 1 | 3) {
            return Err(FileError::Picture { path, source: PictureError::Channels { channels: *channels } });
        }
        let sides = sides.iter().map(|side| (side * scale).max(112));
        let pixels = sides.chain([count]).try_fold(1usize, usize::checked_mul);
        match pixels {
            Some(0..=MAX_PIXELS) => Ok(()),
            _ => Err(FileError::TooLarge { path, count }),
        }
    }

    /// Writes `samples`, [count, elements of a sample], as the network gives them; `label` names each in a picture.
    pub fn write(&self, mut samples: Vec<f32>, label: impl Fn(usize) -> String) -> Result<(), FileError> {
        let elements = self.shape.iter().product::<usize>().max(1);
        let mut shape = [&[samples.len() / elements], &self.shape[..]].concat();
        if let OutputKind::Heightmap(heights) = self.kind {
            samples.chunks_mut(elements).for_each(|sample| heights.to_metres(sample));
            shape.remove(1);
        }
        if self.format == Format::Npy {
            return Ok(npy::write_f32(&self.path, &shape, &samples)?);
        }
        let tile = |(index, sample)| {
            let pixels = self.pixels(sample);
            let pixels = pixels.map_err(|source| FileError::Picture { path: self.path.clone(), source })?;
            Ok(Tile { pixels, label: label(index) })
        };
        let tiles = samples.chunks(elements).enumerate().map(tile).collect::<Result<Vec<_>, FileError>>()?;
        let sheet = picture::contact_sheet(&tiles, SheetOptions::default());
        Ok(output::write_atomically(&self.path, |out| picture::encode_png(&sheet, out))?)
    }

    fn pixels(&self, sample: &[f32]) -> Result<image::RgbImage, PictureError> {
        let (shape, range) = match (self.kind, &self.shape[..]) {
            (OutputKind::Heightmap(_), &[_, height, width]) => return picture::relief(sample, height, width),
            (OutputKind::Image { range }, &[channels, height, width]) => ([channels, height, width], range),
            _ => return Err(PictureError::Channels { channels: 0 }),
        };
        picture::image_from_planes(shape, sample, range.map(|end| end as f32))
    }
}
