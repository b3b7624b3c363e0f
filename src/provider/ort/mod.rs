//! ONNX Runtime as a provider, with any of its execution providers.
//!
//! | file | holds |
//! |---|---|
//! | `registry.rs` | one row for each execution provider |
//! | `options.rs` | their options, and how these are checked |
//! | `openvino.rs` | what OpenVINO's plugin makes of them |
//! | `library.rs` | where the library is, and what is in it |
//! | `attach.rs` | how a provider gets into the options of a session |
//! | `open.rs` | from a network to a session, by way of the cache |
//! | `kept.rs` | what is kept in the cache |
//! | `session.rs` | a session that is bound to our memory |
//! | `page_locked.rs` | memory for what goes to a device and comes back |
//! | `resident.rs` | samples whose state stays in the provider's memory |
//! | `update.rs` | the sampler's update, as a network for that |
//! | `api.rs` | objects and errors of the C API |

mod api;
mod attach;
mod kept;
mod library;
mod open;
mod openvino;
mod options;
mod page_locked;
mod registry;
mod resident;
mod session;
mod update;

pub(super) use open::open;
pub use options::{EpOption, Kind};
pub(super) use page_locked::PageLocked;
use registry::{ByPlugin, Kept};
pub use registry::{EPS, Ep, Memory, names};

use super::ProviderError;
use api::{OrtError, Owned};
use attach::Attachment;
use library::Library;
use ort_sys::OrtSessionOptions;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

/// ONNX Runtime, with one of its execution providers.
#[derive(Clone, Debug)]
pub struct Choice {
    pub ep: &'static Ep,
    /// The library, or the folder that it is in; `None` for what the environment names, or the usual places have.
    pub library: Option<PathBuf>,
    /// A library of the execution provider's own.
    pub plugin: Option<PathBuf>,
    /// Of the provider, to be checked by [`Ep::check`].
    pub options: Vec<(String, String)>,
    /// Nodes that the provider does not take are an error, and not left to the CPU.
    pub strict: bool,
    /// Whether the state of a sample stays in the provider's memory from step to step; `None` if that is so where it is a
    /// [device's](Memory::Device).
    pub resident: Option<bool>,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            ep: &EPS[0],
            library: None,
            plugin: None,
            options: Vec::new(),
            strict: false,
            resident: None,
        }
    }
}

impl Choice {
    /// # Errors
    /// If there is no execution provider of this name.
    pub fn named(ep: &str) -> Result<Choice, ProviderError> {
        Ok(Choice { ep: Ep::named(ep)?, ..Choice::default() })
    }

    /// As `--provider` has it.
    pub fn name(&self) -> String {
        format!("ort:{}", self.ep.name)
    }

    fn by_plugin(&self) -> Option<ByPlugin> {
        self.ep.by_plugin.filter(|_| self.plugin.is_some())
    }

    /// How what the provider makes of a network outlasts the process.
    fn kept(&self) -> Kept {
        self.by_plugin().map_or(self.ep.kept, |own| own.kept)
    }

    /// Whether the provider captures graphs of what it launches.
    fn captures(&self) -> bool {
        let is_on = |name| self.options.iter().any(|(own, value)| own == name && value == "1");
        self.ep.captures.is_some_and(is_on)
    }

    /// The same, capturing nothing.
    fn without_capture(&self) -> Choice {
        let mut choice = self.clone();
        choice.options.retain(|(name, _)| Some(name.as_str()) != self.ep.captures);
        choice
    }

    /// Whether the provider can be used on this machine, and with which version of ONNX Runtime.
    ///
    /// # Errors
    /// With what is missing.
    pub fn probe(&self) -> Result<String, ProviderError> {
        let library = Library::find(self.library.as_deref())?;
        let api = library.api;
        // SAFETY: `out` is writable.
        let create = |out: *mut *mut OrtSessionOptions| unsafe { (api.CreateSessionOptions)(out) };
        let options = Owned::new(api, api.ReleaseSessionOptions, create).map_err(|e| self.unusable(&e))?;
        self.attach(&library, &options, &[])?;
        Ok(library.version)
    }

    /// Puts the provider into the options of a session, with `extra` options that the user has not given.
    fn attach(
        &self,
        library: &Library,
        session: &Owned<OrtSessionOptions>,
        extra: &[(String, String)],
    ) -> Result<(), ProviderError> {
        self.ep.check(&self.options)?;
        let given = |name: &str| self.options.iter().any(|(own, _)| own == name);
        let extra = extra.iter().filter(|(name, _)| !given(name));
        let options: Vec<_> = self.options.iter().chain(extra).cloned().collect();
        let attachment = Attachment { library, session: session.ptr, options: &options };
        if let Some(path) = &self.plugin {
            let kind = self.ep.device_kind(&options);
            let own = self.by_plugin().map_or(Ok(options.clone()), |own| (own.options)(&options));
            let own = own.map_err(|error| self.unusable(&error))?;
            let attachment = Attachment { options: &own, ..attachment };
            let wrong =
                |error: OrtError| ProviderError::Plugin { path: path.clone(), problem: error.to_string() };
            library.register(self.ep.full_name, path).map_err(wrong)?;
            return attachment.plugin(self.ep.full_name, kind).map_err(|error| self.unusable(&error));
        }
        let has = library.built_in().map_err(|error| self.unusable(&error))?;
        if !has.iter().any(|name| name == self.ep.full_name) {
            let (library, has) = (library.path.clone(), has.join(", "));
            return Err(ProviderError::NotBuiltIn {
                provider: self.ep.name,
                library,
                has,
                needs: self.ep.needs,
            });
        }
        (self.ep.attach)(&attachment).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &OrtError) -> ProviderError {
        ProviderError::Unusable { provider: self.name(), problem: error.to_string(), needs: self.ep.needs }
    }
}
