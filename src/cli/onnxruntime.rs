//! ONNX Runtime's CPU provider, through its C API and loaded at run time, as a peer of the engine.
//!
//! Source of what the functions want: `onnxruntime_c_api.h` of ONNX Runtime 1.17, whose API version every later
//! library still serves; `ort-sys` declares it.
#![allow(unsafe_code)]

use super::peer::{Peer, PeerError, Request, bytes};
use fewstep::onnx::{Declared, Dimension};
use libloading::Library;
use ort_sys::{
    GraphOptimizationLevel, ONNXTensorElementDataType as ElementType, ORT_API_VERSION, OrtAllocator, OrtApi,
    OrtApiBase, OrtEnv, OrtLoggingLevel, OrtSession, OrtSessionOptions, OrtStatusPtr,
    OrtTensorTypeAndShapeInfo, OrtValue,
};
use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr;

const NAME: &str = "onnxruntime";

/// An object of the library, which releases it.
struct Owned<T> {
    ptr: *mut T,
    release: unsafe extern "system" fn(*mut T),
}

impl<T> Owned<T> {
    /// What `create` writes.
    fn new(
        api: &OrtApi,
        release: unsafe extern "system" fn(*mut T),
        create: impl FnOnce(*mut *mut T) -> OrtStatusPtr,
    ) -> Result<Owned<T>, PeerError> {
        let mut ptr = ptr::null_mut();
        check(api, create(&raw mut ptr))?;
        Ok(Owned { ptr, release })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `create` made the object, nothing else releases it, and releasing null does nothing.
        unsafe { (self.release)(self.ptr) }
    }
}

fn check(api: &OrtApi, status: OrtStatusPtr) -> Result<(), PeerError> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the status is the library's, and not yet released; its message ends in a zero.
    let problem = unsafe { CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned() };
    // SAFETY: as above; it is not used again.
    unsafe { (api.ReleaseStatus)(status.0) };
    Err(refused(problem))
}

fn refused(problem: impl ToString) -> PeerError {
    PeerError::Refused { peer: NAME, problem: problem.to_string() }
}

/// A session, what it reads and what it writes. Fields are dropped in this order.
pub struct OnnxRuntime {
    inputs: Vec<Owned<OrtValue>>,
    /// Made by the first evaluation, written again by the others.
    outputs: Vec<Owned<OrtValue>>,
    session: Owned<OrtSession>,
    _environment: Owned<OrtEnv>,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    api: &'static OrtApi,
    version: String,
    threads: usize,
}

impl OnnxRuntime {
    /// Loads the library of ORT_DYLIB_PATH and opens the model with it.
    pub fn open(request: &Request) -> Result<OnnxRuntime, PeerError> {
        let path =
            env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).ok_or(PeerError::NoLibrary)?;
        let (api, version) = load(Path::new(&path))?;
        let environment = Owned::new(api, api.ReleaseEnv, |out| {
            let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL;
            // SAFETY: the name ends in a zero, `out` is writable.
            unsafe { (api.CreateEnv)(level, c"fewstep".as_ptr(), out) }
        })?;
        let session = session(api, &environment, request)?;
        let inputs = request.inputs.iter().zip(request.declared);
        let inputs = inputs.map(|(input, declared)| {
            let wrong = || PeerError::Type { input: input.name.clone(), onnx_type: declared.onnx_type };
            let bytes = bytes(&input.data, declared.onnx_type).ok_or_else(wrong)?;
            let element = element_type(declared.onnx_type).ok_or_else(wrong)?;
            tensor(api, &input.shape, element, &bytes)
        });
        Ok(OnnxRuntime {
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: Vec::new(),
            session,
            _environment: environment,
            input_names: request.inputs.iter().map(|input| text(&input.name)).collect::<Result<_, _>>()?,
            output_names: request.outputs.iter().map(|name| text(name)).collect::<Result<_, _>>()?,
            api,
            version,
            threads: request.threads,
        })
    }
}

/// The library's functions and its version. It stays loaded: its threads may outlive what is made with it.
fn load(path: &Path) -> Result<(&'static OrtApi, String), PeerError> {
    let wrong = |problem: String| PeerError::Library { path: PathBuf::from(path), problem };
    // SAFETY: whoever sets ORT_DYLIB_PATH answers for what the library does when it is loaded.
    let library = unsafe { Library::new(path) }.map_err(|error| wrong(reason(error)))?;
    let library: &'static Library = Box::leak(Box::new(library));
    type Base = unsafe extern "C" fn() -> *const OrtApiBase;
    // SAFETY: the C API's only symbol, with its type.
    let base = unsafe { library.get::<Base>(b"OrtGetApiBase\0") }.map_err(|error| wrong(reason(error)))?;
    // SAFETY: the function returns a table that lives as long as the library.
    let base = unsafe { base().as_ref() }.ok_or_else(|| wrong("it has no API".into()))?;
    // SAFETY: the string lives as long as the library and ends in a zero.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // SAFETY: as for the base; null means that the library is older than the version asked for.
    let api = unsafe { (base.GetApi)(ORT_API_VERSION).as_ref() };
    Ok((api.ok_or_else(|| wrong(format!("version {version} is too old")))?, version))
}

/// What the system says, which libloading keeps behind what it was doing.
fn reason(error: libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn session(
    api: &'static OrtApi,
    environment: &Owned<OrtEnv>,
    request: &Request,
) -> Result<Owned<OrtSession>, PeerError> {
    let options = options(api, request)?;
    Owned::new(api, api.ReleaseSession, |out| match request.source.embedded() {
        // SAFETY: environment and options are alive, the bytes are read during the call.
        Some(bytes) => unsafe {
            let data = bytes.as_ptr().cast();
            (api.CreateSessionFromArray)(environment.ptr, data, bytes.len(), options.ptr, out)
        },
        None => {
            let path = system_path(request.source.path());
            // SAFETY: as above, and the path ends in a zero.
            unsafe { (api.CreateSession)(environment.ptr, path.as_ptr(), options.ptr, out) }
        }
    })
}

#[cfg(not(windows))]
fn system_path(path: &Path) -> Vec<c_char> {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|&byte| byte as c_char).chain([0]).collect()
}

#[cfg(windows)]
fn system_path(path: &Path) -> Vec<u16> {
    std::os::windows::ffi::OsStrExt::encode_wide(path.as_os_str()).chain([0]).collect()
}

/// The same threads as the engine's, all optimizations, and the shapes that the engine knows as well. Threads spin
/// while the network runs, as they do by default, but not on into the engine's turn.
fn options(api: &'static OrtApi, request: &Request) -> Result<Owned<OrtSessionOptions>, PeerError> {
    // SAFETY: `out` is writable.
    let options =
        Owned::new(api, api.ReleaseSessionOptions, |out| unsafe { (api.CreateSessionOptions)(out) })?;
    let threads = i32::try_from(request.threads).map_err(refused)?;
    let stop = [c"session.force_spinning_stop", c"1"];
    // SAFETY: the options are alive, strings end in a zero.
    unsafe {
        check(api, (api.SetIntraOpNumThreads)(options.ptr, threads))?;
        check(api, (api.SetInterOpNumThreads)(options.ptr, 1))?;
        let all = GraphOptimizationLevel::ORT_ENABLE_ALL;
        check(api, (api.SetSessionGraphOptimizationLevel)(options.ptr, all))?;
        check(api, (api.AddSessionConfigEntry)(options.ptr, stop[0].as_ptr(), stop[1].as_ptr()))?;
    }
    for (name, size) in symbols(request) {
        let (name, size) = (text(name)?, i64::try_from(size).map_err(refused)?);
        // SAFETY: as above.
        check(api, unsafe { (api.AddFreeDimensionOverrideByName)(options.ptr, name.as_ptr(), size) })?;
    }
    Ok(options)
}

/// Sizes of the dimensions that have a name, where one name has one size.
fn symbols<'a>(request: &Request<'a>) -> impl Iterator<Item = (&'a str, usize)> {
    let mut sizes: HashMap<&str, Option<usize>> = HashMap::new();
    let pairs = |(declared, shape): (&'a Declared, &'a [usize])| declared.dims.iter().zip(shape);
    let shapes = request.inputs.iter().map(|input| &input.shape[..]);
    for (dim, &size) in request.declared.iter().zip(shapes).flat_map(pairs) {
        if let Dimension::Symbol(name) = dim
            && !name.is_empty()
        {
            let known = sizes.entry(name).or_insert(Some(size));
            *known = known.filter(|&known| known == size);
        }
    }
    sizes.into_iter().filter_map(|(name, size)| Some((name, size?)))
}

fn text(name: &str) -> Result<CString, PeerError> {
    CString::new(name).map_err(refused)
}

/// ONNX and ONNX Runtime number the types alike.
fn element_type(onnx_type: i32) -> Option<ElementType> {
    Some(match onnx_type {
        1 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        6 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        7 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        9 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        10 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        11 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        _ => return None,
    })
}

/// A tensor in the library's memory, with these elements.
fn tensor(
    api: &'static OrtApi,
    shape: &[usize],
    element: ElementType,
    bytes: &[u8],
) -> Result<Owned<OrtValue>, PeerError> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let mut allocator: *mut OrtAllocator = ptr::null_mut();
    // SAFETY: `allocator` is writable; the default one is not to be released.
    check(api, unsafe { (api.GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
    let value = Owned::new(api, api.ReleaseValue, |out| {
        // SAFETY: the allocator is alive, the shape has its length.
        unsafe { (api.CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), element, out) }
    })?;
    let mut data = ptr::null_mut();
    // SAFETY: the value is a tensor that nothing else uses.
    check(api, unsafe { (api.GetTensorMutableData)(value.ptr, &raw mut data) })?;
    // SAFETY: `bytes` has the elements of this shape in this type; the two do not overlap.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), bytes.len()) };
    Ok(value)
}

/// The elements of an f32 tensor.
fn floats(api: &'static OrtApi, value: &Owned<OrtValue>) -> Result<Option<Vec<f32>>, PeerError> {
    let info: Owned<OrtTensorTypeAndShapeInfo> =
        // SAFETY: the value is alive.
        Owned::new(api, api.ReleaseTensorTypeAndShapeInfo, |out| unsafe {
            (api.GetTensorTypeAndShape)(value.ptr, out)
        })?;
    let mut element = ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    let (mut len, mut data) = (0, ptr::null_mut());
    // SAFETY: value and info are alive, what is written to is writable.
    unsafe {
        check(api, (api.GetTensorElementType)(info.ptr, &raw mut element))?;
        check(api, (api.GetTensorShapeElementCount)(info.ptr, &raw mut len))?;
        check(api, (api.GetTensorMutableData)(value.ptr, &raw mut data))?;
    }
    if element != ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT {
        return Ok(None);
    }
    if len == 0 {
        return Ok(Some(Vec::new()));
    }
    // SAFETY: the tensor has `len` elements of this type, and nothing writes them during the copy.
    Ok(Some(unsafe { std::slice::from_raw_parts(data.cast::<f32>(), len) }.to_vec()))
}

impl Peer for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn note(&self) -> Option<&'static str> {
        None
    }

    fn run(&mut self) -> Result<(), PeerError> {
        let names = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (input_names, output_names) = (names(&self.input_names), names(&self.output_names));
        let inputs: Vec<*const OrtValue> = self.inputs.iter().map(|value| value.ptr.cast_const()).collect();
        let mut outputs: Vec<*mut OrtValue> = self.outputs.iter().map(|value| value.ptr).collect();
        outputs.resize(output_names.len(), ptr::null_mut());
        // SAFETY: session and values are alive, every array has the length that is given; where an output is null, the
        // library makes one.
        let status = unsafe {
            (self.api.Run)(
                self.session.ptr,
                ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        check(self.api, status)?;
        if self.outputs.is_empty() {
            let own = |ptr| Owned { ptr, release: self.api.ReleaseValue };
            self.outputs = outputs.into_iter().map(own).collect();
        }
        Ok(())
    }

    fn outputs(&self) -> Result<Vec<Option<Vec<f32>>>, PeerError> {
        self.outputs.iter().map(|value| floats(self.api, value)).collect()
    }
}
