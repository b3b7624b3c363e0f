//! Which model an argument means, and where its parts are.
#![forbid(unsafe_code)]

use fewstep::cache::Cache;
use fewstep::manifest::{FILE_NAME, METADATA_KEY, Manifest, ManifestError};
use fewstep::onnx::{Model, OnnxError};
use fewstep::plan::{OpenError, Plan, PlanFile};
use fewstep::provider::{OnnxFile, Provider, Settings};
use fewstep::session::{Session, SessionError};
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// A model that is part of this program.
pub struct Embedded {
    pub name: &'static str,
    manifest: &'static str,
    network: &'static [u8],
}

/// Every embedded model, the default first.
pub const EMBEDDED: &[Embedded] = &[Embedded {
    name: "digits",
    manifest: include_str!("../../models/digits/fewstep.toml"),
    network: include_bytes!("../../models/digits/digits.onnx"),
}];

impl Embedded {
    pub fn manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::parse(self.manifest, Path::new(self.name).join(FILE_NAME))
    }
}

/// A model that was found, and its manifest if it has one.
pub struct Source {
    pub name: String,
    pub manifest: Option<Manifest>,
    network: Network,
    /// The network, if looking for its manifest has read it already.
    read: Cell<Option<Model>>,
}

impl Source {
    fn new(name: String, manifest: Option<Manifest>, network: Network) -> Source {
        Source { name, manifest, network, read: Cell::new(None) }
    }
}

enum Network {
    Embedded(&'static Embedded),
    File(PathBuf),
    Plan(PlanFile),
}

/// Why a model is not opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Network(#[from] OnnxError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{}: {source}", path.display())]
    Session { path: PathBuf, source: Box<SessionError> },
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("`{}` is neither an embedded model ({}) nor the path of a file or folder", .0.display(), embedded())]
    Unknown(PathBuf),
    #[error("{}: there is no such file or folder; check the path", .0.display())]
    Missing(PathBuf),
    #[error("{}: the folder has no {FILE_NAME}; write one (docs/manifest.md), or name an .onnx file in it", .0.display())]
    NoManifest(PathBuf),
    #[error("{}: a plan is no network that can be {doing}; name the .onnx file that it was made of", path.display())]
    Plan { path: PathBuf, doing: &'static str },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

fn embedded() -> String {
    let names: Vec<_> = EMBEDDED.iter().map(|model| model.name).collect();
    names.join(", ")
}

/// The model that `argument` means.
pub fn find(argument: &Path) -> Result<Source, ModelError> {
    if let Some(model) = EMBEDDED.iter().find(|model| Path::new(model.name) == argument) {
        let manifest = Some(model.manifest()?);
        return Ok(Source::new(model.name.into(), manifest, Network::Embedded(model)));
    }
    let is = |extension: &str| argument.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension));
    if argument.is_dir() {
        let manifest = argument.join(FILE_NAME);
        return if manifest.exists() {
            described(&manifest)
        } else {
            Err(ModelError::NoManifest(argument.into()))
        };
    }
    if !argument.exists() {
        let plain = argument.extension().is_none() && argument.components().count() <= 1;
        let error = if plain { ModelError::Unknown } else { ModelError::Missing };
        return Err(error(argument.into()));
    }
    if is("fsp") {
        return plan(argument);
    }
    if is("toml") { described(argument) } else { network(argument) }
}

/// The model of a manifest.
fn described(path: &Path) -> Result<Source, ModelError> {
    let manifest = Manifest::read(path)?;
    let network = Network::File(manifest.network_path());
    Ok(Source::new(manifest.model.name.clone(), Some(manifest), network))
}

/// A plan file, with the manifest in it.
fn plan(path: &Path) -> Result<Source, ModelError> {
    let file = Plan::open(path)?;
    let manifest = Session::manifest_of(&file)?;
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = manifest.as_ref().map_or_else(stem, |manifest| manifest.model.name.clone());
    Ok(Source::new(name, manifest, Network::Plan(file)))
}

/// An ONNX file, with the manifest beside it if that is about this file, or the one in its metadata.
fn network(path: &Path) -> Result<Source, ModelError> {
    let beside = path.with_file_name(FILE_NAME);
    let manifest = if beside.exists() { Some(Manifest::read(&beside)?) } else { None };
    let manifest = manifest.filter(|manifest| Some(manifest.model.network.as_os_str()) == path.file_name());
    // What is wrong with the file, `Source::read` says.
    let mut read = if manifest.is_none() { Model::read(path).ok() } else { None };
    let inside = read.as_mut().and_then(|model| model.metadata.remove(METADATA_KEY));
    let manifest = match inside {
        Some(text) => Some(Manifest::parse(&text, path)?),
        None => manifest,
    };
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = manifest.as_ref().map_or_else(stem, |manifest| manifest.model.name.clone());
    Ok(Source { read: Cell::new(read), ..Source::new(name, manifest, Network::File(path.into())) })
}

impl Source {
    /// Where the network is, for people.
    pub fn path(&self) -> &Path {
        match &self.network {
            Network::Embedded(model) => Path::new(model.name),
            Network::File(path) => path,
            Network::Plan(file) => file.path(),
        }
    }

    /// The bytes of an embedded network; `None` if it is the file at [`Source::path`].
    pub fn embedded(&self) -> Option<&'static [u8]> {
        match &self.network {
            Network::Embedded(model) => Some(model.network),
            Network::File(_) | Network::Plan(_) => None,
        }
    }

    /// The plan file, if it is one.
    pub fn plan(&self) -> Option<&PlanFile> {
        match &self.network {
            Network::Plan(file) => Some(file),
            _ => None,
        }
    }

    /// That it is no plan file.
    ///
    /// # Errors
    /// With what is to be done, if it is one.
    pub fn check_network(&self, doing: &'static str) -> Result<(), ModelError> {
        match self.plan() {
            Some(file) => Err(ModelError::Plan { path: file.path().into(), doing }),
            None => Ok(()),
        }
    }

    /// The network, for a runtime that reads it itself.
    ///
    /// # Errors
    /// If it is a plan file.
    pub fn onnx(&self) -> Result<OnnxFile<'_>, ModelError> {
        self.check_network("given to this provider")?;
        Ok(OnnxFile { path: self.path(), bytes: self.embedded() })
    }

    /// A session on the network, sampled as a manifest says. What is compiled of it goes by way of the cache, if there is
    /// one.
    ///
    /// # Errors
    /// If the network can not be read, does not fit the manifest, or does not run here.
    pub fn session(
        &self,
        manifest: &Manifest,
        provider: &Provider,
        settings: Settings,
        cache: Option<&Cache>,
    ) -> Result<Session, SourceError> {
        let opened = match &self.network {
            _ if !matches!(provider, Provider::Cpu) => {
                Session::on(provider, manifest.clone(), self.onnx()?, settings, cache)
            }
            Network::Plan(file) => Session::with_plan(manifest.clone(), file, settings),
            Network::File(path) if cache.is_some() => {
                Session::open_network(manifest.clone(), path, settings, cache)
            }
            _ => Session::new(manifest.clone(), self.read()?, settings),
        };
        opened.map_err(|source| SourceError::Session { path: self.path().into(), source: Box::new(source) })
    }

    /// Reads the network.
    pub fn read(&self) -> Result<Model, OnnxError> {
        if let Some(model) = self.read.take() {
            return Ok(model);
        }
        match &self.network {
            Network::Embedded(model) => Model::parse(model.network, Path::new(model.name), None),
            Network::File(path) => Model::read(path),
            Network::Plan(file) => {
                let problem = "it is a plan".into();
                Err(OnnxError::NotOnnx { path: file.path().into(), problem })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_models_are_whole() {
        for embedded in EMBEDDED {
            let source = find(Path::new(embedded.name)).expect("a model");
            assert_eq!(
                source.manifest.as_ref().map(|manifest| manifest.model.name.as_str()),
                Some(embedded.name)
            );
            assert!(!source.read().expect("a network").inputs.is_empty());
        }
    }

    #[test]
    fn a_manifest_beside_is_used_if_it_is_about_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path(FILE_NAME), EMBEDDED[0].manifest).expect("a file");
        for name in ["digits.onnx", "other.onnx"] {
            std::fs::write(path(name), "").expect("a file");
        }
        let name = |argument: &Path| find(argument).map(|source| (source.name, source.manifest.is_some()));
        for file in [folder.path().to_path_buf(), path(FILE_NAME), path("digits.onnx")] {
            assert_eq!(name(&file).expect("a model"), ("digits".into(), true));
        }
        assert_eq!(name(&path("other.onnx")).expect("a model"), ("other".into(), false));
    }

    #[test]
    fn a_manifest_may_be_in_the_files_own_metadata() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("alone.onnx");
        // Field 14 of ModelProto is metadata_props: a message with a key (1) and a value (2).
        let field = |tag: u8, bytes: &[u8]| {
            let length = [(bytes.len() & 0x7F) as u8 | 0x80, (bytes.len() >> 7) as u8];
            [&[tag], &length[..], bytes].concat()
        };
        let pair = [field(0x0A, METADATA_KEY.as_bytes()), field(0x12, EMBEDDED[0].manifest.as_bytes())];
        let file = [EMBEDDED[0].network, &field(0x72, &pair.concat())].concat();
        std::fs::write(&path, file).expect("a file");
        let source = find(&path).expect("a model");
        assert_eq!(source.name, "digits");
        assert!(!source.read().expect("a network").inputs.is_empty());
    }
}
