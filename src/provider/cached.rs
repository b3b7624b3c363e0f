//! Networks that are compiled once, and opened from the cache after that.

use super::Settings;
use crate::cache::{Cache, CacheError, Key, KeyBuilder};
use crate::kernels::cpu;
use crate::mapping;
use crate::onnx::external_files;
use crate::plan::{Package, Plan, PlanFile, VERSION};
use std::format;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

/// What becomes of a network, by way of a plan file or without one.
pub(crate) trait Compilation {
    type Opened;
    type Error;

    /// What a plan of the network is opened as.
    fn open(&mut self, plan: &PlanFile, settings: Settings) -> Result<Self::Opened, Self::Error>;
    /// A plan file of the network.
    fn package(&mut self, settings: Settings) -> Result<Package, Self::Error>;
    /// The same as a plan of the network, without one.
    fn compile(&mut self, settings: Settings) -> Result<Self::Opened, Self::Error>;
    /// Whether what is compiled hangs on the memory that the network may take.
    fn weighs_memory(&self) -> bool;
    /// Whether what was compiled needs more memory than it may take.
    fn needs_less(error: &Self::Error) -> bool;
}

/// Opens the network at a path by way of a cache, if there is one. Where its plan needs more memory than the network may
/// take, another one is made that is slower and needs less. `parts` is what the plan hangs on beside the network's files and
/// the settings.
pub(crate) fn open<C: Compilation>(
    mut compilation: C,
    network: &Path,
    parts: &[u8],
    settings: Settings,
    cache: Option<&Cache>,
) -> Result<C::Opened, C::Error> {
    let contents = cache.and_then(|cache| contents(network, parts, cache));
    let memory = settings.max_memory.filter(|_| compilation.weighs_memory());
    let mut open = |settings| {
        let entry = cache.zip(contents.as_ref().map(|contents| key(contents.clone(), settings, memory)));
        through(&mut compilation, network, settings, entry)
    };
    match open(settings) {
        Err(error) if C::needs_less(&error) && !settings.frugal => {
            open(Settings { frugal: true, ..settings })
        }
        opened => opened,
    }
}

/// The plan file of a network in a cache, which is made if it is not there: also one for other computers.
///
/// # Errors
/// If there is no plan of the network, or no place for it in the cache.
#[cfg(feature = "pipeline")]
pub(crate) fn plan<C: Compilation>(
    mut compilation: C,
    network: &Path,
    parts: &[u8],
    settings: Settings,
    cache: &Cache,
) -> Result<PathBuf, C::Error>
where
    C::Error: From<CacheError>,
{
    let memory = settings.max_memory.filter(|_| compilation.weighs_memory());
    let key = contents(network, parts, cache).map(|contents| key(contents, settings, memory));
    if let Some(found) = key.and_then(|key| cache.find(&key)) {
        return Ok(found);
    }
    let package = compilation.package(settings)?;
    // A network that can not be read has no plan either.
    let key = key.unwrap_or_else(|| KeyBuilder::new().add(parts).key());
    Ok(store(package, network, cache, &key)?)
}

/// Keeps a plan file. Making it has taken memory that the network may need.
fn store(mut package: Package, network: &Path, cache: &Cache, key: &Key) -> Result<PathBuf, CacheError> {
    package.origin = format!("{}, in the cache", network.display());
    let stored = cache.store(key, |out| package.write(out).map(drop));
    drop(package);
    mapping::trim();
    stored
}

fn through<C: Compilation>(
    compilation: &mut C,
    network: &Path,
    settings: Settings,
    entry: Option<(&Cache, Key)>,
) -> Result<C::Opened, C::Error> {
    if let Some((cache, key)) = entry {
        if let Some(found) = find(compilation, cache, &key, settings) {
            return found;
        }
        let package = compilation.package(settings);
        let stored = package.is_ok_and(|package| store(package, network, cache, &key).is_ok());
        if stored && let Some(found) = find(compilation, cache, &key, settings) {
            return found;
        }
    }
    // Also with a full disk, a folder that is read only, or an operator that a plan can not hold.
    compilation.compile(settings)
}

/// What the cache has, unless that is of no use. That a network does not run in the memory which it may take is no reason to
/// do without the cache, where it would take more.
fn find<C: Compilation>(
    compilation: &mut C,
    cache: &Cache,
    key: &Key,
    settings: Settings,
) -> Option<Result<C::Opened, C::Error>> {
    let path = cache.find(key)?;
    let Ok(plan) = Plan::open(&path) else {
        // Of a file that can not be removed either, the next one says the same.
        cache.remove(key).ok();
        return None;
    };
    match compilation.open(&plan, settings) {
        Err(error) if !C::needs_less(&error) => None,
        found => Some(found),
    }
}

/// What all plans of a network hang on: what is in its files, which the cache may know already. `None` if one can not be read,
/// which those say who need it.
fn contents(network: &Path, parts: &[u8], cache: &Cache) -> Option<KeyBuilder> {
    // The digest, and the names of the files of external data.
    let found = cache.finding("network", network, |file| {
        let bytes = mapping::map_file(file)?;
        let files = external_files(&bytes)?;
        Ok([digest(file)?].into_iter().chain(files).collect::<Vec<_>>().join("\n"))
    });
    let found = found.ok()?;
    let mut key = KeyBuilder::new();
    key.add(parts).add(found.as_bytes());
    add_files(&mut key, network, found.lines().skip(1), cache)?;
    Some(key)
}

/// Adds what is in a network's files of external data to a key; `None` if one can not be read.
pub(super) fn add_files<'a>(
    key: &mut KeyBuilder,
    network: &Path,
    files: impl Iterator<Item = &'a str>,
    cache: &Cache,
) -> Option<()> {
    for file in files {
        key.add(cache.finding("digest", &network.with_file_name(file), digest).ok()?.as_bytes());
    }
    Some(())
}

fn digest(file: &File) -> io::Result<String> {
    Ok(KeyBuilder::new().add_file(file)?.key().to_string())
}

/// The key of one plan of a network, which hangs on memory if there is any.
fn key(mut contents: KeyBuilder, settings: Settings, memory: Option<usize>) -> Key {
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let made = format!(
        "{VERSION} {} {isa} {:?} {memory:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        settings.precision,
        settings.frugal
    );
    contents.add(made.as_bytes()).key()
}
