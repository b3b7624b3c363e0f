//! Damaged plan files: each is refused or runs, and leaves all that is not its own as it was. Needs no compiler.
#![allow(dead_code)]

use fewstep::engine::Engine;
use fewstep::kernels::DType;
use fewstep::manifest::{Manifest, Request};
use fewstep::plan::{ALIGNMENT, File, Plan, PlanError, Slots, Stage};
use rkyv::util::AlignedVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use twox_hash::XxHash3_64;

/// Bytes of a plan file's head, and of an entry of the table behind it.
pub const HEAD: usize = 64;
pub const ENTRY: usize = 32;

/// Kinds of sections.
pub const MANIFEST: u32 = 1;
pub const PLAN: u32 = 3;
pub const WEIGHTS: u32 = 4;

/// Plans that want more memory are not tried.
const MEMORY: usize = 64 << 20;

/// Memory at the alignment that plans ask for, and not a byte more than it holds.
pub type Bytes = AlignedVec<ALIGNMENT>;

pub fn bytes(from: &[u8]) -> Bytes {
    let mut copy = Bytes::with_capacity(from.len());
    copy.extend_from_slice(from);
    copy
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An index, as often as its weight says.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = (self.next() >> 11) as f64 / (1u64 << 53) as f64 * weights.iter().sum::<f64>();
        let found = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        found.unwrap_or(0)
    }

    /// Below n, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A section of a plan file, as its table has it.
pub struct Section {
    pub kind: u32,
    pub contents: Range<usize>,
    /// Where its entry of the table is.
    entry: usize,
}

/// The sections that lie within the file.
pub fn sections(bytes: &[u8]) -> Vec<Section> {
    let count = u32::from_le_bytes(part(bytes, 12)) as usize;
    let entries = (0..count.min(1024)).map(|i| HEAD + i * ENTRY);
    let section = |entry: usize| {
        let number = |at| u64::from_le_bytes(part(bytes, entry + at)) as usize;
        let contents = number(8)..number(8).checked_add(number(16))?;
        bytes.get(contents.clone())?;
        Some(Section { kind: u32::from_le_bytes(part(bytes, entry)), contents, entry })
    };
    entries.filter_map(section).collect()
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).map_or([0; N], |part| part.try_into().expect("as many"))
}

/// Makes length and checksums what they would be if the file were meant to be as it is. Without that, nothing but the
/// checksums would ever be tested.
pub fn seal(bytes: &mut [u8]) {
    for section in sections(bytes).into_iter().filter(|section| section.kind != WEIGHTS) {
        let sum = XxHash3_64::oneshot(&bytes[section.contents]);
        put(bytes, section.entry + 24, &sum.to_le_bytes());
    }
    let table = HEAD..HEAD + u32::from_le_bytes(part(bytes, 12)) as usize * ENTRY;
    if let Some(sum) = bytes.get(table).map(XxHash3_64::oneshot) {
        put(bytes, 24, &sum.to_le_bytes());
    }
    put(bytes, 16, &(bytes.len() as u64).to_le_bytes());
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}

/// A damaged copy of a plan file, into which pieces of another one may have come.
pub fn damaged(whole: &[u8], other: &[u8], seed: u64) -> Bytes {
    let mut random = Random(seed);
    let mut bytes = bytes(whole);
    for _ in 0..random.below(4).max(1) {
        match random.below(24) {
            0 => bytes.resize(random.below(bytes.len()).max(1), 0),
            1 => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            2 => {
                let at = random.below((HEAD + 8 * ENTRY).min(bytes.len()));
                bytes[at] ^= 1 << random.below(8);
            }
            3 => damage_metadata(MANIFEST, &mut bytes, other, &mut random),
            _ => damage_metadata(PLAN, &mut bytes, other, &mut random),
        }
    }
    if random.below(16) > 0 {
        seal(&mut bytes);
    }
    bytes
}

/// Changes what is archived in one of the sections of a kind.
fn damage_metadata(kind: u32, bytes: &mut [u8], other: &[u8], random: &mut Random) {
    let section = |bytes: &[u8], random: &mut Random| {
        let mut all: Vec<_> = sections(bytes).into_iter().filter(|section| section.kind == kind).collect();
        let is_empty = all.is_empty();
        let section = (!is_empty).then(|| all.swap_remove(random.below(all.len())).contents);
        section.filter(|section| section.len() >= 64)
    };
    let Some(own) = section(bytes, random) else { return };
    // Most of what the metadata consist of are numbers of four bytes.
    let word = |all: &Range<usize>, random: &mut Random| all.start + random.below(all.len() / 4 - 15) * 4;
    let at = word(&own, random);
    match random.below(8) {
        0 => bytes[at + random.below(4)] ^= 1 << random.below(8),
        1 => bytes[at + random.below(4)] = random.next() as u8,
        2 => {
            let numbers = [0, 1, 2, 7, 255, 256, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX];
            put(bytes, at, &u32::to_le_bytes(numbers[random.below(numbers.len())]));
        }
        3 | 4 => {
            let number = u32::from_le_bytes(part(bytes, at));
            let near = [
                number.wrapping_add(1),
                number.wrapping_sub(1),
                number << 1,
                number >> 1,
                number ^ 4,
                number.wrapping_neg(),
            ];
            put(bytes, at, &near[random.below(near.len())].to_le_bytes());
        }
        5 | 6 => {
            let (from, len) = (word(&own, random), 4 << random.below(5));
            let piece = bytes[from..from + len].to_vec();
            put(bytes, at, &piece);
        }
        _ => {
            let Some(from) = section(other, random) else { return };
            let (from, len) = (word(&from, random), 4 << random.below(5));
            put(bytes, at, &other[from..from + len]);
        }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Refused(PlanError),
    /// All of its plans are sound, none can be tried here: they want much memory, or another CPU.
    Untried,
    Ran,
}

/// What became of many files.
#[derive(Debug, Default)]
pub struct Tally {
    pub refused: usize,
    pub untried: usize,
    pub ran: usize,
    /// How many were refused why.
    pub reasons: BTreeMap<String, usize>,
    pub slowest: Duration,
}

impl Tally {
    /// Tries a file, and counts it.
    pub fn count(&mut self, file: &[u8], guard: usize) {
        let start = Instant::now();
        match outcome(file, guard) {
            Outcome::Refused(error) => {
                self.refused += 1;
                *self.reasons.entry(reason(error)).or_default() += 1;
            }
            Outcome::Untried => self.untried += 1,
            Outcome::Ran => self.ran += 1,
        }
        self.slowest = self.slowest.max(start.elapsed());
    }
}

/// What is wrong, but not where.
fn reason(error: PlanError) -> String {
    match error {
        PlanError::Instruction { problem, .. } => format!("instruction: {problem}"),
        PlanError::Port { problem, .. } => format!("port: {problem}"),
        PlanError::Stages { problem } => format!("stages: {problem}"),
        PlanError::Length { .. } => "length".into(),
        PlanError::Version { .. } => "version".into(),
        other => format!("{other:?}"),
    }
}

/// Opens a file and runs its plans. Around the engine's memory are `guard` bytes that must stay as they are.
pub fn outcome(file: &[u8], guard: usize) -> Outcome {
    outcome_of_small(file, guard, u64::MAX)
}

/// The same without running plans that say they take more than so many operations.
pub fn outcome_of_small(file: &[u8], guard: usize, most: u64) -> Outcome {
    let plans: Result<Vec<Plan>, PlanError> = File::view(file).and_then(|file| file.plans().collect());
    let plans = match plans {
        Ok(plans) => plans,
        Err(error) => return Outcome::Refused(error),
    };
    for section in sections(file).into_iter().filter(|section| section.kind == MANIFEST) {
        // An error, or a manifest that can be sampled.
        if let Ok(manifest) = Manifest::from_archive(&bytes(&file[section.contents]), "damaged.fsp") {
            manifest.table(&Request::default()).expect("a table");
            let _ = manifest.guidance(&Request::default());
        }
    }
    let metadata = sections(file).into_iter().filter(|section| section.kind == PLAN);
    let mut ran = false;
    let small = |plan: &Plan| Stage::ALL.iter().all(|&stage| plan.cost(stage).flop <= most);
    for (plan, section) in plans.iter().zip(metadata).filter(|(plan, _)| small(plan)) {
        // In memory of their own, whose ends sanitizers watch.
        let (metadata, weights) = (bytes(&file[section.contents]), bytes(plan.weights()));
        ran |= run(&metadata, &weights, guard);
    }
    if ran { Outcome::Ran } else { Outcome::Untried }
}

/// Runs a sound plan if it can be tried.
fn run(metadata: &[u8], weights: &[u8], guard: usize) -> bool {
    let plan = Plan::of(metadata, weights).expect("a sound plan");
    look(&plan);
    let slots = Slots { times: 2, conditions: 1 };
    let Some(size) = plan.memory_bytes(slots).filter(|&size| size <= MEMORY) else { return false };
    let mut memory = bytes(&vec![0xA5; size + 2 * guard]);
    let Ok(mut engine) = Engine::new(plan, &mut memory[guard..guard + size]) else { return false };
    let mut random = Random(XxHash3_64::oneshot(metadata));
    write_inputs(&mut engine, &mut random);
    // It may fail, of an instruction that only a host can run.
    let _ = engine.run();
    if !plan.stage(Stage::StateCondition).is_empty() {
        let _ = engine.run_branch();
    }
    if random.below(4) == 0 {
        write_inputs(&mut engine, &mut random);
        let _ = engine.run();
    }
    read_outputs(&mut engine);
    let around = memory[..guard].iter().chain(&memory[guard + size..]);
    assert!(around.copied().all(|byte| byte == 0xA5), "written outside of the memory");
    true
}

/// All that can be asked of a plan.
fn look(plan: &Plan<'_>) {
    for i in 0..plan.len() {
        plan.instruction(i);
        plan.weights_of(i, &mut |range| assert!(plan.weights().get(range).is_some()));
    }
    for port in plan.inputs().chain(plan.outputs()) {
        plan.name(port);
        plan.view_at(port.view);
    }
}

/// Whatever inputs may hold.
fn write_inputs(engine: &mut Engine<'_>, random: &mut Random) {
    let types: Vec<_> = engine.plan().inputs().map(|port| engine.plan().view_at(port.view)).collect();
    for (i, view) in types.into_iter().enumerate() {
        match view.expect("a view").dtype {
            DType::F32 => {
                let odd = [f32::NAN, f32::INFINITY, -0.0, 1e30, f32::MIN_POSITIVE / 2.0];
                for x in engine.input_f32(i).expect("floats") {
                    let usual = (random.next() % 1024) as f32 / 256.0 - 2.0;
                    *x = if random.below(64) == 0 { odd[random.below(odd.len())] } else { usual };
                }
            }
            DType::I64 => {
                for x in engine.input_i64(i).expect("integers") {
                    *x = if random.below(4) == 0 { random.next() as i64 } else { random.below(4) as i64 };
                }
            }
            DType::Bool => {
                engine.input_bool(i).expect("truth values").fill_with(|| random.next() as u8);
            }
        }
    }
}

fn read_outputs(engine: &mut Engine<'_>) {
    let types: Vec<_> = engine.plan().outputs().map(|port| engine.plan().view_at(port.view)).collect();
    let mut sum = 0;
    for (i, view) in types.into_iter().enumerate() {
        sum += match view.expect("a view").dtype {
            DType::F32 => engine.output_f32(i).expect("floats").iter().map(|x| u64::from(x.to_bits())).max(),
            DType::I64 => engine.output_i64(i).expect("integers").iter().map(|&x| x as u64 >> 1).max(),
            DType::Bool => engine.output_bool(i).expect("truth values").iter().map(|&x| u64::from(x)).max(),
        }
        .unwrap_or(0)
            >> 8;
    }
    std::hint::black_box(sum);
}
