//! The networks of a pipeline's components: each is opened when its turn comes, through the cache of plans, and dropped
//! after it.

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    format, fs,
    path::{Path, PathBuf},
    string::{String, ToString},
    vec::Vec,
};

use super::{PipelineError, folder::Folder};
use crate::cache::{Cache, Key, KeyBuilder};
use crate::kernels::cpu;
use crate::manifest::Manifest;
use crate::mapping;
use crate::onnx::{Header, Model, Shapes, external_files};
use crate::plan::{Constants, Depth, Package, Plan, Ranges, Recipe, VERSION, lower};
use crate::provider::{Network, NetworkError, OnnxFile, Opening, Precision, Provider, Settings};
use crate::session::{Change, Session, SessionError};

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

impl Placements {
    fn of(&self, name: &str) -> &Placement {
        let whole = name.strip_prefix("vae_").map(|_| "vae");
        let named = self.named.get(name).or_else(|| self.named.get(whole?));
        named.unwrap_or(&self.default)
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
}

/// Writes a network's inputs, evaluates it, and reads what came out.
pub(super) type Evaluate<'a> = &'a mut dyn FnMut(&mut Network) -> Result<Vec<f32>, PipelineError>;

impl Components {
    /// What a component's network reads and gives, if there is such a component.
    pub(super) fn header(&self, name: &str) -> Result<Option<Header>, PipelineError> {
        let Some(path) = self.folder.network(name)? else { return Ok(None) };
        let header = OnnxFile { path: &path, bytes: None }.header();
        header.map(Some).map_err(|error| failed(name, NetworkError::from(error)))
    }

    /// What a component's network is, if there is such a component.
    pub(super) fn described(&self, name: &str) -> Result<Option<Described>, PipelineError> {
        let Some(path) = self.folder.network(name)? else { return Ok(None) };
        let Some(header) = self.header(name)? else { return Ok(None) };
        let files = fs::read_dir(self.folder.path().join(name)).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| fs::metadata(file.path()).ok()).map(|file| file.len()).sum();
        Ok(Some(Described { name: name.to_owned(), path, bytes, header }))
    }

    /// Opens a component's network for inputs of these shapes. Half precision is found with what `evaluate` has it read.
    pub(super) fn open(
        &self,
        name: &str,
        shapes: &Shapes,
        evaluate: Evaluate<'_>,
    ) -> Result<Network, PipelineError> {
        self.placements.open(name, &self.folder.needed(name)?, shapes, evaluate)
    }

    /// A session on the denoiser.
    pub(super) fn session(&self, name: &str, manifest: Manifest) -> Result<Session, PipelineError> {
        self.placements.session(name, &self.folder.needed(name)?, manifest)
    }
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
            let opening = Opening { shapes, settings: *settings, bindings: &[], cache };
            let opened = Network::on(provider, OnnxFile { path, bytes: None }, &opening);
            return opened.map_err(|error| failed(name, error));
        }
        let mut open = |settings| Compilation { name, path, shapes, settings }.open(cache, evaluate);
        match open(*settings) {
            Err(error) if error.budget().is_some() && !settings.frugal => {
                open(Settings { frugal: true, ..*settings })
            }
            opened => opened,
        }
    }

    /// A session on the network of a component, at `path`.
    pub(super) fn session(
        &self,
        name: &str,
        path: &Path,
        manifest: Manifest,
    ) -> Result<Session, PipelineError> {
        let Placement { provider, settings } = self.of(name);
        let session = match (provider, self.cache.as_ref()) {
            (Provider::Cpu, Some(cache)) => Session::open_network(manifest, path, *settings, Some(cache)),
            (_, cache) => Session::on(provider, manifest, OnnxFile { path, bytes: None }, *settings, cache),
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

/// A network on its way to a plan.
struct Compilation<'a> {
    name: &'a str,
    path: &'a Path,
    shapes: &'a Shapes,
    settings: Settings,
}

impl Compilation<'_> {
    fn open(&self, cache: Option<&Cache>, evaluate: Evaluate<'_>) -> Result<Network, PipelineError> {
        let entry = cache.and_then(|cache| Some((cache, self.key()?)));
        if let Some(found) = entry.and_then(|(cache, key)| self.find(cache, &key)) {
            return found;
        }
        let compiled = self.compile(evaluate)?;
        let Some((cache, key)) = entry else { return Ok(compiled.0) };
        let (network, package) = compiled;
        let stored = package.map(|package| cache.store(&key, |out| package.write(out).map(drop)));
        if !matches!(stored, Some(Ok(_))) {
            // An operator that a plan can not hold, a full disk, or a folder that is read only.
            return Ok(network);
        }
        drop(network);
        // Compiling has taken memory that the network may need.
        mapping::trim();
        self.find(cache, &key).unwrap_or_else(|| Ok(self.compile(evaluate)?.0))
    }

    /// What the cache has, unless that is of no use.
    fn find(&self, cache: &Cache, key: &Key) -> Option<Result<Network, PipelineError>> {
        let path = cache.find(key)?;
        let Ok(plan) = Plan::open(&path) else {
            cache.remove(key).ok();
            return None;
        };
        match Network::open(&plan, self.settings) {
            Err(error) if !matches!(error, NetworkError::Budget { .. }) => None,
            found => Some(found.map_err(|error| failed(self.name, error))),
        }
    }

    /// The network, and a plan file of it if there can be one.
    fn compile(&self, evaluate: Evaluate<'_>) -> Result<(Network, Option<Package>), PipelineError> {
        let wrap = |error: NetworkError| failed(self.name, error);
        let read = || -> Result<_, NetworkError> {
            Ok(Model::read(self.path)?.into_graph(self.shapes)?.optimized())
        };
        let graph = read().map_err(wrap)?;
        let mut network = Network::compile(graph.clone(), self.settings).map_err(wrap)?;
        let half = self.halve(&mut network, evaluate)?;
        let isa = self.settings.isa.unwrap_or(cpu::best().isa);
        let half = half.as_ref().map(|(ranges, depth)| (ranges, *depth));
        let recipe = Recipe { half, frugal: self.settings.frugal, ..Recipe::new(isa) };
        let plan = lower(&graph, recipe, Constants::default()).map_err(|error| wrap(error.into()))?;
        let mut package = Package::default();
        package.in_pieces = self.settings.frugal;
        package.origin = format!("{}, in the cache", self.path.display());
        Ok((network, package.add(plan).is_ok().then_some(package)))
    }

    /// Puts the network into half precision, if that is what was asked for, by what `evaluate` has it compute; and says how
    /// it got there.
    fn halve(
        &self,
        network: &mut Network,
        evaluate: Evaluate<'_>,
    ) -> Result<Option<(Ranges, Depth)>, PipelineError> {
        let Some(precision) = network.calibrating() else { return Ok(None) };
        let wanted = evaluate(network)?;
        for (i, depth) in Depth::ALL.into_iter().enumerate() {
            let halved = network.halved(depth).map_err(|error| failed(self.name, error))?;
            let Some(mut halved) = halved else { break };
            let last = precision == Precision::F16 && i + 1 == Depth::ALL.len();
            if last || evaluate(&mut halved).is_ok_and(|found| Change::of(&wanted, &found).is_small()) {
                let watched = core::mem::replace(network, halved);
                return Ok(watched.into_ranges().map(|ranges| (ranges, depth)));
            }
        }
        network.settle();
        Ok(None)
    }

    /// All that the plan hangs on. `None` if a file can not be read, which those say who need it.
    fn key(&self) -> Option<Key> {
        let bytes = mapping::map(self.path).ok()?;
        let Settings { precision, max_memory, frugal, isa, .. } = self.settings;
        let isa = isa.unwrap_or(cpu::best().isa);
        let mut shapes: Vec<_> = self.shapes.iter().collect();
        shapes.sort();
        let made = format!(
            "{VERSION} {} {precision:?} {isa} {max_memory:?} {frugal:?} {shapes:?}",
            env!("CARGO_PKG_VERSION")
        );
        let mut key = KeyBuilder::new();
        key.add(made.as_bytes()).add(&bytes);
        for file in external_files(&bytes).ok()? {
            key.add(&mapping::map(&self.path.with_file_name(file)).ok()?);
        }
        Some(key.key())
    }
}

/// The names of what a network declares, in a sentence.
pub(super) fn names(declared: &[crate::onnx::Declared]) -> String {
    let names: Vec<_> = declared.iter().map(|own| own.name.to_string()).collect();
    names.join(", ")
}
