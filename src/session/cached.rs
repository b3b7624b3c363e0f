//! Models that are compiled once, and opened from the cache after that.

use super::compile::package;
use super::{Session, SessionError};
use crate::cache::{Cache, Key, KeyBuilder};
use crate::kernels::cpu;
use crate::manifest::Manifest;
use crate::mapping;
use crate::onnx::{Model, external_files};
use crate::plan::{Depth, Plan, VERSION};
use crate::provider::{NetworkError, Settings};
use std::format;
use std::path::Path;

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
        let contents = cache.and_then(|_| contents(&manifest, network));
        let open = |settings| {
            let entry = cache.zip(contents.as_ref().map(|contents| key(contents.clone(), settings)));
            Session::open_cached(manifest.clone(), network, settings, entry)
        };
        match open(settings) {
            Err(SessionError::Network(NetworkError::Budget { .. })) if !settings.frugal => {
                open(Settings { frugal: true, ..settings })
            }
            opened => opened,
        }
    }

    fn open_cached(
        manifest: Manifest,
        network: &Path,
        settings: Settings,
        entry: Option<(&Cache, Key)>,
    ) -> Result<Session, SessionError> {
        if let Some((cache, key)) = entry
            && let Some(found) = find(cache, &key, &manifest, settings)
        {
            return found;
        }
        let read = || Model::read(network).map_err(NetworkError::from);
        if let Some((cache, key)) = entry {
            let stored = package(&manifest, &read()?, &[settings.precision], settings, &Depth::ALL, None)
                .and_then(|mut package| {
                    package.origin = format!("{}, in the cache", network.display());
                    Ok(cache.store(&key, |out| package.write(out).map(drop))?)
                });
            // Compiling has taken memory that the network may need.
            mapping::trim();
            if stored.is_ok()
                && let Some(found) = find(cache, &key, &manifest, settings)
            {
                return found;
            }
        }
        // Also with a full disk, a folder that is read only, or an operator that a plan can not hold.
        Session::new(manifest, read()?, settings)
    }
}

/// The session of what the cache has, unless that is of no use. That a network does not run in the memory which it may take
/// is no reason to do without the cache, where it would take more.
fn find(
    cache: &Cache,
    key: &Key,
    manifest: &Manifest,
    settings: Settings,
) -> Option<Result<Session, SessionError>> {
    let path = cache.find(key)?;
    let Ok(plan) = Plan::open(&path) else {
        // Of a file that can not be removed either, the next one says the same.
        cache.remove(key).ok();
        return None;
    };
    match Session::with_plan(manifest.clone(), &plan, settings) {
        Err(error) if !matches!(error, SessionError::Network(NetworkError::Budget { .. })) => None,
        found => Some(found),
    }
}

/// What all plans of a network hang on, which takes a while to read. `None` if a file can not be read, which those say who
/// need it.
fn contents(manifest: &Manifest, network: &Path) -> Option<KeyBuilder> {
    let bytes = mapping::map(network).ok()?;
    let mut key = KeyBuilder::new();
    key.add(&manifest.archived()).add(&bytes);
    for file in external_files(&bytes).ok()? {
        key.add(&mapping::map(&network.with_file_name(file)).ok()?);
    }
    Some(key)
}

/// The key of one plan of a network.
fn key(mut contents: KeyBuilder, settings: Settings) -> Key {
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let made = format!(
        "{VERSION} {} {isa} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        settings.precision,
        settings.max_memory,
        settings.frugal
    );
    contents.add(made.as_bytes()).key()
}
