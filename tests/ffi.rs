//! The C interface: what goes wrong is a status and a message, and the header changes with its version.

mod common;
mod seeds;

use common::path;
use fewstep::ffi::fewstep_status::*;
use fewstep::ffi::*;
use fewstep::kernels::cpu;
use fewstep::provider::{Precision, Settings};
use fewstep::session::Session;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};
use tempfile::TempDir;
use twox_hash::XxHash3_64;

/// The digits network in a plan file.
fn digits(folder: &TempDir) -> CString {
    let file = folder.path().join("digits.fsp");
    let bytes = seeds::file(&seeds::package("models/digits", cpu::best().isa, &[Precision::F32]));
    std::fs::write(&file, bytes).expect("a file");
    CString::new(file.to_str().expect("a name")).expect("a name")
}

fn message() -> String {
    // SAFETY: a text of this thread, until its next failure.
    unsafe { CStr::from_ptr(fewstep_last_error()) }.to_str().expect("UTF-8").into()
}

fn open(file: &CStr) -> *mut fewstep_plan {
    let mut plan = null_mut();
    // SAFETY: a text, and a place for a plan.
    assert_eq!(unsafe { fewstep_plan_open(file.as_ptr(), &raw mut plan) }, FEWSTEP_OK, "{}", message());
    plan
}

const OPTIONS: fewstep_options = fewstep_options {
    threads: 1,
    steps: 0,
    sampler: null(),
    guidance: null(),
    seed: 3,
    precision: 0,
    prefault: 0,
    max_memory: 0,
};

fn session(plan: *const fewstep_plan) -> *mut fewstep_session {
    let (options, mut session) = (OPTIONS, null_mut());
    // SAFETY: an open plan, options, and a place for a session.
    let status = unsafe { fewstep_session_new(plan, &raw const options, &raw mut session) };
    assert_eq!(status, FEWSTEP_OK, "{}", message());
    session
}

#[test]
fn samples_are_those_of_the_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plan, label) = (open(&digits(&folder)), 7.0);
    let session = session(plan);
    // The session keeps what it needs of the plan.
    // SAFETY: each object is what its function makes, and there are as many values as are said.
    let found = unsafe {
        assert_eq!(fewstep_plan_verify(plan), FEWSTEP_OK);
        fewstep_plan_close(plan);
        assert_eq!(
            fewstep_session_set_condition(session, c"label".as_ptr(), &raw const label, 1),
            FEWSTEP_OK
        );
        let (mut dims, mut rank) = ([0; 4], 0);
        assert_eq!(fewstep_session_shape(session, dims.as_mut_ptr(), 4, &raw mut rank), FEWSTEP_OK);
        assert_eq!((&dims[..rank], fewstep_session_elements(session)), (&[1, 28, 28][..], 784));
        [(); 2].map(|()| {
            let mut out = [0f32; 784];
            assert_eq!(fewstep_session_sample(session, null(), out.as_mut_ptr(), 784), FEWSTEP_OK);
            out
        })
    };
    let settings = Settings { threads: 1, ..Settings::default() };
    let mut own = Session::open(&path("models/digits"), settings).expect("a session");
    own.set_condition("label", &[7.0]).expect("a label");
    for (i, found) in found.iter().enumerate() {
        let mut wanted = vec![0.0; 784];
        own.sample_from(&mut fewstep::sampler::TorchCpu::new(3 + i as u64), &mut wanted).expect("a sample");
        assert!(found[..] == wanted[..], "sample {i} differs");
    }
    // SAFETY: it is not used again.
    unsafe { fewstep_session_free(session) };
}

#[test]
fn noise_comes_from_the_caller_who_may_end_the_sample() {
    unsafe extern "C" fn after(
        user: *mut c_void,
        step: usize,
        steps: usize,
        clean: *const f32,
        count: usize,
    ) -> i32 {
        assert!(!clean.is_null() && count == 784);
        // SAFETY: what the test passes.
        unsafe { *user.cast::<(usize, usize)>() = (step, steps) };
        0
    }
    let folder = tempfile::tempdir().expect("a folder");
    let plan = open(&digits(&folder));
    let (session, label) = (session(plan), 2.0);
    let (noise, mut seen) = ([0.5f32; 784], (0usize, 0usize));
    let mut outs = [[0f32; 784]; 2];
    // SAFETY: as above.
    unsafe {
        fewstep_session_set_condition(session, c"label".as_ptr(), &raw const label, 1);
        for (seed, out) in outs.iter_mut().enumerate() {
            fewstep_session_set_seed(session, seed as u64);
            assert_eq!(fewstep_session_sample(session, noise.as_ptr(), out.as_mut_ptr(), 784), FEWSTEP_OK);
        }
        let (out, user) = (outs[0].as_mut_ptr(), (&raw mut seen).cast());
        let status = fewstep_session_sample_watched(session, null(), out, 784, Some(after), user);
        assert_eq!((status, message()), (FEWSTEP_CANCELLED, "stopped after step 1".into()));
        fewstep_session_free(session);
        fewstep_plan_close(plan);
    }
    // One step takes no other noise; and a sample that was ended leaves the output alone.
    assert_eq!((outs[0] == outs[1], seen.0), (true, 1));
}

#[test]
fn what_is_wrong_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = digits(&folder);
    let (mut plan, mut made) = (null_mut(), null_mut());
    let mut out = [0f32; 784];
    // SAFETY: null pointers and wrong lengths are what is tried; everything else is as it has to be.
    unsafe {
        assert_eq!(fewstep_plan_open(null(), &raw mut plan), FEWSTEP_ARGUMENT);
        assert_eq!(message(), "path is a null pointer");
        assert_eq!(fewstep_plan_open(file.as_ptr(), null_mut()), FEWSTEP_ARGUMENT);
        assert_eq!(fewstep_plan_open(c"\xff".as_ptr(), &raw mut plan), FEWSTEP_ARGUMENT);
        assert_eq!(fewstep_plan_open(c"not/here.fsp".as_ptr(), &raw mut plan), FEWSTEP_FILE);
        assert!(message().starts_with("not/here.fsp: cannot read the plan: "), "{}", message());
        let text = folder.path().join("text.fsp");
        std::fs::write(&text, "no plan").expect("a file");
        let text = CString::new(text.to_str().expect("a name")).expect("a name");
        assert_eq!(fewstep_plan_open(text.as_ptr(), &raw mut plan), FEWSTEP_PLAN);

        let plan = open(&file);
        assert_eq!(fewstep_session_new(null(), null(), &raw mut made), FEWSTEP_ARGUMENT);
        for (options, wanted, told) in [
            (fewstep_options { precision: 3, ..OPTIONS }, FEWSTEP_ARGUMENT, "options.precision is 3"),
            (fewstep_options { sampler: c"nothing".as_ptr(), ..OPTIONS }, FEWSTEP_ARGUMENT, "nothing"),
            (fewstep_options { steps: 1000, ..OPTIONS }, FEWSTEP_ARGUMENT, "1000"),
            (fewstep_options { precision: 1, ..OPTIONS }, FEWSTEP_UNSUPPORTED, "no plan for this CPU"),
        ] {
            let status = fewstep_session_new(plan, &raw const options, &raw mut made);
            assert_eq!((status, message().contains(told)), (wanted, true), "{}", message());
        }
        let (session, label) = (session(plan), 70.0);
        let sample = |out: &mut [f32]| fewstep_session_sample(session, null(), out.as_mut_ptr(), out.len());
        let set =
            |name: &CStr, values, count| fewstep_session_set_condition(session, name.as_ptr(), values, count);
        assert_eq!(set(c"label", &raw const label, 1), FEWSTEP_ARGUMENT);
        assert_eq!(set(c"colour", &raw const label, 1), FEWSTEP_ARGUMENT);
        assert_eq!(set(c"label", null(), 1), FEWSTEP_ARGUMENT);
        assert_eq!(set(c"label", &raw const label, usize::MAX), FEWSTEP_ARGUMENT);
        assert_eq!(set(c"label", (&raw const label).byte_add(1), 0), FEWSTEP_ARGUMENT);
        let label = 7.0;
        assert_eq!(set(c"label", &raw const label, 1), FEWSTEP_OK);
        assert_eq!(sample(&mut out[1..]), FEWSTEP_ARGUMENT);
        assert!(message().contains("783 values"), "{}", message());
        assert_eq!(sample(&mut out), FEWSTEP_OK);
        fewstep_session_free(session);
        fewstep_plan_close(plan);
        fewstep_session_free(null_mut());
        fewstep_plan_close(null_mut());
        assert_eq!((fewstep_session_elements(null()), fewstep_session_steps(null())), (0, 0));
    }
}

#[test]
fn a_changed_header_has_another_version() {
    let include = path("include");
    let read = |name| std::fs::read_to_string(include.join(name)).expect("a file");
    let hash = format!("{:016x}", XxHash3_64::oneshot(read("fewstep.h").as_bytes()));
    let versions = read("versions.txt");
    let rows = versions.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' '));
    let rows: Vec<(u32, &str)> =
        rows.map(|row| row.and_then(|(v, hash)| Some((v.parse().ok()?, hash))).expect("a row")).collect();
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "versions do not grow");
    assert_eq!(rows.last(), Some(&(FEWSTEP_ABI_VERSION, &hash[..])), "add a row, with the next version");
}
