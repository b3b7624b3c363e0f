//! Text to image: diffusers' folders of ONNX files, as they are.
//!
//! A [`Pipeline`] is a folder with a `model_index.json`. What it draws, and from which seed, is what the class of that name
//! in diffusers draws on a CPU. Its components are opened one after the other, each through the cache of plans, and dropped
//! when they are done: the text encoders, the denoiser, which is a [`Session`](crate::session::Session) like any other, and
//! the decoder.
//!
//! ```no_run
//! use fewstep::pipeline::{Pipeline, Placements, Request};
//! use std::path::Path;
//!
//! let pipeline = Pipeline::open(Path::new("lcm-dreamshaper"), Placements::default())?;
//! let request = Request { prompt: "a red bicycle", ..Request::default() };
//! let drawn = pipeline.generate(&request, &mut |_| fewstep::session::Flow::Continue)?;
//! let picture = &drawn.pictures[0]; // [3, 512, 512], -1 to 1
//! # Ok::<(), fewstep::pipeline::PipelineError>(())
//! ```
#![forbid(unsafe_code)]

mod bundle;
mod classes;
mod compiled;
mod component;
mod denoiser;
mod files;
mod folder;
mod generate;
mod preview;
pub mod speech;
mod text;
mod tokenizer;
mod vae;

pub use classes::{CLASSES, Class, Text};
pub use component::{Described, Placement, Placements};
pub use files::Files;
pub use folder::{Folder, FolderError, INDEX};
pub use text::{Layer, TextEncoder};
pub use tokenizer::{Tokenizer, TokenizerError, Tokens};
pub use vae::Planes;

use std::{
    boxed::Box,
    io,
    path::{Path, PathBuf},
    string::String,
    vec::Vec,
};

use crate::cache::CacheError;
use crate::kernels::Isa;
use crate::manifest::{self, ConfigError, ManifestError, RequestError};
use crate::provider::NetworkError;
use crate::sampler::{GENERATORS, NamedGenerator};
use crate::session::{Flow, SessionError};
use component::Components;

/// A folder of ONNX files that draws pictures of what a text says.
#[derive(Debug)]
pub struct Pipeline {
    class: &'static Class,
    components: Components,
}

/// What is to be drawn.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub prompt: &'a str,
    /// What guidance moves away from; `None`: an empty prompt, or what the class has in its place.
    pub negative_prompt: Option<&'a str>,
    /// Tokens of a prompt for encoders that leave it open, T5 and Gemma; `None`: as many as the class takes.
    pub prompt_tokens: Option<usize>,
    /// Whether the prompt comes after the instruction that the class has for its encoder, if it has one.
    pub instructed: bool,
    /// Pixels; `None`: what the denoiser was made for.
    pub height: Option<usize>,
    pub width: Option<usize>,
    pub count: usize,
    /// Of the first picture's noise; the next one's is one more.
    pub seed: u64,
    pub rng: &'static NamedGenerator,
    /// Steps, guidance, strength and the like.
    pub sampling: manifest::Request<'a>,
    /// The picture to begin with, -1 to 1. [3, height, width]
    pub image: Option<&'a Planes>,
    /// 1 where it is drawn anew, 0 where it is kept. [1, height, width]
    pub mask: Option<&'a Planes>,
    /// Decode in tiles of the size that the decoder was made for.
    pub tiled: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request {
            prompt: "",
            negative_prompt: None,
            prompt_tokens: None,
            instructed: true,
            height: None,
            width: None,
            count: 1,
            seed: 0,
            rng: &GENERATORS[0],
            sampling: manifest::Request::default(),
            image: None,
            mask: None,
            tiled: false,
        }
    }
}

/// What happens meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something that is not as the caller may think.
    Note(&'a str),
    /// A component is opened, or compiled at first.
    Opening(&'a str),
    /// A step was taken.
    Step {
        /// From 0.
        picture: usize,
        /// From 1.
        step: usize,
        steps: usize,
        /// The clean latents as the step saw them. [channels, rows, columns]
        clean: &'a [f32],
        shape: [usize; 3],
    },
}

/// What was drawn.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// -1 to 1. [3, height, width] each
    pub pictures: Vec<Planes>,
    /// As the denoiser left them, and the class gives them as `output_type="latent"`, but not packed.
    pub latents: Vec<Planes>,
    /// Steps of each picture.
    pub steps: usize,
}

/// Why nothing is drawn. Every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("there is no way to sample a {class}; there are {known}")]
    Class { class: String, known: String },
    #[error("the pipeline has no component {name}; it has {known}")]
    Component { name: String, known: String },
    #[error("{}: {source}", path.display())]
    Scheduler { path: PathBuf, source: ConfigError },
    #[error("{component}: {source}")]
    Network { component: String, source: Box<NetworkError> },
    #[error("{component}: {source}")]
    Session { component: String, source: Box<SessionError> },
    #[error("{component} has {what}, but {found}; export it again")]
    Interface { component: String, what: &'static str, found: String },
    #[error("{component}: its input {input} is not known ({known}): {what}")]
    Input { component: String, input: String, what: &'static str, known: String },
    #[error(
        "{component} takes {wanted} numbers as {input}, and the text encoders give {found}: the folder's components are of different models"
    )]
    Width { component: String, input: String, found: usize, wanted: usize },
    #[error(
        "{component} gives {found} channels, and the denoiser takes {wanted}: the folder's components are of different models"
    )]
    Channels { component: String, found: usize, wanted: usize },
    #[error("{} by {} pixels are no picture of this pipeline: height and width have to be multiples of {multiple}", size[0], size[1])]
    Size { size: [usize; 2], multiple: usize },
    #[error("{what} has {found:?} channels, rows and columns, and {wanted:?} are needed")]
    Shape { what: &'static str, found: [usize; 3], wanted: [usize; 3] },
    #[error("a mask says where a picture is drawn anew: give that picture as well")]
    NoImage,
    #[error("a {class} has no negative prompt: the scale of its guidance is inside of the network")]
    NoNegative { class: &'static str },
    #[error("{component}: the bundle has no plan for {what}; compile the pipeline for that")]
    NotBundled { component: String, what: String },
    #[error(
        "{component}: a bundle has plans for the provider cpu alone; give the folder that it was made of"
    )]
    BundledProvider { component: String },
    #[error("this is a bundle already; compile the folder that it was made of")]
    Bundled,
    #[error("{}: cannot write the bundle: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("stopped")]
    Cancelled,
}

impl PipelineError {
    /// Bytes that a component may take, and the least that it needs, if those are more.
    pub fn budget(&self) -> Option<[usize; 2]> {
        match self {
            PipelineError::Network { source, .. } => match **source {
                NetworkError::Budget { given, least } => Some([given, least]),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Pipeline {
    /// Reads a folder's index. Its networks are opened when their turn comes.
    ///
    /// # Errors
    /// If it is no pipeline, or of a class that is not known here, or has no component that `placements` names.
    pub fn open(path: &Path, placements: Placements) -> Result<Pipeline, PipelineError> {
        let folder = Folder::read(path)?;
        let class = classes::find(folder.class())?;
        let known = class.components();
        if let Some(name) = placements.named.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(PipelineError::Component { name: name.clone(), known: known.join(", ") });
        }
        Ok(Pipeline { class, components: Components { folder, placements, making: None } })
    }

    pub fn class(&self) -> &'static Class {
        self.class
    }

    pub fn folder(&self) -> &Folder {
        &self.components.folder
    }

    /// The networks of the components, in the order in which they are opened.
    ///
    /// # Errors
    /// If one that the pipeline needs is missing, or can not be read.
    pub fn described(&self) -> Result<Vec<Described>, PipelineError> {
        let encoders = self.class.text.encoders().iter().map(|encoder| encoder.encoder);
        let names = encoders.chain(["vae_encoder", self.class.denoiser, "vae_decoder"]);
        let found = names.map(|name| match self.components.described(name)? {
            None if name != "vae_encoder" && name != generate::OPTIONAL => {
                Err(self.components.folder.missing(name).into())
            }
            found => Ok(found),
        });
        Ok(found.collect::<Result<Vec<_>, PipelineError>>()?.into_iter().flatten().collect())
    }

    /// Rows and columns of the pictures that a request asks for.
    ///
    /// # Errors
    /// If the denoiser draws none of that size.
    pub fn size(&self, request: &Request<'_>) -> Result<[usize; 2], PipelineError> {
        generate::size(self, request)
    }

    /// What the clean latents of a [step](Event::Step) look like, a pixel for each, -1 to 1; `None` if it is not known of this
    /// class.
    pub fn preview(&self, clean: &[f32], shape: [usize; 3]) -> Option<Planes> {
        self.class.colours?.of(clean, shape)
    }

    /// Compiles what a request takes into one file, which [`Pipeline::open`] opens as it does a folder, on a CPU that has the
    /// instruction set: for pictures of that size, in any number, with that guidance or that without, and from a picture,
    /// if the folder has an encoder. Plans are for the [placements](Placements)' precision. Returns the file's length.
    ///
    /// # Errors
    /// If the folder lacks what the request needs, one of its networks has no plan, or the file can not be written.
    pub fn bundle(
        &self,
        request: &Request<'_>,
        target: Isa,
        path: &Path,
        watch: &mut (dyn FnMut(Event<'_>) -> Flow + Send),
    ) -> Result<usize, PipelineError> {
        bundle::write(self, request, target, path, watch)
    }

    /// Draws pictures; `watch` is told of what happens, and may end it after any step.
    ///
    /// # Errors
    /// If the folder lacks what the request needs, its components do not fit each other, or do not run here.
    pub fn generate(
        &self,
        request: &Request<'_>,
        watch: &mut (dyn FnMut(Event<'_>) -> Flow + Send),
    ) -> Result<Drawn, PipelineError> {
        generate::generate(self, request, watch)
    }
}
