//! Opens a network in a session of ONNX Runtime, from its file or from what is kept of it.

use super::Choice;
use super::api::{OrtError, Owned, check, system_path, text};
use super::kept::{Entry, NETWORK, WEIGHTS};
use super::library::Library;
use super::registry::Kept;
use super::session::Session;
use crate::cache::Draft;
use crate::mapping;
use crate::onnx::{Dimension, Header};
use crate::provider::external::{Port, Runtime};
use crate::provider::{Assigned, Fallback, NetworkError, OnnxFile, Opening, ProviderError};
use ort_sys::{GraphOptimizationLevel, OrtApi, OrtSession, OrtSessionOptions};
use std::boxed::Box;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr;
use std::string::{String, ToString};
use std::vec::Vec;

/// A session with a network in it.
pub(super) struct Opened {
    pub(super) session: Owned<OrtSession>,
    pub(super) library: Library,
    pub(super) assignment: Vec<Assigned>,
    pub(super) choice: Choice,
    pub(super) threads: usize,
}

/// Opens a network, and says what its outputs are.
pub(in crate::provider) fn open(
    choice: &Choice,
    file: OnnxFile<'_>,
    header: &Header,
    inputs: &[Port],
    opening: &Opening<'_>,
) -> Result<(Box<dyn Runtime>, Vec<Port>), NetworkError> {
    let refused =
        |error: OrtError| ProviderError::Refused { provider: choice.name(), problem: error.to_string() };
    let library = Library::find(choice.library.as_deref())?;
    let entry = Entry::of(choice, &library, file, inputs, opening);
    let threads = opening.settings.threads;
    let mut extra = entry.as_ref().map(Entry::options).unwrap_or_default();
    extra.extend(threads_option(choice, threads));
    let sizes = symbols(header, inputs).collect();
    let attempt = Attempt { choice, library: &library, threads, sizes, extra };
    let session = match entry.as_ref().filter(|_| choice.kept().is_ours()) {
        Some(entry) => attempt.by_way_of(entry, file)?,
        None => attempt.session(file, Way::Direct)?,
    };
    let assignment = assignment(library.api, &session, choice.ep.full_name).map_err(refused)?;
    if choice.strict {
        check_fallback(choice, &assignment)?;
    }
    let opened = Opened { session, library, assignment, choice: choice.clone(), threads };
    let (session, outputs) = Session::new(opened, header, inputs).map_err(refused)?;
    Ok((Box::new(session), outputs))
}

/// Opens a network of our own beside another one; `None` if not all of its nodes run on the provider.
pub(super) fn open_beside(
    library: &Library,
    choice: &Choice,
    threads: usize,
    network: &[u8],
) -> Result<Option<Owned<OrtSession>>, ProviderError> {
    let extra = threads_option(choice, threads).into_iter().collect();
    let attempt = Attempt { choice, library, threads, sizes: Vec::new(), extra };
    let file = OnnxFile { path: Path::new(""), bytes: Some(network) };
    let session = attempt.session(file, Way::Direct)?;
    let refused =
        |error: OrtError| ProviderError::Refused { provider: choice.name(), problem: error.to_string() };
    let assignment = assignment(library.api, &session, choice.ep.full_name).map_err(refused)?;
    Ok(assignment.iter().all(|node| node.is_taken).then_some(session))
}

/// The option of a provider that has threads of its own.
fn threads_option(choice: &Choice, threads: usize) -> Option<(String, String)> {
    let option = choice.ep.threads().filter(|_| threads > 0)?;
    Some((option.to_string(), threads.to_string()))
}

/// What sessions on one network have in common.
struct Attempt<'a> {
    choice: &'a Choice,
    library: &'a Library,
    threads: usize,
    /// Of dimensions that have a name.
    sizes: Vec<(&'a str, usize)>,
    /// Options of the provider that the user has not given.
    extra: Vec<(String, String)>,
}

/// How a session comes by its network.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// From the model's file.
    Direct,
    /// The same, writing down what is made of it.
    Drafting(&'a Draft),
    /// From what was written down.
    Kept,
}

impl Attempt<'_> {
    /// From the cache, or into it.
    fn by_way_of(&self, entry: &Entry<'_>, file: OnnxFile<'_>) -> Result<Owned<OrtSession>, ProviderError> {
        let kept = |path: &Path| self.session(OnnxFile { path, bytes: None }, Way::Kept);
        if let Some(path) = entry.find() {
            match kept(&path) {
                Ok(session) => return Ok(session),
                Err(_) => entry.remove(),
            }
        }
        if let Some(draft) = entry.draft()
            && let Ok(session) = self.session(file, Way::Drafting(&draft))
        {
            // What was written has its weights in a file that is mapped; the session that wrote it, in memory of its own.
            if let Some(path) = entry.keep(draft)
                && matches!(self.choice.kept(), Kept::Network)
                && let Ok(mapped) = kept(&path)
            {
                drop(session);
                mapping::trim();
                return Ok(mapped);
            }
            return Ok(session);
        }
        // Not every network can be written down.
        self.session(file, Way::Direct)
    }

    fn session(&self, file: OnnxFile<'_>, way: Way<'_>) -> Result<Owned<OrtSession>, ProviderError> {
        let refused = |error: OrtError| ProviderError::Refused {
            provider: self.choice.name(),
            problem: error.to_string(),
        };
        let options = self.options(way).map_err(refused)?;
        self.choice.attach(self.library, &options, &self.extra)?;
        let (library, api) = (self.library, self.library.api);
        if file.bytes.is_some() {
            self.find_data(&options, file.folder()).map_err(refused)?;
        }
        let session = Owned::new(api, api.ReleaseSession, |out| match file.bytes {
            // SAFETY: environment and options are alive, the bytes are read during the call.
            Some(bytes) => unsafe {
                let data = bytes.as_ptr().cast();
                (api.CreateSessionFromArray)(library.env(), data, bytes.len(), options.ptr, out)
            },
            None => {
                let path = system_path(file.path);
                // SAFETY: as above, and the path ends in a zero.
                unsafe { (api.CreateSession)(library.env(), path.as_ptr(), options.ptr, out) }
            }
        });
        session.map_err(refused)
    }

    /// So many threads, all optimizations, and the shapes that are known here. Threads spin while the network runs, as they
    /// do by default, but not on into what follows it.
    fn options(&self, way: Way<'_>) -> Result<Owned<OrtSessionOptions>, OrtError> {
        let api = self.library.api;
        // SAFETY: `out` is writable.
        let create = |out: *mut *mut OrtSessionOptions| unsafe { (api.CreateSessionOptions)(out) };
        let options = Owned::new(api, api.ReleaseSessionOptions, create)?;
        let threads = i32::try_from(self.threads).map_err(|error| OrtError(error.to_string()))?;
        let level = match (way, self.choice.kept()) {
            (Way::Kept, Kept::Network) => GraphOptimizationLevel::ORT_DISABLE_ALL,
            _ => GraphOptimizationLevel::ORT_ENABLE_ALL,
        };
        // SAFETY: the options are alive.
        unsafe {
            check(api, (api.SetIntraOpNumThreads)(options.ptr, threads))?;
            check(api, (api.SetInterOpNumThreads)(options.ptr, 1))?;
            check(api, (api.SetSessionGraphOptimizationLevel)(options.ptr, level))?;
        }
        configure(api, &options, c"session.force_spinning_stop", c"1")?;
        configure(api, &options, c"session.record_ep_graph_assignment_info", c"1")?;
        for &(name, size) in &self.sizes {
            let size = i64::try_from(size).map_err(|error| OrtError(error.to_string()))?;
            let name = CString::new(name)?;
            // SAFETY: the options are alive, the string ends in a zero.
            check(api, unsafe { (api.AddFreeDimensionOverrideByName)(options.ptr, name.as_ptr(), size) })?;
        }
        if let Way::Drafting(draft) = way {
            self.draft(&options, draft)?;
        }
        Ok(options)
    }

    /// Says where external data are of a network that is handed over in memory.
    fn find_data(&self, options: &Owned<OrtSessionOptions>, folder: &Path) -> Result<(), OrtError> {
        let folder = CString::new(folder.to_string_lossy().into_owned())?;
        let key = c"session.model_external_initializers_file_folder_path";
        configure(self.library.api, options, key, &folder)
    }

    /// Has what is made of the network written down.
    fn draft(&self, options: &Owned<OrtSessionOptions>, draft: &Draft) -> Result<(), OrtError> {
        let (api, path) = (self.library.api, draft.path().join(NETWORK));
        if matches!(self.choice.kept(), Kept::Network) {
            let weights = &CString::new(WEIGHTS)?;
            configure(api, options, c"session.optimized_model_external_initializers_file_name", weights)?;
            configure(api, options, c"session.save_external_prepacked_constant_initializers", c"1")?;
            let path = system_path(&path);
            // SAFETY: the options are alive, the path ends in a zero.
            return check(api, unsafe { (api.SetOptimizedModelFilePath)(options.ptr, path.as_ptr()) });
        }
        configure(api, options, c"ep.context_enable", c"1")?;
        // What was compiled is a file beside it, which is not copied through protocol buffers.
        configure(api, options, c"ep.context_embed_mode", c"0")?;
        configure(api, options, c"ep.context_file_path", &CString::new(path.to_string_lossy().into_owned())?)
    }
}

/// Sets one of the keys of onnxruntime_session_options_config_keys.h.
fn configure(
    api: &OrtApi,
    options: &Owned<OrtSessionOptions>,
    key: &CStr,
    value: &CStr,
) -> Result<(), OrtError> {
    // SAFETY: the options are alive, strings end in a zero.
    check(api, unsafe { (api.AddSessionConfigEntry)(options.ptr, key.as_ptr(), value.as_ptr()) })
}

/// Sizes of the dimensions that have a name, where one name has one size.
fn symbols<'a>(header: &'a Header, inputs: &[Port]) -> impl Iterator<Item = (&'a str, usize)> {
    let mut sizes: HashMap<&str, Option<usize>> = HashMap::new();
    for (declared, port) in header.inputs.iter().zip(inputs) {
        for (dim, &size) in declared.dims.iter().zip(&port.shape) {
            if let Dimension::Symbol(name) = dim
                && !name.is_empty()
            {
                let known = sizes.entry(name).or_insert(Some(size));
                *known = known.filter(|&known| known == size);
            }
        }
    }
    sizes.into_iter().filter_map(|(name, size)| Some((name, size?)))
}

/// Which provider takes which node, where it is the one of this name that is to take them all.
fn assignment(
    api: &'static OrtApi,
    session: &Owned<OrtSession>,
    wanted: &str,
) -> Result<Vec<Assigned>, OrtError> {
    let (mut graphs, mut count) = (ptr::null(), 0);
    // SAFETY: the session is alive, both are writable.
    let status =
        unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr, &raw mut graphs, &raw mut count) };
    check(api, status)?;
    let mut assignment = Vec::new();
    for i in 0..count {
        let (mut to, mut nodes, mut count) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the library gives so many pointers to what lives as long as the session.
        let graph = unsafe { *graphs.add(i) };
        // SAFETY: as above; what is written to is writable.
        let to = unsafe {
            check(api, (api.EpAssignedSubgraph_GetEpName)(graph, &raw mut to))?;
            check(api, (api.EpAssignedSubgraph_GetNodes)(graph, &raw mut nodes, &raw mut count))?;
            text(to)
        };
        for j in 0..count {
            let (mut name, mut operator) = (ptr::null(), ptr::null());
            // SAFETY: as above.
            let (name, operator) = unsafe {
                let node = *nodes.add(j);
                check(api, (api.EpAssignedNode_GetName)(node, &raw mut name))?;
                check(api, (api.EpAssignedNode_GetOperatorType)(node, &raw mut operator))?;
                (text(name), text(operator))
            };
            assignment.push(Assigned { is_taken: to == wanted, to: to.clone(), operator, node: name });
        }
    }
    Ok(assignment)
}

/// That every node runs on the provider. ONNX Runtime has an option for that (`session.disable_cpu_ep_fallback`), whose
/// error does not say which nodes do not.
fn check_fallback(choice: &Choice, assignment: &[Assigned]) -> Result<(), ProviderError> {
    match Fallback::of(&choice.name(), assignment) {
        Some(fallback) => Err(ProviderError::Fallback(fallback)),
        None => Ok(()),
    }
}
