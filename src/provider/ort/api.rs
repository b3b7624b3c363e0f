//! ONNX Runtime's C API: objects that it owns, and its errors.

use ort_sys::{OrtApi, OrtLoggingLevel, OrtStatusPtr};
use std::ffi::{CStr, CString, NulError, c_char, c_void};
use std::format;
use std::path::Path;
use std::ptr;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

/// What ONNX Runtime says that went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OrtError(pub(super) String);

impl From<NulError> for OrtError {
    fn from(error: NulError) -> OrtError {
        OrtError(error.to_string())
    }
}

/// An object of the library, which releases it.
pub(super) struct Owned<T> {
    pub(super) ptr: *mut T,
    release: unsafe extern "system" fn(*mut T),
}

// SAFETY: none of the library's objects hangs on a thread, and there is one owner at a time.
unsafe impl<T> Send for Owned<T> {}

impl<T> Owned<T> {
    /// What `create` writes.
    pub(super) fn new(
        api: &OrtApi,
        release: unsafe extern "system" fn(*mut T),
        create: impl FnOnce(*mut *mut T) -> OrtStatusPtr,
    ) -> Result<Owned<T>, OrtError> {
        let mut ptr = ptr::null_mut();
        check(api, create(&raw mut ptr))?;
        Ok(Owned { ptr, release })
    }

    /// What the library has given away.
    pub(super) fn from(ptr: *mut T, release: unsafe extern "system" fn(*mut T)) -> Owned<T> {
        Owned { ptr, release }
    }
}

impl<T> std::fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ptr.fmt(f)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `create` made the object, nothing else releases it, and releasing null does nothing.
        unsafe { (self.release)(self.ptr) }
    }
}

pub(super) fn check(api: &OrtApi, status: OrtStatusPtr) -> Result<(), OrtError> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the status is the library's, and not yet released.
    let problem = unsafe { text((api.GetErrorMessage)(status.0)) };
    // SAFETY: as above; it is not used again.
    unsafe { (api.ReleaseStatus)(status.0) };
    let logged = LOGGED.lock().map(|mut logged| std::mem::take(&mut *logged)).unwrap_or_default();
    if logged.is_empty() || problem.contains(&logged) {
        return Err(OrtError(problem));
    }
    Err(OrtError(format!("{problem} ({logged})")))
}

/// The last error in the library's log since one was returned: of what goes wrong in a provider, the status that comes back
/// may say no more than that something did.
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Takes the place of the library's own log, which writes to standard error.
///
/// # Safety
/// The message ends in a zero and lives during the call.
pub(super) unsafe extern "system" fn log(
    _: *mut c_void,
    level: OrtLoggingLevel,
    _: *const c_char,
    _: *const c_char,
    _: *const c_char,
    message: *const c_char,
) {
    if matches!(level, OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR | OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL)
        && let Ok(mut logged) = LOGGED.lock()
    {
        // SAFETY: the caller's contract.
        *logged = unsafe { text(message) };
    }
}

/// # Safety
/// The string is null, or ends in a zero and lives during the call.
pub(super) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's contract.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// Keys and values as the library takes them: two arrays of strings that end in a zero.
pub(super) struct Pairs {
    _strings: Vec<CString>,
    pub(super) keys: Vec<*const c_char>,
    pub(super) values: Vec<*const c_char>,
}

impl Pairs {
    pub(super) fn new(pairs: &[(String, String)]) -> Result<Pairs, OrtError> {
        let strings = pairs.iter().flat_map(|(key, value)| [key, value]);
        let strings = strings.map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()?;
        let every_second = |first: usize| strings.iter().skip(first).step_by(2).map(|s| s.as_ptr()).collect();
        Ok(Pairs { keys: every_second(0), values: every_second(1), _strings: strings })
    }
}

#[cfg(not(windows))]
pub(super) fn system_path(path: &Path) -> Vec<c_char> {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|&byte| byte as c_char).chain([0]).collect()
}

#[cfg(windows)]
pub(super) fn system_path(path: &Path) -> Vec<u16> {
    std::os::windows::ffi::OsStrExt::encode_wide(path.as_os_str()).chain([0]).collect()
}
