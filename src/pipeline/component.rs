//! The networks of a pipeline's components: each is opened when its turn comes, through the cache of plans, and dropped
//! after it.

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    path::{Path, PathBuf},
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use super::{
    PipelineError,
    bundle::{Making, member},
    compiled::Compiled,
    files::Files,
    folder::{Folder, FolderError},
};
use crate::cache::Cache;
use crate::manifest::Manifest;
use crate::onnx::{Header, Shapes};
use crate::plan::{Bundle, PlanFile};
use crate::provider::cached;
use crate::provider::{Network, NetworkError, OnnxFile, Opening, Provider, Settings};
use crate::session::{Session, SessionError};

/// What evaluates a component, and how.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    pub provider: Provider,
    pub settings: Settings,
}

/// What evaluates the components.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    /// All that are not named.
    pub default: Placement,
    /// By their names, `vae` for both halves of an autoencoder.
    pub named: BTreeMap<String, Placement>,
    /// Where compiled networks are kept.
    pub cache: Option<Cache>,
}

/// Bytes of a component's weights that stay in this process's memory, if nothing else is said. Denoisers have gigabytes, and
/// what they read again in the next step comes out of the system's cache of files, in a few hundredths of the step's time.
const RESIDENT: usize = 512 << 20;

impl Placements {
    pub(super) fn of(&self, name: &str) -> Placement {
        let whole = name.strip_prefix("vae_").map(|_| "vae");
        let named = self.named.get(name).or_else(|| self.named.get(whole?));
        let Placement { provider, settings } = named.unwrap_or(&self.default).clone();
        let resident = settings.resident.or(settings.max_memory.is_none().then_some(RESIDENT));
        Placement { provider, settings: Settings { resident, ..settings } }
    }
}

/// What a component's network is.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its folder.
    pub name: String,
    pub path: PathBuf,
    /// Of its files.
    pub bytes: u64,
    pub header: Header,
}

/// A folder, and what evaluates its networks.
#[derive(Clone, Debug)]
pub(super) struct Components {
    pub(super) folder: Folder,
    pub(super) placements: Placements,
    /// The bundle that is made of what is opened.
    pub(super) making: Option<Arc<Making>>,
}

/// Writes a network's inputs, evaluates it, and reads what came out.
pub(super) type Evaluate<'a> = &'a mut dyn FnMut(&mut Network) -> Result<Vec<f32>, PipelineError>;

impl Components {
    /// What a component's network reads and gives, if there is such a component.
    pub(super) fn header(&self, name: &str) -> Result<Option<Header>, PipelineError> {
        let Some(network) = self.folder.network(name)? else { return Ok(None) };
        let path = self.folder.files().path(&network);
        let bytes = match self.folder.files() {
            Files::Folder(_) => None,
            Files::Bundle(bundle) => bundle.get(&network),
        };
        let header = OnnxFile { path: &path, bytes }.header();
        header.map(Some).map_err(|error| failed(name, NetworkError::from(error)))
    }

    /// Whether the engine evaluates a component, and no other provider.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        matches!(self.placements.of(name).provider, Provider::Cpu)
    }

    /// What a component's network is, if there is such a component.
    pub(super) fn described(&self, name: &str) -> Result<Option<Described>, PipelineError> {
        let Some(network) = self.folder.network(name)? else { return Ok(None) };
        let Some(header) = self.header(name)? else { return Ok(None) };
        let bytes = self.folder.files().list(name).into_iter().map(|(_, bytes)| bytes).sum();
        Ok(Some(Described { name: name.to_owned(), path: self.folder.files().path(&network), bytes, header }))
    }

    /// Opens a component's network for inputs of these shapes. Half precision is found with what `evaluate` has it read.
    pub(super) fn open(
        &self,
        name: &str,
        shapes: &Shapes,
        evaluate: Evaluate<'_>,
    ) -> Result<Network, PipelineError> {
        let parts = parts(shapes);
        let network = self.folder.needed(name)?;
        let path = self.folder.files().path(&network);
        match (self.folder.files(), &self.making) {
            (Files::Bundle(bundle), _) => {
                let plan = self.bundled(bundle, name, parts.as_bytes(), &parts)?;
                Network::open(&plan, self.placements.of(name).settings).map_err(|error| failed(name, error))
            }
            (Files::Folder(_), None) => self.placements.open(name, &path, shapes, evaluate),
            (Files::Folder(_), Some(making)) => {
                let Placement { settings, .. } = self.placements.of(name);
                let compilation = Compiled { name, path: &path, shapes, evaluate: &mut *evaluate };
                making.add(compilation, name, &path, parts.as_bytes(), settings)?;
                making.placements(settings).open(name, &path, shapes, evaluate)
            }
        }
    }

    /// A session on the denoiser.
    pub(super) fn session(&self, name: &str, manifest: Manifest) -> Result<Session, PipelineError> {
        let Files::Bundle(bundle) = self.folder.files() else {
            let path = self.folder.files().path(&self.folder.needed(name)?);
            return self.placements.session(name, &path, manifest);
        };
        let plan = self.bundled(
            bundle,
            name,
            &manifest.archived(),
            "pictures of this size, guided or not as these",
        )?;
        let opened = Session::with_plan(manifest, &plan, self.placements.of(name).settings);
        opened.map_err(|error| session_failed(name, error))
    }

    /// The plan of a network in a bundle. `what` it is for, for people.
    fn bundled(
        &self,
        bundle: &Bundle,
        name: &str,
        parts: &[u8],
        what: &str,
    ) -> Result<PlanFile, PipelineError> {
        let component = name.to_owned();
        if !self.is_ours(name) {
            return Err(PipelineError::BundledProvider { component });
        }
        let plan = bundle.plan(&member(name, parts)).ok_or_else(|| {
            let what = what.to_owned();
            PipelineError::NotBundled { component, what }
        })?;
        Ok(plan.map_err(FolderError::from)?)
    }
}

/// What a component's plan hangs on beside its network.
fn parts(shapes: &Shapes) -> String {
    let mut parts: Vec<_> = shapes.iter().collect();
    parts.sort();
    format!("{parts:?}")
}

impl Placements {
    /// Opens the network of a component, at `path`, as [`Components::open`].
    pub(super) fn open(
        &self,
        name: &str,
        path: &Path,
        shapes: &Shapes,
        evaluate: Evaluate<'_>,
    ) -> Result<Network, PipelineError> {
        let Placement { provider, settings } = self.of(name);
        let cache = self.cache.as_ref();
        if !matches!(provider, Provider::Cpu) {
            let opening = Opening { shapes, settings, bindings: &[], cache };
            let opened = Network::on(&provider, OnnxFile { path, bytes: None }, &opening);
            return opened.map_err(|error| failed(name, error));
        }
        let compilation = Compiled { name, path, shapes, evaluate };
        cached::open(compilation, path, parts(shapes).as_bytes(), settings, cache)
    }

    /// A session on the network of a component, at `path`.
    pub(super) fn session(
        &self,
        name: &str,
        path: &Path,
        manifest: Manifest,
    ) -> Result<Session, PipelineError> {
        let Placement { provider, settings } = self.of(name);
        let session = match (&provider, self.cache.as_ref()) {
            (Provider::Cpu, Some(cache)) => Session::open_network(manifest, path, settings, Some(cache)),
            (_, cache) => Session::on(&provider, manifest, OnnxFile { path, bytes: None }, settings, cache),
        };
        session.map_err(|source| session_failed(name, source))
    }
}

pub(super) fn failed(component: &str, source: NetworkError) -> PipelineError {
    PipelineError::Network { component: component.to_owned(), source: source.into() }
}

pub(super) fn session_failed(component: &str, source: SessionError) -> PipelineError {
    PipelineError::Session { component: component.to_owned(), source: source.into() }
}

/// The names of what a network declares, in a sentence.
pub(super) fn names(declared: &[crate::onnx::Declared]) -> String {
    let names: Vec<_> = declared.iter().map(|own| own.name.to_string()).collect();
    names.join(", ")
}
