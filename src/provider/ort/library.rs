//! ONNX Runtime's library: where it is, and what is in it.
//!
//! It is loaded by `libloading` and called through `ort-sys`, whose declarations are the C header's. The `ort` crate above
//! them would serve for less: what it loads it keeps in one global place and aborts where it finds none, and its runs
//! allocate.

use super::api::{OrtError, Owned, check, log, system_path, text};
use crate::provider::ProviderError;
use libloading::Library as Loaded;
use ort_sys::{
    ORT_API_VERSION, OrtApi, OrtApiBase, OrtEnv, OrtEpDevice, OrtHardwareDeviceType, OrtLoggingLevel,
};
use std::boxed::Box;
use std::error::Error;
use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use std::{env, format, fs, ptr};

/// The oldest library with `ORT_API_VERSION`, for people.
const LEAST: &str = "1.24";

/// Variables that name the library, or the folder that it is in.
const VARIABLES: [&str; 2] = ["FEWSTEP_ORT_LIB", "ORT_DYLIB_PATH"];

/// Folders that the system's loader may not search.
const FOLDERS: &[&str] = &["/usr/local/lib", "/opt/onnxruntime/lib", "/opt/homebrew/lib"];

/// How the library is called, as the system's loader finds it.
const NAMES: &[&str] = if cfg!(windows) {
    &["onnxruntime.dll"]
} else if cfg!(target_os = "macos") {
    &["libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so", "libonnxruntime.so.1"]
};

/// A library that is loaded, and its environment.
#[derive(Clone, Debug)]
pub(super) struct Library {
    pub(super) api: &'static OrtApi,
    pub(super) path: PathBuf,
    pub(super) version: String,
    pub(super) loaded: &'static Loaded,
    pub(super) environment: Arc<Environment>,
}

#[derive(Debug)]
pub(super) struct Environment(Owned<OrtEnv>);

// SAFETY: the C API serves an environment's functions to any number of threads at the same time.
unsafe impl Sync for Environment {}

impl Library {
    /// The library that is given, or that a variable names, or the first of the usual places.
    ///
    /// # Errors
    /// If there is none, or it is none of ONNX Runtime, or too old.
    pub(super) fn find(given: Option<&Path>) -> Result<Library, ProviderError> {
        let named = given.map(|path| ("--ort-lib", path.to_path_buf()));
        let variable = |name: &'static str| {
            let value: Option<OsString> = env::var_os(name).filter(|value| !value.is_empty());
            value.map(|value| (name, value.into()))
        };
        if let Some((origin, path)) = named.or_else(|| VARIABLES.into_iter().find_map(variable)) {
            let file = if path.is_dir() { inside(&path).unwrap_or(path) } else { path };
            return Library::load(&file).map_err(|problem| ProviderError::Library {
                origin,
                path: file,
                problem,
                least: LEAST,
            });
        }
        let mut tried: Vec<String> = VARIABLES.iter().map(|name| format!("{name} is not set")).collect();
        for candidate in usual() {
            match Library::load(&candidate) {
                Ok(library) => return Ok(library),
                Err(problem) => tried.push(format!("{}: {problem}", candidate.display())),
            }
        }
        Err(ProviderError::NoLibrary { tried: tried.join("; ") })
    }

    /// It stays loaded: its threads may outlive what is made with it.
    fn load(path: &Path) -> Result<Library, String> {
        // SAFETY: whoever names or installs the library answers for what it does when it is loaded.
        let loaded = unsafe { Loaded::new(path) }.map_err(reason)?;
        let loaded: &'static Loaded = Box::leak(Box::new(loaded));
        type Base = unsafe extern "C" fn() -> *const OrtApiBase;
        // SAFETY: the C API's own symbol, with its type.
        let base = unsafe { loaded.get::<Base>(b"OrtGetApiBase\0") }.map_err(reason)?;
        // SAFETY: the function returns a table that lives as long as the library.
        let base = unsafe { base().as_ref() }.ok_or("it has no API")?;
        // SAFETY: the string lives as long as the library and ends in a zero.
        let version = unsafe { text((base.GetVersionString)()) };
        // SAFETY: as for the base; null means that the library is older than the version asked for.
        let api = unsafe { (base.GetApi)(ORT_API_VERSION).as_ref() };
        let api = api.ok_or_else(|| format!("version {version} is too old"))?;
        let environment = Owned::new(api, api.ReleaseEnv, |out| {
            let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR;
            // SAFETY: the name ends in a zero, `out` is writable, the logger needs nothing else.
            unsafe { (api.CreateEnvWithCustomLogger)(log, ptr::null_mut(), level, c"fewstep".as_ptr(), out) }
        });
        let environment = Arc::new(Environment(environment.map_err(|error| error.to_string())?));
        Ok(Library { api, path: path.into(), version, loaded, environment })
    }

    pub(super) fn env(&self) -> *mut OrtEnv {
        self.environment.0.ptr
    }

    /// The providers that are built into the library, as it calls them.
    pub(super) fn built_in(&self) -> Result<Vec<String>, OrtError> {
        let (mut names, mut count) = (ptr::null_mut(), 0);
        // SAFETY: both are writable.
        check(self.api, unsafe { (self.api.GetAvailableProviders)(&raw mut names, &raw mut count) })?;
        // SAFETY: the library gives so many strings, which live until they are released.
        let found =
            (0..usize::try_from(count).unwrap_or(0)).map(|i| unsafe { text(*names.add(i)) }).collect();
        // SAFETY: these are what it gave, and not used again.
        check(self.api, unsafe { (self.api.ReleaseAvailableProviders)(names, count) })?;
        Ok(found)
    }

    /// Loads a library of providers into the environment, unless that has one of this name.
    pub(super) fn register(&self, name: &str, path: &Path) -> Result<(), OrtError> {
        if !self.devices(name)?.is_empty() {
            return Ok(());
        }
        // ONNX Runtime would look for a relative path beside itself.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let (name, path) = (CString::new(name)?, system_path(&path));
        // SAFETY: the environment is alive, strings end in a zero.
        let status =
            unsafe { (self.api.RegisterExecutionProviderLibrary)(self.env(), name.as_ptr(), path.as_ptr()) };
        check(self.api, status)
    }

    /// CPU, GPU or NPU.
    pub(super) fn kind(&self, device: *const OrtEpDevice) -> &'static str {
        // SAFETY: the device is one of [`Library::devices`], and lives as long as the environment.
        match unsafe { (self.api.HardwareDevice_Type)((self.api.EpDevice_Device)(device)) } {
            OrtHardwareDeviceType::OrtHardwareDeviceType_CPU => "CPU",
            OrtHardwareDeviceType::OrtHardwareDeviceType_GPU => "GPU",
            OrtHardwareDeviceType::OrtHardwareDeviceType_NPU => "NPU",
        }
    }

    /// The devices of a provider out of a library of its own. They live as long as the environment.
    pub(super) fn devices(&self, provider: &str) -> Result<Vec<*const OrtEpDevice>, OrtError> {
        let (mut devices, mut count) = (ptr::null(), 0);
        // SAFETY: the environment is alive, both are writable.
        check(self.api, unsafe { (self.api.GetEpDevices)(self.env(), &raw mut devices, &raw mut count) })?;
        // SAFETY: the library gives so many pointers.
        let all = (0..count).map(|i| unsafe { *devices.add(i) });
        // SAFETY: each is a device that is alive.
        Ok(all.filter(|&device| unsafe { text((self.api.EpDevice_EpName)(device)) } == provider).collect())
    }
}

/// The library in a folder: the plain name, or the first with a version.
fn inside(folder: &Path) -> Option<PathBuf> {
    let plain = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let versioned = || {
        let files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let is = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            NAMES.iter().any(|known| name.starts_with(known))
        };
        files.filter(is).min()
    };
    plain.or_else(versioned)
}

/// Beside the program, what the system's loader finds, and folders that it may not search.
fn usual() -> Vec<PathBuf> {
    let program = env::current_exe().ok().and_then(|path| inside(path.parent()?));
    let names = NAMES.iter().map(PathBuf::from);
    let folders = FOLDERS.iter().filter_map(|folder| inside(Path::new(folder)));
    program.into_iter().chain(names).chain(folders).collect()
}

/// What the system says, which libloading keeps behind what it was doing.
fn reason(error: libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
