//! What the engine evaluates of a network before a general runtime gets the rest: the stages that depend on times and
//! conditions alone. As in the engine they run when these change, and what they compute is kept for each time and condition.

use super::cached::add_files;
use super::external::{Element, Port, Ports};
use super::{Cpu, NetworkError, OnnxFile, Opening, Settings};
use crate::cache::{Cache, Key, KeyBuilder};
use crate::engine::EngineError;
use crate::graph::Binding;
use crate::kernels::{DType, cpu};
use crate::mapping::{self, Bytes};
use crate::onnx::{Cut, Header, cut, external_files};
use crate::plan::{Package, Plan, Recipe, Slots, VERSION, lower};
use std::format;
use std::fs;
use std::path::Path;
use std::vec::Vec;

/// Beyond this size a network is left as it is: to cut it, it is read whole.
const LARGEST: usize = 1 << 30;

/// What is in an entry of the cache; without them, the network is not to be cut.
const BEFORE: &str = "before.fsp";
const AFTER: &str = "after.onnx";

/// The engine, and how it is connected to the inputs of the rest.
#[derive(Debug)]
pub(super) struct Prelude {
    cpu: Cpu,
    /// For each input, the port that it is a copy of.
    inputs: Vec<Option<Source>>,
    /// The port of each output.
    outputs: Vec<usize>,
}

#[derive(Debug)]
struct Source {
    port: usize,
    /// Which of what was written to the port is here, for each condition.
    seen: Vec<u64>,
}

/// The network that is left.
pub(super) enum Rest {
    Mapped(Bytes),
    Made(Vec<u8>),
}

impl std::ops::Deref for Rest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Rest::Mapped(bytes) => bytes,
            Rest::Made(bytes) => bytes,
        }
    }
}

/// Cuts a network, or finds in the cache what has become of it. `None` if it is better left as it is.
pub(super) fn split(file: OnnxFile<'_>, opening: &Opening<'_>) -> Option<(Cpu, Rest)> {
    if opening.bindings.is_empty() || opening.settings.unstaged {
        return None;
    }
    let bytes = file.contents().ok().filter(|bytes| bytes.len() <= LARGEST)?;
    // A file of external data that can not be read, those speak of who need it.
    let entry = opening.cache.and_then(|cache| Some((cache, key(file.path, &bytes, opening, cache)?)));
    // One thread: what runs here is small, and the runtime has threads of its own.
    let settings = Settings { threads: 1, ..Settings::default() };
    if let Some(folder) = entry.as_ref().and_then(|(cache, key)| cache.find_folder(key)) {
        if !folder.join(AFTER).is_file() {
            return None;
        }
        let rest = mapping::map(&folder.join(AFTER)).ok().map(Rest::Mapped);
        let plan = Plan::open(folder.join(BEFORE)).ok();
        let cpu = plan.and_then(|plan| Cpu::open(&plan, settings).ok());
        if let Some(found) = cpu.zip(rest) {
            return Some(found);
        }
    }
    let bound = |name: &str| opening.binding(name);
    // What can not be cut here, the runtime may well take whole.
    let cut = cut(&bytes, file.path, opening.shapes, bound).ok().flatten();
    if let Some((cache, key)) = entry {
        // A full disk, or an operator that a plan can not hold, is no reason not to run.
        store(cache, &key, cut.as_ref());
    }
    let Cut { before, after } = cut?;
    Some((Cpu::compile(before, settings).ok()?, Rest::Made(after)))
}

fn key(path: &Path, bytes: &[u8], opening: &Opening<'_>, cache: &Cache) -> Option<Key> {
    let mut shapes: Vec<_> = opening.shapes.iter().collect();
    shapes.sort();
    let version = env!("CARGO_PKG_VERSION");
    let made = format!("split {VERSION} {version} {} {shapes:?} {:?}", cpu::best().isa, opening.bindings);
    let mut key = KeyBuilder::new();
    key.add(made.as_bytes()).add(bytes);
    add_files(&mut key, path, external_files(bytes).ok()?.iter().map(|file| &file[..]), cache)?;
    Some(key.key())
}

fn store(cache: &Cache, key: &Key, cut: Option<&Cut>) -> Option<()> {
    let draft = cache.draft().ok()?;
    if let Some(Cut { before, after }) = cut {
        let mut package = Package::default();
        let plan = lower(before, Recipe::new(cpu::best().isa), package.constants()).ok()?;
        package.add(plan).ok()?;
        package.write(&mut fs::File::create(draft.path().join(BEFORE)).ok()?).ok()?;
        fs::write(draft.path().join(AFTER), after).ok()?;
    }
    cache.remove(key).ok();
    cache.keep(key, draft).ok().map(drop)
}

impl Rest {
    /// The rest as a file whose name is that of the whole.
    pub(super) fn file<'a>(&'a self, path: &'a Path) -> OnnxFile<'a> {
        OnnxFile { path, bytes: Some(self) }
    }
}

impl Prelude {
    /// Connects the engine: `ports` are those of the whole network, to which come those that it hands on.
    pub(super) fn connect(
        cpu: Cpu,
        ports: &mut Vec<Port>,
        rest: &Header,
        opening: &Opening<'_>,
    ) -> Option<Prelude> {
        let of = |(name, _)| {
            let port = ports.iter().position(|port| port.name == name);
            port.filter(|_| opening.binding(name) != Binding::STATE)
                .map(|port| Source { port, seen: Vec::new() })
        };
        let inputs = cpu.inputs().map(of).collect();
        for port in ports.iter_mut() {
            port.handed = rest.inputs.iter().any(|input| input.name == port.name);
        }
        let mut outputs = Vec::new();
        for (name, fact) in cpu.outputs() {
            let declared = rest.inputs.iter().find(|input| input.name == name)?;
            let element = Element::of(declared.onnx_type)?;
            outputs.push(ports.len());
            let mut port = Port::new(name.into(), fact.shape, element);
            port.conditional = true;
            ports.push(port);
        }
        Some(Prelude { cpu, inputs, outputs })
    }

    /// The plan of what the engine evaluates.
    pub(super) fn plan(&self) -> Plan<'_> {
        self.cpu.plan()
    }

    pub(super) fn reserve(&mut self, slots: Slots) -> Result<(), NetworkError> {
        if self.cpu.reserve(slots)? {
            self.inputs.iter_mut().flatten().for_each(|source| source.seen.clear());
        }
        for source in self.inputs.iter_mut().flatten() {
            source.seen.resize(slots.conditions, 0);
        }
        Ok(())
    }

    pub(super) fn forget_times(&mut self) -> Result<(), EngineError> {
        self.cpu.forget_times()
    }

    /// Evaluates what has changed for the present condition, and hands it on.
    pub(super) fn run(&mut self, ports: &mut Ports) -> Result<(), EngineError> {
        let condition = ports.condition;
        self.cpu.select_condition(condition)?;
        let mut engine = self.cpu.engine()?;
        for (index, source) in self.inputs.iter_mut().enumerate() {
            let Some(Source { port, seen }) = source else { continue };
            let port = &mut ports.inputs[*port];
            let (written, values) = port.written(condition);
            // A condition that is written is computed anew; times are compared there.
            if seen.get(condition) != Some(&written) {
                engine.input_bytes(index)?.copy_from_slice(values);
                if let Some(seen) = seen.get_mut(condition) {
                    *seen = written;
                }
            }
        }
        self.cpu.run()?;
        let mut engine = self.cpu.engine()?;
        for (index, &port) in self.outputs.iter().enumerate() {
            let port = &mut ports.inputs[port];
            match port.element.dtype() {
                DType::F32 => port.write(condition, engine.output_f32(index)?),
                DType::I64 => port.write(condition, engine.output_i64(index)?),
                DType::Bool => port.write(condition, engine.output_bool(index)?),
            }
        }
        Ok(())
    }
}
