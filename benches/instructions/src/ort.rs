//! A network in ONNX Runtime's CPU provider: one thread, all optimizations, inputs and output in memory that is bound once.

use crate::inputs::{Input, Values};
use ort_sys::*;
use std::error::Error;
use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr;

/// Of the interface: that of version 1.17, which later ones keep.
const API: u32 = 17;

/// Lives until the program ends: nothing is released.
pub struct Session {
    api: &'static OrtApi,
    session: *mut OrtSession,
    binding: *mut OrtIoBinding,
    output: Vec<f32>,
}

/// What the library says that went wrong.
fn check(api: &OrtApi, status: OrtStatusPtr) -> Result<(), Box<dyn Error>> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the status is the library's, its message ends in a zero.
    Err(unsafe { CStr::from_ptr((api.GetErrorMessage)(status.0)) }.to_string_lossy().into())
}

/// What a function of the library creates.
fn create<T>(api: &OrtApi, call: impl FnOnce(*mut *mut T) -> OrtStatusPtr) -> Result<*mut T, Box<dyn Error>> {
    let mut object = ptr::null_mut();
    check(api, call(&raw mut object))?;
    Ok(object)
}

impl Session {
    /// The first output has this name and shape.
    pub fn open(
        library: &Path,
        model: &Path,
        inputs: &[Input],
        (name, shape): (&str, &[usize]),
    ) -> Result<Session, Box<dyn Error>> {
        let mut output = vec![0.0; shape.iter().product()];
        let model = CString::new(model.to_str().ok_or("the network's path is not Unicode")?)?;
        // SAFETY: the functions are those of the library's interface, which stays loaded; objects are alive, strings end in
        // a zero; what is bound is on the heap and lives as long as the session: the caller's inputs, and the output.
        unsafe {
            let library = Box::leak(Box::new(libloading::Library::new(library)?));
            let base = library.get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0")?();
            let api = ((*base).GetApi)(API).as_ref().ok_or("the library has no such interface")?;
            let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_WARNING;
            let env = create(api, |out| (api.CreateEnv)(level, c"instructions".as_ptr(), out))?;
            let options = create(api, |out| (api.CreateSessionOptions)(out))?;
            check(api, (api.SetIntraOpNumThreads)(options, 1))?;
            check(api, (api.SetInterOpNumThreads)(options, 1))?;
            let all = GraphOptimizationLevel::ORT_ENABLE_ALL;
            check(api, (api.SetSessionGraphOptimizationLevel)(options, all))?;
            let session = create(api, |out| (api.CreateSession)(env, model.as_ptr(), options, out))?;
            let binding = create(api, |out| (api.CreateIoBinding)(session, out))?;
            for input in inputs {
                let value = match &input.values {
                    Values::F32(values) => {
                        tensor(api, values.as_ptr().cast(), size_of_val(&values[..]), &input.shape, FLOAT)
                    }
                    Values::I64(values) => {
                        tensor(api, values.as_ptr().cast(), size_of_val(&values[..]), &input.shape, INT64)
                    }
                }?;
                let name = CString::new(&input.name[..])?;
                check(api, (api.BindInput)(binding, name.as_ptr(), value))?;
            }
            let value = tensor(api, output.as_mut_ptr().cast(), size_of_val(&output[..]), shape, FLOAT)?;
            let name = CString::new(name)?;
            check(api, (api.BindOutput)(binding, name.as_ptr(), value))?;
            Ok(Session { api, session, binding, output })
        }
    }

    pub fn run(&mut self) -> Result<(), Box<dyn Error>> {
        // SAFETY: the session is alive, and so is what is bound to it.
        check(self.api, unsafe { (self.api.RunWithBinding)(self.session, ptr::null(), self.binding) })
    }

    pub fn output(&self) -> &[f32] {
        &self.output
    }
}

const FLOAT: ONNXTensorElementDataType = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
const INT64: ONNXTensorElementDataType = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

/// A tensor on memory that stays the caller's.
///
/// # Safety
/// The memory holds so many bytes as long as the tensor is used.
unsafe fn tensor(
    api: &OrtApi,
    data: *const c_void,
    bytes: usize,
    shape: &[usize],
    element: ONNXTensorElementDataType,
) -> Result<*mut OrtValue, Box<dyn Error>> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    // SAFETY: the caller's contract; shape and name are read during the call.
    unsafe {
        let memory = create(api, |out| {
            (api.CreateCpuMemoryInfo)(
                OrtAllocatorType::OrtDeviceAllocator,
                OrtMemType::OrtMemTypeDefault,
                out,
            )
        })?;
        create(api, |out| {
            (api.CreateTensorWithDataAsOrtValue)(
                memory,
                data.cast_mut(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                element,
                out,
            )
        })
    }
}
