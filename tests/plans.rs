//! Plan files: what is written is what runs, and what is damaged is an error.

mod common;
mod corruption;
mod program;
mod seeds;

use common::path;
use corruption::{HEAD, Outcome, PLAN, Section, Tally, WEIGHTS, bytes, damaged, outcome, seal, sections};
use fewstep::kernels::{Isa, cpu};
use fewstep::manifest::{Manifest, Request, Role};
use fewstep::onnx::Model;
use fewstep::plan::{ALIGNMENT, Depth, OpenError, Plan, PlanError, PlanFile, Slots, VERSION};
use fewstep::provider::{Precision, Settings};
use fewstep::session::{self, Session, SessionError};
use program::{fewstep, program, try_fewstep};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BOTH: [Precision; 2] = [Precision::F32, Precision::F16];

/// The digits network, in f32.
fn digits() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| seeds::file(&seeds::package("models/digits", cpu::best().isa, &[Precision::F32])))
}

/// A network of 88 KB, in f32 and in half precision.
fn toy() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| seeds::file(&seeds::package("models/toy2d/ctm", cpu::best().isa, &BOTH)))
}

/// A file of these contents.
fn save(folder: &TempDir, contents: &[u8]) -> PathBuf {
    let path = folder.path().join("saved.fsp");
    std::fs::write(&path, contents).expect("a file");
    path
}

fn sample(mut session: Session, steps: usize) -> Vec<u32> {
    session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("steps");
    let mut sample = vec![0.0; session.elements()];
    session.sample(&mut sample).expect("a sample");
    sample.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_plan_samples_what_its_model_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases =
        [("models/digits", digits(), 1), ("models/digits", digits(), 3), ("models/toy2d/ctm", toy(), 2)];
    for (model, file, steps) in cases {
        let plan = Plan::open(save(&folder, file)).expect("a plan");
        plan.verify().expect("sound weights");
        for threads in [1, 2] {
            let settings = Settings { threads, ..Settings::default() };
            let own = Session::open(&path(model), settings).expect("a session");
            let from_plan = Session::builder().plan(&plan).threads(threads).build().expect("a session");
            assert_eq!(sample(from_plan, steps), sample(own, steps), "{model}");
        }
    }
}

/// To the rounding of other convolutions.
#[test]
fn a_plan_for_little_memory_samples_the_same_in_less() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { threads: 1, frugal: true, ..Settings::default() };
    let manifest = Manifest::read(path("models/digits")).expect("a manifest");
    let model = Model::read(&manifest.network_path()).expect("a model");
    let frugal = session::package(&manifest, &model, &[Precision::F32], settings, &Depth::ALL, None)
        .expect("a package");
    let other = tempfile::tempdir().expect("a folder");
    let files = [save(&folder, digits()), save(&other, &seeds::file(&frugal))];
    let plans = files.map(|file| Plan::open(file).expect("a plan"));
    let size = |plan: &PlanFile| {
        let plan = plan.plans().next().expect("a plan");
        (plan.arena_bytes(), plan.weights().len())
    };
    let [fast, little] = plans.each_ref().map(size);
    assert!(little.0 < fast.0 && little.1 < fast.1, "{little:?} bytes, not less than {fast:?}");
    let [fast, little] =
        plans.each_ref().map(|plan| sample(Session::builder().plan(plan).build().expect("a session"), 3));
    for (fast, little) in fast.into_iter().zip(little) {
        let (fast, little) = (f32::from_bits(fast), f32::from_bits(little));
        assert!((fast - little).abs() <= 1e-4, "{little} is not {fast}");
    }
}

#[test]
fn the_program_writes_the_same_file_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    // Hashes are seeded anew in every process, and so would be any order that came of them.
    let compile = |output: &str| {
        let model = path("models/toy2d/ctm");
        fewstep(&folder, &format!("compile {} --precision f32,f16 -o {output}", model.display()));
        std::fs::read(folder.path().join(output)).expect("a file")
    };
    let first = compile("first.fsp");
    assert!(first == compile("second.fsp"), "the second file differs");
    let origin = Plan::open(folder.path().join("first.fsp")).expect("a plan").origin().to_string();
    assert!(origin.starts_with("ctm.onnx ("), "{origin}");
}

#[test]
fn every_network_is_compiled_to_the_same_bytes_again() {
    for fixture in common::fixtures() {
        // A map that the compiler makes has another order each time, in one process too.
        let graph = || common::graph(fixture.model.clone(), &fixture.inputs).expect("a graph").optimized();
        let compile = || seeds::file(&seeds::both(&graph(), Isa::Portable));
        assert!(compile() == compile(), "{}", fixture.name);
    }
}

#[test]
fn plans_of_one_file_share_constants() {
    let of = |precisions: &[Precision]| {
        seeds::file(&seeds::package("models/toy2d/ctm", cpu::best().isa, precisions)).len()
    };
    let (single, half, both) = (of(&BOTH[..1]), of(&BOTH[1..]), toy().len());
    assert!(both < single + half, "{both} bytes, apart {single} and {half}");
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::open(save(&folder, toy())).expect("a plan");
    let halves: Vec<bool> = plan.plans().map(|plan| plan.halves() > 0).collect();
    assert_eq!(halves, [false, true]);
    for precision in BOTH {
        let session = Session::builder().plan(&plan).precision(precision).build().expect("a session");
        assert_eq!(session.network().precision(), if precision == Precision::F32 { "f32" } else { "f16" });
    }
}

#[test]
fn shapes_of_one_file_share_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = path("models/toy2d/untrained-t.onnx");
    let compile = |batches: &[usize]| {
        let shapes: String =
            batches.iter().map(|batch| format!(" --shape x={batch}x2 --shape t={batch}")).collect();
        fewstep(&folder, &format!("compile {} -o shapes.fsp{shapes}", network.display()));
        Plan::open(folder.path().join("shapes.fsp")).expect("a plan")
    };
    let size = |plan: &PlanFile| std::fs::metadata(plan.path()).expect("a file").len();
    let [one, seven] = [1, 7].map(|batch| size(&compile(&[batch])));
    let plan = compile(&[1, 7]);
    assert!(size(&plan) < one + seven, "{} bytes, apart {one} and {seven}", size(&plan));
    let states = plan.plans().map(|plan| {
        let port = plan.inputs().next().expect("an input");
        plan.view_at(port.view).expect("a view").layout.dim(0)
    });
    assert_eq!(states.collect::<Vec<_>>(), [1, 7]);
    // Nothing in it says how it is sampled.
    match Session::builder().plan(&plan).build() {
        Err(error @ SessionError::NoManifest(_)) => {
            let text = error.to_string();
            assert!(
                text.ends_with("the plan has no manifest; compile the model with a fewstep.toml beside it")
            );
        }
        other => panic!("{other:?}"),
    }
}

/// The error of a file, as the library and the program tell it.
fn refused(contents: &[u8]) -> PlanError {
    let folder = tempfile::tempdir().expect("a folder");
    let path = save(&folder, contents);
    let source = match Plan::open(&path) {
        Err(OpenError::Plan { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    let (code, printed) = try_fewstep(&folder, "sample saved.fsp -o sample.npy");
    assert_eq!((code, &*printed), (Some(1), &*format!("fewstep: error: saved.fsp: {source}\n")));
    source
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let file = toy();
    assert_eq!(refused(b"<html>404</html>"), PlanError::NotAPlan);
    assert_eq!(refused(&[0; 200]), PlanError::NotAPlan);
    assert_eq!(
        refused(&std::fs::read(path("models/toy2d/ctm/ctm.onnx")).expect("a file")),
        PlanError::NotAPlan
    );
    let change = |at: usize, seals: bool| {
        let mut changed = file.to_vec();
        changed[at] ^= 1;
        if seals {
            seal(&mut changed);
        }
        changed
    };
    assert_eq!(refused(&change(8, false)), PlanError::Version { found: VERSION ^ 1 });
    let length = file.len() as u64;
    assert_eq!(refused(&change(16, false)), PlanError::Length { needed: length ^ 1, found: length });
    let longer = [file, b"x"].concat();
    assert_eq!(refused(&longer), PlanError::Length { needed: length, found: length + 1 });
    for at in [12, 24, HEAD, HEAD + 8, HEAD + 31] {
        assert_eq!(refused(&change(at, false)), PlanError::Damaged { part: "table" }, "{at}");
    }
    let checked = |section: &&Section| section.kind != WEIGHTS && !section.contents.is_empty();
    for section in sections(file).iter().filter(checked) {
        for at in [section.contents.start, section.contents.end - 1] {
            assert_eq!(refused(&change(at, false)), PlanError::Damaged { part: "metadata" });
        }
    }
    let plan = sections(file).into_iter().find(|section| section.kind == PLAN).expect("a plan").contents;
    // The end of an archive says where the rest of it is.
    let mut malformed = file.to_vec();
    malformed[plan.end - 256..plan.end].fill(0x7F);
    seal(&mut malformed);
    assert_eq!(refused(&malformed), PlanError::Malformed);
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let file = toy();
    let step = (file.len() / 400).max(1);
    for len in (0..300).chain((300..file.len()).step_by(step)) {
        let mut cut = bytes(&file[..len]);
        let expected = match len {
            ..HEAD => PlanError::NotAPlan,
            _ => PlanError::Length { needed: file.len() as u64, found: len as u64 },
        };
        assert_eq!(outcome(&cut, 0), Outcome::Refused(expected), "{len}");
        // Whoever corrects the length still lacks what the table names.
        seal(&mut cut);
        assert!(matches!(outcome(&cut, 0), Outcome::Refused(_)), "{len}");
    }
}

#[test]
fn damaged_weights_are_found_when_they_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = toy().to_vec();
    let weights = sections(&file).into_iter().find(|s| s.kind == WEIGHTS).expect("weights").contents;
    for at in [weights.start, weights.end - 1] {
        file[at] ^= 1;
        let plan = Plan::open(save(&folder, &file)).expect("sound metadata");
        let expected = format!(
            "{}: the plan is damaged in its weights; copy it again, or compile the model again",
            plan.path().display()
        );
        assert_eq!(plan.verify().expect_err("damaged weights").to_string(), expected);
        file[at] ^= 1;
    }
}

#[test]
fn misaligned_bytes_are_refused() {
    let mut shifted = bytes(&[0; 1]);
    shifted.extend_from_slice(toy());
    // Where the archive's own alignment is missed, that is what is found first.
    let expected = [(1, PlanError::Misaligned), (ALIGNMENT / 2, PlanError::Misaligned)];
    for (shift, error) in expected {
        let mut moved = bytes(&vec![0; shift]);
        moved.extend_from_slice(toy());
        assert_eq!(Plan::view(&moved[shift..]).err(), Some(error));
    }
    assert!(Plan::view(&bytes(toy())).is_ok());
}

#[test]
fn a_plan_for_another_cpu_or_another_precision_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let foreign = if cfg!(target_arch = "x86_64") { Isa::ArmNeon } else { Isa::X86Avx2 };
    let model = path("models/toy2d/ctm");
    fewstep(&folder, &format!("compile {} -o foreign.fsp --target {foreign}", model.display()));
    let (code, printed) = try_fewstep(&folder, "sample foreign.fsp -o sample.npy");
    assert_eq!(code, Some(1));
    let expected = format!(
        "foreign.fsp: the file has no plan for this CPU and these settings, only {foreign} in f32; \
         compile the model for them\n"
    );
    assert!(printed.ends_with(&expected), "{printed}");
    // Those that only look may look.
    let plan = Plan::open(folder.path().join("foreign.fsp")).expect("a plan");
    plan.verify().expect("sound weights");
    let mut memory = common::Arena::new(1 << 20);
    let engine = fewstep::engine::Engine::new(plan.plans().next().expect("a plan"), memory.bytes());
    let error = engine.err().expect("no engine").to_string();
    assert!(
        error.starts_with(&format!("the plan is made for {foreign}, which this CPU or this program lacks"))
    );

    let plan = Plan::open(save(&folder, digits())).expect("a plan");
    let error = Session::builder().plan(&plan).precision(Precision::F16).build().expect_err("no such plan");
    let expected = format!(
        "has no plan for this CPU and these settings, only {} in f32; compile the model for them",
        cpu::best().isa
    );
    assert!(error.to_string().ends_with(&expected), "{error}");
}

/// Damaged copies of each file here; tests/corrupt.sh has many more, of more files.
const COPIES: u64 = 600;

/// Nothing that is tried takes longer: a plan says what it costs, and does not get to take more.
const SLOWEST: Duration = Duration::from_secs(5);

#[test]
fn a_damaged_plan_is_refused_or_stays_inside_of_its_memory() {
    let mut files: Vec<Vec<u8>> = vec![toy().to_vec()];
    for isa in seeds::isas() {
        files.push(seeds::file(&seeds::both(&seeds::instructions(), isa)));
    }
    let mut tally = Tally::default();
    for (i, file) in files.iter().enumerate() {
        assert_eq!(outcome(&bytes(file), 4096), Outcome::Ran, "the whole file {i}");
        for seed in 0..COPIES {
            tally.count(&damaged(file, &files[(i + 1) % files.len()], seed), 4096);
        }
    }
    println!("{tally:?}");
    assert!(tally.slowest < SLOWEST, "{tally:?}");
    assert!(tally.refused > 400 && tally.ran > 200, "{tally:?}: the test tests nothing");
}

/// A file that opens may hold anything, and a session on it errs or samples.
#[test]
fn a_session_on_a_damaged_plan_errs_or_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut refused, mut erred, mut sampled) = (0, 0, 0);
    for seed in 0..COPIES {
        let Ok(plan) = Plan::open(save(&folder, &damaged(toy(), toy(), seed))) else {
            refused += 1;
            continue;
        };
        let small =
            plan.plans().all(|plan| plan.memory_bytes(Slots::ONE).is_some_and(|bytes| bytes < 64 << 20));
        let Ok(mut session) = Session::builder().plan(&plan).threads(1).build() else {
            erred += 1;
            continue;
        };
        if small {
            let mut sample = vec![0.0; session.elements()];
            sampled += usize::from(session.sample(&mut sample).is_ok());
        }
    }
    assert!(refused > 50 && sampled > 50, "{refused} refused, {erred} erred, {sampled} sampled");
}

#[test]
fn a_manifest_of_another_state_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::open(save(&folder, digits())).expect("a plan");
    let mut manifest = Session::manifest_of(&plan).expect("a manifest").expect("one");
    for input in &mut manifest.inputs {
        if let Role::State { shape } = &mut input.role {
            *shape = vec![1, 28, 14];
        }
    }
    let error = Session::with_plan(manifest, &plan, Settings::default()).expect_err("another state");
    assert!(error.to_string().contains("the manifest gives shape [1, 28, 14] a sample"), "{error}");
}

/// Kills of the program while it compiles, at moments of its whole run.
const KILLS: u32 = 200;

#[test]
fn a_killed_compile_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = path("models/toy2d/ctm");
    let compile = |precision: &str| {
        let mut command = program();
        command.arg("compile").arg(&model).args(["-o", "plan.fsp", "--precision", precision]);
        command.current_dir(folder.path()).stdout(Stdio::null());
        command.spawn().expect("the program")
    };
    let file = folder.path().join("plan.fsp");
    // Two files that take turns, each of which a killed run may leave.
    let mut whole = Vec::new();
    let mut times = Vec::new();
    for precision in ["f32", "f16"] {
        let time = |_| {
            let start = Instant::now();
            assert!(compile(precision).wait().expect("an end").success());
            start.elapsed()
        };
        times.extend((0..3).map(time).min());
        whole.push(std::fs::read(&file).expect("a file"));
    }
    std::fs::remove_file(&file).expect("the file");
    let (mut killed, mut absent, mut found) = (0, 0, [0, 0]);
    for run in 0.. {
        assert!(run < 5 * KILLS, "{killed} of {run} were killed: the test tests nothing");
        if killed == KILLS {
            break;
        }
        let which = run as usize % 2;
        let mut process = compile(["f32", "f16"][which]);
        // A golden ratio's multiples: spread over the run, in no order.
        std::thread::sleep(times[which].mul_f64(f64::from(run) * 0.618_034 % 1.0));
        process.kill().expect("a kill");
        killed += u32::from(!process.wait().expect("an end").success());
        match std::fs::read(&file) {
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                assert_eq!(found, [0, 0], "there was a file before");
                absent += 1;
            }
            Ok(contents) => {
                let which = whole.iter().position(|whole| *whole == contents);
                found[which.expect("one of the whole files")] += 1;
                Plan::open(&file).expect("a plan").verify().expect("sound weights");
            }
        }
    }
    println!("{killed} kills: {absent} times no file, {found:?} times one of the whole ones");
    // Each run has removed what the one before it left.
    assert!(left_behind(folder.path()) <= 1);
    assert!(compile("f32").wait().expect("an end").success());
    assert_eq!(left_behind(folder.path()), 0);
    assert!(found.iter().all(|&count| count > 0), "{found:?}: the test tests nothing");
}

fn left_behind(folder: &Path) -> usize {
    let names =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name != "plan.fsp").count()
}

/// Writes the files that tests/corrupt.sh damages, and with which fuzz/run.sh begins.
#[test]
#[ignore = "writes files into FEWSTEP_SEEDS"]
fn write_seeds() {
    let folder = PathBuf::from(std::env::var_os("FEWSTEP_SEEDS").expect("FEWSTEP_SEEDS: a folder"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, file) in seeds::all() {
        std::fs::write(folder.join(format!("{name}.fsp")), file).expect("a file");
    }
}

/// Writes bundles of those files, with which fuzz/run.sh begins.
#[test]
#[ignore = "writes files into FEWSTEP_SEEDS"]
fn write_bundle_seeds() {
    let folder = PathBuf::from(std::env::var_os("FEWSTEP_SEEDS").expect("FEWSTEP_SEEDS: a folder"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let seeds = seeds::all();
    for (i, pair) in seeds.chunks(2).enumerate() {
        let plans = pair.iter().map(|(name, file)| (format!("{name}/network"), &file[..]));
        let files = plans.chain([("model_index.json".to_string(), &b"{}"[..])]).collect();
        let mut out = std::fs::File::create(folder.join(format!("{i}.fsp"))).expect("a file");
        fewstep::plan::write_bundle(&files, false, &mut out).expect("room");
    }
}
