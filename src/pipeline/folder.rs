//! A pipeline's folder, as diffusers, optimum and the older export script of diffusers write it.
//!
//! `model_index.json` names the pipeline's class and its components; each of those has a folder of its own. Components are
//! looked for by the names that they have in all such folders, so that nothing in a file is taken for a path, and nothing
//! outside of the folder is read.

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    format, io,
    path::{Path, PathBuf},
    string::String,
    vec::Vec,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::files::{Files, MAX_BYTES};
use crate::plan::{Bundle, OpenError};

/// What says that a folder is a pipeline's.
pub const INDEX: &str = "model_index.json";

/// The scheduler's configuration.
pub(super) const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// A folder whose index was read.
#[derive(Clone, Debug)]
pub struct Folder {
    files: Files,
    class: String,
    /// What the index has: components as `[library, class]`, and switches.
    index: BTreeMap<String, Value>,
}

/// Why a folder is no pipeline. Every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: cannot read it: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: longer than {MAX_BYTES} bytes, so it is no configuration; download it again", .0.display())]
    Long(PathBuf),
    #[error("{}: {problem}; download it, or export the pipeline, again", path.display())]
    Json { path: PathBuf, problem: String },
    #[error(transparent)]
    Bundle(#[from] OpenError),
    #[error("{}: there is no `_class_name`, which says what pipeline this is; export it again", .0.display())]
    NoClass(PathBuf),
    #[error("{}: the pipeline has a {name}, but there is no .onnx file in its folder; export the whole pipeline to ONNX", path.display())]
    NoNetwork { path: PathBuf, name: String },
    #[error("{}: there are {found}, and none is called model.onnx; rename the one that is meant", path.display())]
    Ambiguous { path: PathBuf, found: String },
    #[error("{}: there is no {name}, which a {class} needs; export the whole pipeline to ONNX", path.display())]
    Missing { path: PathBuf, class: String, name: String },
}

impl Folder {
    /// Whether a folder is a pipeline's, or a file its bundle.
    pub fn is_one(path: &Path) -> bool {
        path.join(INDEX).exists() || Bundle::is_one(path)
    }

    /// Reads the index of a folder or a bundle.
    ///
    /// # Errors
    /// If there is none, or it does not say what pipeline this is.
    pub fn read(path: &Path) -> Result<Folder, FolderError> {
        let files = Files::of(path)?;
        let mut index: BTreeMap<String, Value> = files.json(INDEX)?;
        let Some(Value::String(class)) = index.remove("_class_name") else {
            return Err(FolderError::NoClass(files.path(INDEX)));
        };
        Ok(Folder { class: plain(&class).to_owned(), files, index })
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The pipeline's class, without what says who exported it, and for which task: `StableDiffusion`.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// A switch of the index.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.index.get(key).and_then(Value::as_bool)
    }

    /// The name of a component's network; `None` if the pipeline has no such component.
    ///
    /// # Errors
    /// If it has one, without a network.
    pub fn network(&self, name: &str) -> Result<Option<String>, FolderError> {
        let mut found: Vec<String> = self.files.list(name).into_iter().map(|(file, _)| file).collect();
        found.retain(|file| file.ends_with(".onnx"));
        let named = found.iter().find(|file| *file == "model.onnx");
        let path = || self.files.path(name);
        match (&found[..], named) {
            (_, Some(file)) | ([file], None) => Ok(Some(format!("{name}/{file}"))),
            ([], None) if self.has(name) => {
                Err(FolderError::NoNetwork { path: path(), name: name.to_owned() })
            }
            ([], None) => Ok(None),
            _ => Err(FolderError::Ambiguous { path: path(), found: found.join(", ") }),
        }
    }

    /// The network of a component that this pipeline can not do without.
    ///
    /// # Errors
    /// If there is none.
    pub fn needed(&self, name: &str) -> Result<String, FolderError> {
        self.network(name)?.ok_or_else(|| self.missing(name))
    }

    /// That a part of the folder is missing.
    pub fn missing(&self, name: &str) -> FolderError {
        let (class, name) = (self.class.clone(), name.to_owned());
        FolderError::Missing { path: self.files.root().to_owned(), class, name }
    }

    /// A component's configuration, or all of its defaults: the older script wrote none.
    ///
    /// # Errors
    /// If there is one that is not as it should be.
    pub fn config<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, FolderError> {
        // The two halves of an autoencoder may share theirs.
        let shared = if name.starts_with("vae_") { Some("vae") } else { None };
        let mut names = [Some(name), shared].into_iter().flatten().map(|name| format!("{name}/config.json"));
        names.find(|name| self.files.has(name)).map_or(Ok(T::default()), |name| self.files.json(&name))
    }

    /// The text of the scheduler's configuration.
    ///
    /// # Errors
    /// If there is none.
    pub fn scheduler(&self) -> Result<String, FolderError> {
        if self.files.has(SCHEDULER) { self.files.text(SCHEDULER) } else { Err(self.missing(SCHEDULER)) }
    }

    /// Whether the index has a component, and not null in its place.
    fn has(&self, name: &str) -> bool {
        let class = self.index.get(name).and_then(|entry| entry.get(1));
        class.is_some_and(|class| !class.is_null())
    }
}

/// What a denoiser's configuration says, and the Python pipelines look at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DenoiserConfig {
    /// Rows and columns of latents by default.
    pub sample_size: Option<Sides>,
    /// Channels; of packed latents, numbers of a token.
    pub in_channels: Option<usize>,
    pub patch_size: Option<usize>,
    /// Whether it reads the scale of the guidance, and by what that is multiplied first.
    pub guidance_embeds_scale: Option<f64>,
}

/// One number for both, or rows and columns.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Sides {
    Both(usize),
    Each([usize; 2]),
}

impl Sides {
    pub fn rows_and_columns(self) -> [usize; 2] {
        match self {
            Sides::Both(side) => [side, side],
            Sides::Each(sides) => sides,
        }
    }
}

/// What an autoencoder's configuration says. The defaults are those of Stable Diffusion 1, whose older exports have none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AutoencoderConfig {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
    block_out_channels: Option<Vec<usize>>,
    encoder_block_out_channels: Option<Vec<usize>>,
    sample_size: Option<Sides>,
}

impl AutoencoderConfig {
    /// What latents are divided by before they are decoded.
    pub fn scale(&self) -> f64 {
        let tiny = self.class.as_deref() == Some("AutoencoderTiny");
        self.scaling_factor.unwrap_or(if tiny { 1.0 } else { 0.18215 })
    }

    /// What is added to them after that.
    pub fn shift(&self) -> f64 {
        self.shift_factor.unwrap_or(0.0)
    }

    /// Mean and deviation of each channel, where latents are scaled by these instead.
    pub fn statistics(&self) -> Option<(&[f64], &[f64])> {
        self.latents_mean.as_deref().zip(self.latents_std.as_deref())
    }

    /// Pixels of a side for one latent; `None` if there is no configuration.
    pub fn reduction(&self) -> Option<usize> {
        let blocks = self.encoder_block_out_channels.as_ref().or(self.block_out_channels.as_ref())?;
        Some(1 << blocks.len().clamp(1, 8).saturating_sub(1))
    }

    /// Rows and columns of a picture that it was made for, which tiles have.
    pub fn sample_size(&self) -> [usize; 2] {
        self.sample_size.map_or([512, 512], Sides::rows_and_columns)
    }
}

/// A class without the exporter before it, and `Pipeline` and the task after it.
fn plain(class: &str) -> &str {
    let exporters = ["ORT", "Onnx", "OV"];
    let class = exporters.iter().find_map(|exporter| class.strip_prefix(exporter)).unwrap_or(class);
    let class = class.strip_suffix("Pipeline").unwrap_or(class);
    let tasks = ["Img2Img", "InpaintLegacy", "Inpaint"];
    tasks.iter().find_map(|task| class.strip_suffix(task)).unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn classes_have_many_names() {
        let names = [
            "OnnxStableDiffusionPipeline",
            "ORTStableDiffusionInpaintPipeline",
            "StableDiffusionImg2ImgPipeline",
        ];
        assert!(names.iter().all(|name| plain(name) == "StableDiffusion"));
        assert_eq!(plain("FluxPipeline"), "Flux");
    }

    #[test]
    fn networks_are_where_exporters_put_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            INDEX,
            r#"{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "image_encoder": [null, null]}"#,
        );
        write("unet/model.onnx", "");
        write("unet/model_fp16.onnx", "");
        write("vae_decoder/decoder.onnx", "");
        write("text_encoder/a.onnx", "");
        write("text_encoder/b.onnx", "");
        let read = Folder::read(folder.path()).unwrap();
        let file = |name: &str| read.network(name);
        assert_eq!(file("unet").unwrap().unwrap(), "unet/model.onnx");
        assert_eq!(file("vae_decoder").unwrap().unwrap(), "vae_decoder/decoder.onnx");
        assert!(file("image_encoder").unwrap().is_none() && file("transformer").unwrap().is_none());
        assert!(matches!(file("vae"), Err(FolderError::NoNetwork { .. })));
        assert!(matches!(file("text_encoder"), Err(FolderError::Ambiguous { .. })));
    }

    #[test]
    fn an_autoencoder_without_a_configuration_is_that_of_the_first() {
        let config = AutoencoderConfig::default();
        assert_eq!((config.scale(), config.shift(), config.reduction()), (0.18215, 0.0, None));
        let tiny: AutoencoderConfig = serde_json::from_str(r#"{"_class_name": "AutoencoderTiny"}"#).unwrap();
        assert_eq!(tiny.scale(), 1.0);
    }
}
