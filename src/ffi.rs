//! The C interface. `include/fewstep.h` is made of this file by cbindgen (tests/c_abi.sh), which copies these comments.
//!
//! Every function that can fail returns a status, and keeps a message for its thread. No panic leaves a function.
#![allow(non_camel_case_types)]

use crate::manifest::Request;
use crate::plan::{OpenError, Plan, PlanFile};
use crate::provider::{NetworkError, Precision, Settings};
use crate::session::{Flow, Progress, Run, Session, SessionError};
use std::boxed::Box;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};

/// Grows when a function, a type or what they mean changes. Compare with `fewstep_abi_version()`.
pub const FEWSTEP_ABI_VERSION: u32 = 1;

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fewstep_status {
    FEWSTEP_OK = 0,
    /// A null pointer, a wrong length or name, a value out of range, or a condition without a value.
    FEWSTEP_ARGUMENT = 1,
    /// The file cannot be read.
    FEWSTEP_FILE = 2,
    /// The file is damaged, of another version, or no plan that can be sampled.
    FEWSTEP_PLAN = 3,
    /// This CPU cannot run the plan.
    FEWSTEP_UNSUPPORTED = 4,
    /// The system does not give the memory or the threads, or the plan does not fit `max_memory`.
    FEWSTEP_RESOURCES = 5,
    /// The network returned values that are not finite.
    FEWSTEP_NOT_FINITE = 6,
    /// The caller's function has ended the sample.
    FEWSTEP_CANCELLED = 7,
    /// A mistake in fewstep; please report it.
    FEWSTEP_INTERNAL = 8,
}

/// What products are computed in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fewstep_precision {
    /// f32; what there is, if the plan has no f32.
    FEWSTEP_F32 = 0,
    FEWSTEP_F16 = 1,
    /// The first of the plan file's that this CPU runs.
    FEWSTEP_AUTO = 2,
}

/// A plan file, mapped into memory. Any number of threads may use it at once; sessions keep it open for as long as they need it.
pub struct fewstep_plan(PlanFile);

/// A model that is ready to be sampled. It may move between threads, but one at a time may use it.
pub struct fewstep_session(Session);

/// How samples are to be drawn. Zeros stand for what the plan file or the computer has, so `{0}` is a good beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct fewstep_options {
    /// Threads to use; 0 for as many as the CPU runs at once, 1 for none but the caller's.
    pub threads: usize,
    /// Network evaluations a sample; 0 for the plan's.
    pub steps: usize,
    /// A sampler in the place of the plan's, as `fewstep list samplers` has them, or null.
    pub sampler: *const c_char,
    /// The scale of guidance in the place of the plan's, or null.
    pub guidance: *const f64,
    /// The seed of the first sample's noise, as PyTorch draws it on a CPU; the next sample has the next seed.
    pub seed: u64,
    /// A `fewstep_precision`.
    pub precision: u32,
    /// Whether to bring all weights into memory beforehand: 0 or 1.
    pub prefault: u32,
    /// Bytes of memory that the process may take, on Linux; 0 for any.
    pub max_memory: usize,
}

/// Called after each step, by the thread that samples, which may be one of the session's own; the caller waits meanwhile.
/// `clean` is the sample as the step saw it. Returns 0 to end the sample, anything else to go on.
pub type fewstep_after = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        step: usize,
        steps: usize,
        clean: *const f32,
        count: usize,
    ) -> i32,
>;

std::thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Why a call did not do what it should.
struct Failure {
    status: fewstep_status,
    message: String,
}

/// Runs a call: keeps what went wrong for [`fewstep_last_error`].
fn call(work: impl FnOnce() -> Result<(), Failure>) -> fewstep_status {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return fewstep_status::FEWSTEP_OK,
        Ok(Err(failure)) => failure,
        Err(_) => Failure {
            status: fewstep_status::FEWSTEP_INTERNAL,
            message: "fewstep has a mistake, please report it; free what was in use".into(),
        },
    };
    let message = CString::new(failure.message.replace('\0', "?")).unwrap_or_default();
    // A thread that is ending may have no message any more.
    MESSAGE.try_with(|own| own.replace(message)).ok();
    failure.status
}

/// The version of the interface that the library has.
#[unsafe(no_mangle)]
pub extern "C" fn fewstep_abi_version() -> u32 {
    FEWSTEP_ABI_VERSION
}

/// What went wrong in the last call of this thread that failed, in UTF-8. Valid until another call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn fewstep_last_error() -> *const c_char {
    MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Maps and checks a plan file. Its weights are not read; see `fewstep_plan_verify`.
///
/// # Safety
/// `path` is a text that ends in a zero, in UTF-8, and `plan` is writable. Nobody changes the file while it is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_plan_open(
    path: *const c_char,
    plan: *mut *mut fewstep_plan,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        let (path, plan) = unsafe { (text(path, "path")?, place(plan, "plan")?) };
        *plan = Box::into_raw(Box::new(fewstep_plan(Plan::open(path)?)));
        Ok(())
    })
}

/// Compares the weights with their checksum, which reads them all.
///
/// # Safety
/// `plan` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_plan_verify(plan: *const fewstep_plan) -> fewstep_status {
    // SAFETY: the caller's contract.
    call(|| Ok(unsafe { shared(plan, "plan")? }.0.verify()?))
}

/// Closes a plan file; nothing happens to its sessions. Null is closed already.
///
/// # Safety
/// `plan` is open, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_plan_close(plan: *mut fewstep_plan) {
    if !plan.is_null() {
        call(|| {
            // SAFETY: `fewstep_plan_open` made it of a box, which the caller gives back.
            drop(unsafe { Box::from_raw(plan) });
            Ok(())
        });
    }
}

/// Allocates everything that samples of a plan need. `options` may be null for what `{0}` says.
///
/// # Safety
/// `plan` is open, `options` and what it points at can be read, `session` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_new(
    plan: *const fewstep_plan,
    options: *const fewstep_options,
    session: *mut *mut fewstep_session,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        let (plan, options, place) =
            unsafe { (shared(plan, "plan")?, options.as_ref(), place(session, "session")?) };
        let mut builder = Session::builder().plan(&plan.0);
        if let Some(options) = options {
            // SAFETY: the caller's contract.
            let (sampler, guidance) = unsafe {
                let sampler = (!options.sampler.is_null()).then(|| text(options.sampler, "options.sampler"));
                (sampler.transpose()?, options.guidance.as_ref().copied())
            };
            let steps = Some(options.steps).filter(|&steps| steps > 0);
            let request = Request { sampler, steps, guidance, ..Request::default() };
            builder = builder.settings(settings(options)?).request(request).seed(options.seed);
        }
        *place = Box::into_raw(Box::new(fewstep_session(builder.build()?)));
        Ok(())
    })
}

fn settings(options: &fewstep_options) -> Result<Settings, Failure> {
    let precision = match options.precision {
        0 => Precision::F32,
        1 => Precision::F16,
        2 => Precision::Auto,
        other => return Err(argument(format!("options.precision is {other}; it goes from 0 to 2"))),
    };
    Ok(Settings {
        threads: options.threads,
        precision,
        prefault: options.prefault != 0,
        max_memory: Some(options.max_memory).filter(|&bytes| bytes > 0),
        ..Settings::default()
    })
}

/// Frees a session. Null is free already.
///
/// # Safety
/// `session` is not in use, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_free(session: *mut fewstep_session) {
    if !session.is_null() {
        call(|| {
            // SAFETY: `fewstep_session_new` made it of a box, which the caller gives back.
            drop(unsafe { Box::from_raw(session) });
            Ok(())
        });
    }
}

/// Values of a sample; 0 for null.
///
/// # Safety
/// `session` is a session or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_elements(session: *const fewstep_session) -> usize {
    // SAFETY: the caller's contract.
    unsafe { session.as_ref() }.map_or(0, |own| own.0.elements())
}

/// Network evaluations a sample; 0 for null.
///
/// # Safety
/// `session` is a session or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_steps(session: *const fewstep_session) -> usize {
    // SAFETY: the caller's contract.
    unsafe { session.as_ref() }.map_or(0, |own| own.0.steps())
}

/// Writes as many of a sample's dimensions as there is room for, and how many there are to `rank`.
///
/// # Safety
/// `session` is a session, there is room for `room` values at `dims`, `rank` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_shape(
    session: *const fewstep_session,
    dims: *mut usize,
    room: usize,
    rank: *mut usize,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        let (session, dims, rank) =
            unsafe { (shared(session, "session")?, values_mut(dims, room, "dims")?, place(rank, "rank")?) };
        let shape = session.0.manifest().state_shape();
        dims.iter_mut().zip(shape).for_each(|(to, from)| *to = *from);
        *rank = shape.len();
        Ok(())
    })
}

/// Sets a condition for the samples to come: one value for all its elements, or one for each. Allocates nothing.
///
/// # Safety
/// `session` is a session, `name` a text that ends in a zero, and there are `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_set_condition(
    session: *mut fewstep_session,
    name: *const c_char,
    values: *const f64,
    count: usize,
) -> fewstep_status {
    // SAFETY: the caller's contract.
    unsafe { set(session, name, values, count, Session::set_condition) }
}

/// Sets what guidance moves away from, as `fewstep_session_set_condition`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_set_negative(
    session: *mut fewstep_session,
    name: *const c_char,
    values: *const f64,
    count: usize,
) -> fewstep_status {
    // SAFETY: the caller's contract.
    unsafe { set(session, name, values, count, Session::set_negative) }
}

/// # Safety
/// As `fewstep_session_set_condition`.
unsafe fn set(
    session: *mut fewstep_session,
    name: *const c_char,
    values: *const f64,
    count: usize,
    to: fn(&mut Session, &str, &[f64]) -> Result<(), SessionError>,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        let (own, name, values) = unsafe {
            (place(session, "session")?, text(name, "name")?, self::values(values, count, "values")?)
        };
        Ok(to(&mut own.0, name, values)?)
    })
}

/// The seed of the next sample's noise.
///
/// # Safety
/// `session` is a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_set_seed(
    session: *mut fewstep_session,
    seed: u64,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        unsafe { place(session, "session")? }.0.set_seed(seed);
        Ok(())
    })
}

/// Draws one sample into `out`, which has room for `count` values: as many as `fewstep_session_elements` says. `noise` is
/// null, or `count` unit normal values in the place of those that the seed would give. Allocates nothing.
///
/// # Safety
/// `session` is a session, there is room at `out`, there are values at `noise` that are not those of `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_sample(
    session: *mut fewstep_session,
    noise: *const f32,
    out: *mut f32,
    count: usize,
) -> fewstep_status {
    // SAFETY: the caller's contract.
    unsafe { fewstep_session_sample_watched(session, noise, out, count, None, std::ptr::null_mut()) }
}

/// As `fewstep_session_sample`, and calls `after` with `user` after each step.
///
/// # Safety
/// As there; and `after` may be called with these arguments, on another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_session_sample_watched(
    session: *mut fewstep_session,
    noise: *const f32,
    out: *mut f32,
    count: usize,
    after: fewstep_after,
    user: *mut c_void,
) -> fewstep_status {
    call(|| {
        // SAFETY: the caller's contract.
        let (own, initial, out) = unsafe {
            let initial = (!noise.is_null()).then(|| values(noise, count, "noise")).transpose()?;
            (place(session, "session")?, initial, values_mut(out, count, "out")?)
        };
        let user = User(user);
        let mut watch = after.map(|after| {
            move |progress: Progress<'_>| {
                let (User(user), clean) = (&user, progress.clean);
                // SAFETY: the caller's contract.
                let going =
                    unsafe { after(*user, progress.step, progress.steps, clean.as_ptr(), clean.len()) };
                if going == 0 { Flow::Cancel } else { Flow::Continue }
            }
        });
        let after = watch.as_mut().map(|watch| watch as &mut (dyn FnMut(Progress<'_>) -> Flow + Send));
        Ok(own.0.sample_run(Run { initial, after, ..Run::default() }, out)?)
    })
}

/// What a caller's function is called with.
struct User(*mut c_void);

// SAFETY: the caller allows that its function is called on another thread.
unsafe impl Send for User {}

fn argument(message: String) -> Failure {
    Failure { status: fewstep_status::FEWSTEP_ARGUMENT, message }
}

fn null(name: &str) -> Failure {
    argument(format!("{name} is a null pointer"))
}

/// # Safety
/// Null, or a text that ends in a zero and lives as long as the result is used.
unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(null(name));
    }
    // SAFETY: the caller's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| argument(format!("{name} is not UTF-8")))
}

/// # Safety
/// Null, or an object that nobody else changes as long as the result is used.
unsafe fn shared<'a, T>(object: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's contract.
    unsafe { object.as_ref() }.ok_or_else(|| null(name))
}

/// # Safety
/// Null, or an object that nobody else touches as long as the result is used.
unsafe fn place<'a, T>(object: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's contract.
    unsafe { object.as_mut() }.ok_or_else(|| null(name))
}

/// # Safety
/// Null, or so many values that nobody changes as long as the result is used.
unsafe fn values<'a, T>(values: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    match check(values, count, name)? {
        0 => Ok(&[]),
        // SAFETY: the caller's contract, and what was checked.
        count => Ok(unsafe { std::slice::from_raw_parts(values, count) }),
    }
}

/// # Safety
/// Null, or so many values that nobody else touches as long as the result is used.
unsafe fn values_mut<'a, T>(values: *mut T, count: usize, name: &str) -> Result<&'a mut [T], Failure> {
    match check(values, count, name)? {
        0 => Ok(&mut []),
        // SAFETY: the caller's contract, and what was checked.
        count => Ok(unsafe { std::slice::from_raw_parts_mut(values, count) }),
    }
}

/// The count, if so many values can be there.
fn check<T>(values: *const T, count: usize, name: &str) -> Result<usize, Failure> {
    if count > 0 && values.is_null() {
        return Err(null(name));
    }
    if count > 0 && !values.is_aligned() {
        return Err(argument(format!("{name} does not begin at a multiple of {} bytes", align_of::<T>())));
    }
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(argument(format!("{name} can not have {count} values")));
    }
    Ok(count)
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        Failure { status: opening(&error), message: error.to_string() }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        use fewstep_status::*;
        let status = match &error {
            SessionError::Network(error) => match error {
                NetworkError::Open(error) => opening(error),
                NetworkError::NoPlan { .. } | NetworkError::Unsupported { .. } => FEWSTEP_UNSUPPORTED,
                NetworkError::Budget { .. } | NetworkError::Memory { .. } | NetworkError::Threads(_) => {
                    FEWSTEP_RESOURCES
                }
                _ => FEWSTEP_PLAN,
            },
            SessionError::NotFinite { .. } => FEWSTEP_NOT_FINITE,
            SessionError::Cancelled { .. } => FEWSTEP_CANCELLED,
            SessionError::Request(_)
            | SessionError::Condition(_)
            | SessionError::Unset { .. }
            | SessionError::NoNegative
            | SessionError::Length { .. }
            | SessionError::Infinite { .. } => FEWSTEP_ARGUMENT,
            _ => FEWSTEP_PLAN,
        };
        Failure { status, message: error.to_string() }
    }
}

fn opening(error: &OpenError) -> fewstep_status {
    match error {
        OpenError::Read { .. } => fewstep_status::FEWSTEP_FILE,
        OpenError::Lock { .. } => fewstep_status::FEWSTEP_RESOURCES,
        OpenError::Plan { .. } => fewstep_status::FEWSTEP_PLAN,
    }
}
