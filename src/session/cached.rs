//! Models that are compiled once, and opened from the cache after that.

use super::compile::{is_always_guided, package};
use super::{Session, SessionError};
use crate::cache::Cache;
use crate::kernels::cpu;
use crate::manifest::Manifest;
use crate::onnx::Model;
use crate::plan::{Depth, Package, PlanFile};
use crate::provider::cached::{self, Compilation};
use crate::provider::{NetworkError, Settings};
use std::path::{Path, PathBuf};

impl Session {
    /// Opens the model of a manifest, or of the manifest in a folder. Its network is compiled into the user's cache when it
    /// is first opened, and is a plan file from there after that: see [`Cache::user`].
    ///
    /// # Errors
    /// If the manifest or its networks can not be read, do not fit each other, or can not run here.
    pub fn open(path: &Path, settings: Settings) -> Result<Session, SessionError> {
        let manifest = Manifest::read(path)?;
        let network = manifest.network_path();
        Session::open_network(manifest, &network, settings, Cache::user()?.as_ref())
    }

    /// Opens a network that is sampled as a manifest says, by way of a cache if there is one. Where the plan needs more
    /// memory than the network may take, another one is made that is slower and needs less.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_network(
        manifest: Manifest,
        network: &Path,
        settings: Settings,
        cache: Option<&Cache>,
    ) -> Result<Session, SessionError> {
        let archived = manifest.archived();
        cached::open(Sampled { manifest, network }, network, &archived, settings, cache)
    }

    /// The plan file in a cache that [`Session::open_network`] opens, or would on another computer.
    ///
    /// # Errors
    /// If the network has no plan, or the cache no place for it.
    #[cfg(feature = "pipeline")]
    pub(crate) fn plan_file(
        manifest: Manifest,
        network: &Path,
        settings: Settings,
        cache: &Cache,
    ) -> Result<PathBuf, SessionError> {
        let archived = manifest.archived();
        cached::plan(Sampled { manifest, network }, network, &archived, settings, cache)
    }
}

/// A network that is sampled as a manifest says.
struct Sampled<'a> {
    manifest: Manifest,
    network: &'a Path,
}

impl Sampled<'_> {
    fn read(&self) -> Result<Model, NetworkError> {
        Ok(Model::read(self.network)?)
    }
}

impl Compilation for Sampled<'_> {
    type Opened = Session;
    type Error = SessionError;

    fn open(&mut self, plan: &PlanFile, settings: Settings) -> Result<Session, SessionError> {
        Session::with_plan(self.manifest.clone(), plan, settings)
    }

    fn package(&mut self, settings: Settings) -> Result<Package, SessionError> {
        let ways = Depth::ways(settings.isa.unwrap_or(cpu::best().isa));
        package(&self.manifest, &self.read()?, &[settings.precision], settings, ways, None)
    }

    fn compile(&mut self, settings: Settings) -> Result<Session, SessionError> {
        Session::new(self.manifest.clone(), self.read()?, settings)
    }

    fn weighs_memory(&self) -> bool {
        is_always_guided(&self.manifest)
    }

    fn needs_less(error: &SessionError) -> bool {
        matches!(error, SessionError::Network(NetworkError::Budget { .. }))
    }
}
