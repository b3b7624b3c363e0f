//! How an execution provider is attached to the options of a session: by a function of the C API's table, by one that the
//! library exports, or as a device of a library of its own.

use super::api::{OrtError, Owned, Pairs, check};
use super::library::Library;
use ort_sys::{OrtApi, OrtMIGraphXProviderOptions, OrtSessionOptions, OrtStatusPtr};
use std::ffi::{CStr, c_char, c_int};
use std::string::String;
use std::{format, ptr};

/// A provider's options on their way into those of a session.
pub(super) struct Attachment<'a> {
    pub(super) library: &'a Library,
    pub(super) session: *mut OrtSessionOptions,
    /// Known ones, with values that were checked.
    pub(super) options: &'a [(String, String)],
}

type Append = unsafe extern "system" fn(
    *mut OrtSessionOptions,
    *const *const c_char,
    *const *const c_char,
    usize,
) -> OrtStatusPtr;
type Update<T> =
    unsafe extern "system" fn(*mut T, *const *const c_char, *const *const c_char, usize) -> OrtStatusPtr;

/// The functions of a provider whose options are an object of the library.
struct Options<T> {
    create: unsafe extern "system" fn(*mut *mut T) -> OrtStatusPtr,
    update: Update<T>,
    append: unsafe extern "system" fn(*mut OrtSessionOptions, *const T) -> OrtStatusPtr,
    release: unsafe extern "system" fn(*mut T),
}

impl Attachment<'_> {
    pub(super) fn api(&self) -> &'static OrtApi {
        self.library.api
    }

    /// By name, where one function serves several providers.
    pub(super) fn named(&self, name: &CStr) -> Result<(), OrtError> {
        let pairs = Pairs::new(self.options)?;
        let (keys, values, count) = (pairs.keys.as_ptr(), pairs.values.as_ptr(), pairs.keys.len());
        // SAFETY: the session's options are alive, strings end in a zero, the arrays have the length that is given.
        let status = unsafe {
            (self.api().SessionOptionsAppendExecutionProvider)(
                self.session,
                name.as_ptr(),
                keys,
                values,
                count,
            )
        };
        check(self.api(), status)
    }

    /// By a function of its own that takes keys and values.
    pub(super) fn pairs(&self, append: Append) -> Result<(), OrtError> {
        let pairs = Pairs::new(self.options)?;
        // SAFETY: as in `named`.
        let status =
            unsafe { append(self.session, pairs.keys.as_ptr(), pairs.values.as_ptr(), pairs.keys.len()) };
        check(self.api(), status)
    }

    fn object<T>(&self, functions: &Options<T>) -> Result<(), OrtError> {
        let Options { create, update, append, release } = *functions;
        // SAFETY: `out` is writable.
        let object = Owned::new(self.api(), release, |out| unsafe { create(out) })?;
        let pairs = Pairs::new(self.options)?;
        // SAFETY: as in `named`, and the object is alive.
        let status =
            unsafe { update(object.ptr, pairs.keys.as_ptr(), pairs.values.as_ptr(), pairs.keys.len()) };
        check(self.api(), status)?;
        // SAFETY: the session's options and the object are alive; the former take a copy.
        check(self.api(), unsafe { append(self.session, object.ptr) })
    }

    pub(super) fn cuda(&self) -> Result<(), OrtError> {
        self.object(&Options {
            create: self.api().CreateCUDAProviderOptions,
            update: self.api().UpdateCUDAProviderOptions,
            append: self.api().SessionOptionsAppendExecutionProvider_CUDA_V2,
            release: self.api().ReleaseCUDAProviderOptions,
        })
    }

    pub(super) fn tensorrt(&self) -> Result<(), OrtError> {
        self.object(&Options {
            create: self.api().CreateTensorRTProviderOptions,
            update: self.api().UpdateTensorRTProviderOptions,
            append: self.api().SessionOptionsAppendExecutionProvider_TensorRT_V2,
            release: self.api().ReleaseTensorRTProviderOptions,
        })
    }

    pub(super) fn cann(&self) -> Result<(), OrtError> {
        self.object(&Options {
            create: self.api().CreateCANNProviderOptions,
            update: self.api().UpdateCANNProviderOptions,
            append: self.api().SessionOptionsAppendExecutionProvider_CANN,
            release: self.api().ReleaseCANNProviderOptions,
        })
    }

    pub(super) fn migraphx(&self) -> Result<(), OrtError> {
        let options = OrtMIGraphXProviderOptions {
            device_id: self.value("device_id"),
            migraphx_fp16_enable: self.value("migraphx_fp16_enable"),
            migraphx_fp8_enable: self.value("migraphx_fp8_enable"),
            migraphx_int8_enable: self.value("migraphx_int8_enable"),
            migraphx_use_native_calibration_table: 0,
            migraphx_int8_calibration_table_name: ptr::null(),
            migraphx_save_compiled_model: 0,
            migraphx_save_model_path: ptr::null(),
            migraphx_load_compiled_model: 0,
            migraphx_load_model_path: ptr::null(),
            migraphx_exhaustive_tune: self.value("migraphx_exhaustive_tune") != 0,
            migraphx_mem_limit: usize::MAX,
            migraphx_arena_extend_strategy: 0,
        };
        // SAFETY: the session's options are alive, and take a copy of these.
        check(self.api(), unsafe {
            (self.api().SessionOptionsAppendExecutionProvider_MIGraphX)(self.session, &raw const options)
        })
    }

    /// By an exported function that takes one bit an option.
    pub(super) fn flags(&self, function: &str, bits: &[&str]) -> Result<(), OrtError> {
        let set = bits.iter().enumerate().map(|(bit, name)| u32::from(self.value(name) != 0) << bit);
        let flags = set.fold(0, |all, bit| all | bit);
        type Append = unsafe extern "system" fn(*mut OrtSessionOptions, u32) -> OrtStatusPtr;
        // SAFETY: this is the function's type, and the session's options are alive.
        let status = unsafe { self.exported::<Append>(function)?(self.session, flags) };
        check(self.api(), status)
    }

    /// By an exported function that takes the number in an option.
    pub(super) fn number(&self, function: &str, option: &str) -> Result<(), OrtError> {
        type Append = unsafe extern "system" fn(*mut OrtSessionOptions, c_int) -> OrtStatusPtr;
        // SAFETY: as in `flags`.
        let status = unsafe { self.exported::<Append>(function)?(self.session, self.value(option)) };
        check(self.api(), status)
    }

    /// By an exported function that takes nothing.
    pub(super) fn plain(&self, function: &str) -> Result<(), OrtError> {
        type Append = unsafe extern "system" fn(*mut OrtSessionOptions) -> OrtStatusPtr;
        // SAFETY: as in `flags`.
        let status = unsafe { self.exported::<Append>(function)?(self.session) };
        check(self.api(), status)
    }

    /// As devices of the library that was registered for it, of a kind if one is asked for.
    pub(super) fn plugin(&self, provider: &str, kind: Option<&str>) -> Result<(), OrtError> {
        let mut devices = self.library.devices(provider)?;
        devices.retain(|&device| kind.is_none_or(|kind| self.library.kind(device) == kind));
        if devices.is_empty() {
            let kind = kind.map_or(String::new(), |kind| format!(" {kind}"));
            return Err(OrtError(format!("its library finds no device{kind}")));
        }
        let pairs = Pairs::new(self.options)?;
        // SAFETY: session's options, environment and devices are alive, strings end in a zero, arrays have the lengths that
        // are given.
        let status = unsafe {
            (self.api().SessionOptionsAppendExecutionProvider_V2)(
                self.session,
                self.library.env(),
                devices.as_ptr(),
                devices.len(),
                pairs.keys.as_ptr(),
                pairs.values.as_ptr(),
                pairs.keys.len(),
            )
        };
        check(self.api(), status)
    }

    /// # Safety
    /// `T` is the type of the function.
    unsafe fn exported<T: Copy>(&self, function: &str) -> Result<T, OrtError> {
        let symbol = format!("OrtSessionOptionsAppendExecutionProvider_{function}");
        // SAFETY: the caller's contract.
        let found = unsafe { self.library.loaded.get::<T>(symbol.as_bytes()) };
        found.map(|found| *found).map_err(|_| OrtError(format!("the library has no function {symbol}")))
    }

    /// An option that is a number, 0 if it is not given.
    fn value(&self, option: &str) -> c_int {
        let given = self.options.iter().find(|(name, _)| name == option);
        given.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }
}
