//! The step loop allocates nothing: 100 samples under an allocator that counts.

mod onnxruntime;

use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::Model;
use fewstep::plan::{Depth, Plan};
use fewstep::provider::ort::Choice;
use fewstep::provider::{NetworkError, OnnxFile, Precision, Provider, Settings};
use fewstep::sampler::TorchCpu;
use fewstep::session::{self, Control, Flow, Progress, Run, Session, SessionError};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Samples after which a thread pool has settled.
const WARM_UP: u64 = 20;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's contract is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn session(threads: usize, steps: usize, precision: Precision) -> Session {
    session_of("models/digits", Settings { threads, precision, ..Settings::default() }, steps)
}

fn session_of(folder: &str, settings: Settings, steps: usize) -> Session {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let manifest = Manifest::read(&folder).expect("the manifest");
    let model = Model::read(&manifest.network_path()).expect("the network");
    let mut session = Session::new(manifest, model, settings).expect("a session");
    session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("its steps");
    session
}

// One test, so that no other test allocates meanwhile.
#[test]
fn steps_allocate_nothing() {
    for precision in [Precision::F16, Precision::F32] {
        let mut session = session(1, 2, precision);
        let mut out = vec![0.0; session.elements()];
        let before = ALLOCATIONS.load(SeqCst);
        for seed in 0..100 {
            session.set_condition("label", &[(seed % 10) as f64]).expect("a class");
            session.sample_from(&mut TorchCpu::new(seed), &mut out).expect("a sample");
        }
        assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "allocations of 100 samples, {precision:?}");
    }
    // A controller's loop: another observation, then an action.
    let mut policy =
        session_of("tests/networks/policy_unet1d", Settings { threads: 1, ..Settings::default() }, 4);
    let mut action = vec![0.0; policy.elements()];
    let before = ALLOCATIONS.load(SeqCst);
    for seed in 0..100 {
        policy.set_condition("global_cond", &[seed as f64 * 0.01; 10]).expect("an observation");
        policy.sample_from(&mut TorchCpu::new(seed), &mut action).expect("an action");
    }
    assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "allocations of 100 actions");

    let mut paged = paged_session();
    let mut out = vec![0.0; paged.elements()];
    let before = ALLOCATIONS.load(SeqCst);
    for seed in 0..10 {
        paged.sample_from(&mut TorchCpu::new(seed), &mut out).expect("a sample");
    }
    assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "allocations of 10 samples whose weights come and go");

    let mut session_alone = session(1, 2, Precision::F32);
    let mut out = vec![0.0; session_alone.elements()];

    // Guidance, a mask and edits keep what they need.
    let apg =
        Request { guidance: Some(2.0), guidance_method: Some("apg"), steps: Some(2), ..Request::default() };
    session_alone.prepare(&apg).expect("guidance");
    session_alone.set_negative("label", &[0.0]).expect("a class");
    let (reference, mask) = (vec![0.5; out.len()], vec![0.0; out.len()]);
    for control in [Control::Keep { mask: &mask }, Control::Inpaint { mask: &mask }] {
        session_alone.set_reference(&reference, control).expect("a reference");
        let before = ALLOCATIONS.load(SeqCst);
        let mut after = |_: Progress<'_>| Flow::Continue;
        let run = Run { after: Some(&mut after), ..Run::default() };
        session_alone.sample_with(run, &mut TorchCpu::new(1), &mut out).expect("a sample");
        assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "allocations of a guided sample, {control:?}");
    }

    if let Some(library) = onnxruntime::library() {
        for resident in [false, true] {
            let (library, resident) = (Some(library.clone()), Some(resident));
            on_onnx_runtime(Provider::Ort(Choice { library, resident, ..Choice::default() }));
        }
    }

    // With threads, handing the loop to the pool may allocate now and then; a step may not.
    let mut session_pooled = session(2, 4, Precision::F32);
    let mut pooled = vec![0.0; session_pooled.elements()];
    for seed in 0..WARM_UP + 100 {
        let mut counts = Vec::with_capacity(8);
        let mut after = |_: Progress<'_>| {
            counts.push(ALLOCATIONS.load(SeqCst));
            Flow::Continue
        };
        let run = Run { after: Some(&mut after), ..Run::default() };
        session_pooled.sample_with(run, &mut TorchCpu::new(seed), &mut pooled).expect("a sample");
        // The pool's threads register with its queues when they first steal.
        if seed >= WARM_UP {
            assert_eq!(
                counts.first(),
                counts.last(),
                "allocations within the step loop on two threads, seed {seed}"
            );
        }
    }
}

/// A session in so little memory that not all weights of its plan file fit, where the system tells how much that is.
fn paged_session() -> Session {
    let manifest =
        Manifest::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits")).expect("the manifest");
    let model = Model::read(&manifest.network_path()).expect("the network");
    let here = Settings { threads: 1, ..Settings::default() };
    let package =
        session::package(&manifest, &model, &[Precision::F32], here, &Depth::ALL, None).expect("a plan");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    package.write(&mut file).expect("a plan file");
    let plan = Plan::open(file.path()).expect("a plan");
    let open = |max_memory| {
        Session::with_plan(manifest.clone(), &plan, Settings { max_memory: Some(max_memory), ..here })
    };
    let Err(SessionError::Network(NetworkError::Budget { least, .. })) = open(1) else { panic!("no budget") };
    open(least + (1 << 20)).expect("a session")
}

/// What ONNX Runtime allocates itself is no allocation of this program's.
fn on_onnx_runtime(provider: Provider) {
    let manifest = Manifest::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits"));
    let manifest = manifest.expect("the manifest");
    let network = manifest.network_path();
    let settings = Settings { threads: 1, ..Settings::default() };
    let file = OnnxFile { path: &network, bytes: None };
    let mut session = Session::on(&provider, manifest, file, settings, None).expect("a session");
    let guided = Request { guidance: Some(2.0), steps: Some(2), ..Request::default() };
    for request in [Request { steps: Some(2), ..Request::default() }, guided] {
        session.prepare(&request).expect("two steps");
        session.set_negative("label", &[0.0]).expect("a class");
        let mut out = vec![0.0; session.elements()];
        let before = ALLOCATIONS.load(SeqCst);
        for seed in 0..100 {
            session.set_condition("label", &[(seed % 10) as f64]).expect("a class");
            session.sample_from(&mut TorchCpu::new(seed), &mut out).expect("a sample");
        }
        assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "allocations of 100 samples on ONNX Runtime");
    }
}
