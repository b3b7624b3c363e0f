//! Plans that one computer makes sample on another what the first one draws: tests/emulated.sh has a computer of another
//! architecture do it. Not run without its folder.
#![cfg(feature = "compile")]

mod common;
mod seeds;

use fewstep::kernels::Isa;
use fewstep::plan::Plan;
use fewstep::provider::{Precision, Settings};
use fewstep::session::Session;
use std::path::{Path, PathBuf};

const MODELS: [&str; 2] = ["digits", "terrain"];

/// What ARM computes in, and how far a sample may be from what this computer draws in f32: the largest difference over the
/// samples' range.
const TARGETS: [(Isa, Precision, f32); 2] =
    [(Isa::ArmNeon, Precision::F32, 1e-4), (Isa::ArmFp16, Precision::F16, 2e-2)];

/// Where the plans and the samples are.
fn folder() -> PathBuf {
    std::env::var_os("FEWSTEP_ELSEWHERE").expect("FEWSTEP_ELSEWHERE: a folder").into()
}

fn plan_path(folder: &Path, model: &str, isa: Isa) -> PathBuf {
    folder.join(format!("{model}-{isa}.fsp"))
}

fn sample(mut session: Session) -> Vec<f32> {
    let mut sample = vec![0.0; session.elements()];
    session.sample(&mut sample).expect("a sample");
    sample
}

#[test]
#[ignore = "writes files into FEWSTEP_ELSEWHERE"]
fn write_plans_and_samples() {
    for model in MODELS {
        let of = format!("models/{model}");
        let session = Session::open(&common::path(&of), Settings::default()).expect("a session");
        let sample: Vec<u8> = sample(session).iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder().join(model), sample).expect("a file");
        for (isa, precision, _) in TARGETS {
            let plan = seeds::file(&seeds::package(&of, isa, &[precision]));
            std::fs::write(plan_path(&folder(), model, isa), plan).expect("a file");
        }
    }
}

#[test]
#[ignore = "reads files of FEWSTEP_ELSEWHERE"]
fn samples_are_what_the_other_computer_draws() {
    // The best that this CPU has, and no other: each takes long in an emulator.
    let best = fewstep::kernels::cpu::best().isa;
    let (isa, precision, tolerance) =
        TARGETS.into_iter().find(|(isa, ..)| *isa == best).expect("a plan for this CPU");
    for model in MODELS {
        let bytes = std::fs::read(folder().join(model)).expect("a sample");
        let wanted: Vec<f32> = bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let plan = Plan::open(plan_path(&folder(), model, isa)).expect("a plan");
        let session = Session::builder().plan(&plan).precision(precision).build().expect("a session");
        let found = sample(session);
        let (low, high) = wanted.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        assert_eq!(found.len(), wanted.len());
        let off = wanted.iter().zip(&found).fold(0f32, |most, (w, f)| most.max((w - f).abs())) / (high - low);
        println!("{model}, {isa}: off by {off:.2e} of the range");
        // Whatever is not a number is over any tolerance.
        assert!(off <= tolerance && found.iter().all(|x| x.is_finite()), "{model}, {isa}: {off}");
    }
}
