//! Guidance against diffusers' guiders: tests/golden/guidance/guidance.py.

use fewstep::manifest::Manifest;
use fewstep::sampler::{Guidance, Interval, Level, Method, Pass, Start};

const STEPS: usize = 5;
const LEVEL: Level = Level { alpha: 1.0, sigma: 1.0 };
/// Of results up to 20, in f32.
const TOLERANCE: f64 = 1e-5;

/// As guidance.py has it.
fn wave(draw: usize) -> [f32; 12] {
    std::array::from_fn(|j| (((draw * 12 + j) * 37 % 101) as f64 / 50.5 - 1.0) as f32)
}

fn manifest(guidance: &str) -> Result<Manifest, String> {
    let text = format!(
        "[model]\nname = \"m\"\nnetwork = \"m.onnx\"\n[inputs.x]\nrole = \"state\"\nshape = [12]\n[inputs.t]\nrole = \
         \"time\"\n[sampling]\nfamily = \"rectified-flow\"\nprediction = \"velocity\"\ntime = \"unit\"\n[guidance]\n\
         {guidance}\n[output]\nkind = \"tensor\"\n"
    );
    Manifest::parse(&text, "fewstep.toml").map_err(|error| error.to_string())
}

#[test]
fn agrees_with_diffusers() {
    let text = include_str!("golden/guidance/guidance.toml");
    let parsed: toml::Table = text.parse().expect("cases");
    let cases = parsed["case"].as_array().expect("cases");
    assert!(cases.len() > 15);
    for case in cases {
        let label = case["label"].as_str().expect("a label");
        let manifest = manifest(case["guidance"].as_str().expect("a table")).expect(label);
        let guidance = manifest.guidance.expect("guidance");
        let mut sum = vec![0.0; if guidance.remembers() { 12 } else { 0 }];
        for (step, expected) in case["results"].as_array().expect("results").iter().enumerate() {
            let mut c = wave(2 * step);
            match guidance.pass(step, STEPS, LEVEL) {
                Pass::Zero => c.fill(0.0),
                Pass::Conditional => {}
                Pass::Both => guidance.apply(&mut c, &wave(2 * step + 1), &mut sum).expect("slices"),
            }
            for (found, expected) in c.iter().zip(expected.as_array().expect("a row")) {
                let expected = expected.as_float().expect("a number");
                assert!(
                    (f64::from(*found) - expected).abs() < TOLERANCE,
                    "{label} {step}: {found} {expected}"
                );
            }
        }
    }
}

/// Guidance by no difference is none.
#[test]
fn equal_outputs_stay_as_they_are() {
    for (name, method) in Method::NAMED {
        let guidance = Guidance { method, scale: 4.0, rescale: 0.5, ..Guidance::default() };
        let (mut c, u) = (wave(3), wave(3));
        guidance.apply(&mut c, &u, &mut []).expect("slices");
        assert!(c.iter().zip(&u).all(|(c, u)| (c - u).abs() < 1e-5), "{name}");
    }
}

#[test]
fn the_scale_of_no_guidance_needs_one_evaluation() {
    let idle = Guidance::default();
    assert!(idle.is_idle());
    assert!(!Guidance { scale: 0.0, ..idle }.is_idle());
    assert!(Guidance { scale: 0.0, start: Start::Conditional, ..idle }.is_idle());
    let zeroes = Guidance { method: Method::ZeroStar { zero_steps: 1 }, ..idle };
    assert!(!zeroes.is_idle());
    assert_eq!([0, 1].map(|step| zeroes.pass(step, 4, LEVEL)), [Pass::Zero, Pass::Conditional]);
}

/// Kynkäänniemi et al.: the interval is open below and closed above.
#[test]
fn a_noise_level_may_decide() {
    let guidance = Guidance { scale: 2.0, interval: Interval::Noise([0.25, 0.5]), ..Guidance::default() };
    let pass = |sigma| guidance.pass(0, 1, Level { alpha: 1.0 - sigma, sigma });
    assert_eq!([0.6, 0.5, 0.3, 0.25].map(|sigma| pass(sigma) == Pass::Both), [false, true, true, false]);
}

#[test]
fn one_value_has_no_deviation_to_correct() {
    let mut c = [2.0];
    let guidance = Guidance { scale: 3.0, rescale: 1.0, ..Guidance::default() };
    guidance.apply(&mut c, &[1.0], &mut []).expect("slices");
    assert_eq!(c, [4.0]);
}

#[test]
fn nonsense_is_refused() {
    for (table, says) in [
        ("scale = inf", "guidance scale is inf: it must be finite"),
        ("scale = 2\nrescale = -0.5", "guidance rescale is -0.5: it must be from 0 to 1"),
        ("scale = 2\nrescale = 1.5", "guidance rescale is 1.5"),
        (
            "scale = 2\ninterval = [0.5, 1.5]",
            "guidance interval is 1.5: it must be [start, stop], from 0 to 1",
        ),
        ("scale = 2\ninterval = [-0.5, 0.5]", "guidance interval is -0.5"),
        ("scale = 2\ninterval = [0.5, 0.5]", "`guidance.interval`: write [smallest, largest]"),
        ("scale = 2\nnoise = [-1, 1]", "guidance noise is -1: it must be [low, high], not negative"),
        ("scale = 2\nnoise = [0.1, 1]\ninterval = [0, 1]", "`noise` has no meaning here"),
        ("scale = 2\nmethod = \"apg\"\nnorm = 0", "guidance norm is 0: it must be finite and above 0"),
        ("scale = 2\nmethod = \"apg\"\nmomentum = nan", "guidance momentum is NaN"),
        ("scale = 2\neta = 0.5", "`eta` has no meaning here: only the method apg has it"),
        ("scale = 2\nzero_steps = 1", "`zero_steps` has no meaning here"),
        ("scale = 2\nmethod = \"magic\"", "unknown variant"),
        ("method = \"cfg\"", "scale"),
        ("scale = 2\nnetwork = \"../weak.onnx\"", "inside the manifest's folder"),
    ] {
        let error = manifest(table).expect_err(table);
        assert!(error.contains(says), "{table}: {error}");
    }
    let apg = Guidance {
        method: Method::Projected { momentum: Some(0.5), norm: None, eta: 1.0 },
        ..Guidance::default()
    };
    assert!(apg.apply(&mut [0.0; 2], &[0.0; 3], &mut [0.0; 2]).is_err());
    assert!(apg.apply(&mut [0.0; 2], &[0.0; 2], &mut [0.0; 1]).is_err());
}
