//! Networks in general runtimes, which read ONNX themselves: the memory of inputs and outputs, and what a runtime has to
//! do with it.

use super::prelude::{Prelude, split};
use super::{Assigned, NetworkError, Opening, Precision, Provider, ProviderError};
use crate::engine::EngineError;
use crate::files;
use crate::graph::Binding;
use crate::kernels::DType;
use crate::mapping::{self, Bytes, Scratch};
use crate::onnx::{Declared, Header, Model, OnnxError, concrete_shapes};
use crate::plan::{Fact, Plan, Slots};
use crate::sampler::Table;
use half::f16;
use std::boxed::Box;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::string::String;
use std::vec::Vec;
use std::{fmt, io};

/// An ONNX network, where a runtime finds it that reads it itself.
#[derive(Clone, Copy, Debug)]
pub struct OnnxFile<'a> {
    /// External data are beside it.
    pub path: &'a Path,
    /// Its contents, where they are not read from there.
    pub bytes: Option<&'a [u8]>,
}

impl OnnxFile<'_> {
    /// # Errors
    /// As [`Model::read`].
    pub fn read(&self) -> Result<Model, OnnxError> {
        match self.bytes {
            Some(bytes) => Model::parse(bytes, self.path, Some(self.folder())),
            None => Model::read(self.path),
        }
    }

    /// What the file declares, without its nodes and weights.
    ///
    /// # Errors
    /// If the file can not be read, or is not ONNX.
    pub fn header(&self) -> Result<Header, OnnxError> {
        Header::parse(&self.contents()?, self.path)
    }

    /// Where external data are.
    pub(super) fn folder(&self) -> &Path {
        files::folder(self.path)
    }

    /// # Errors
    /// If the file can not be read.
    pub(super) fn contents(&self) -> Result<impl Deref<Target = [u8]>, OnnxError> {
        let wrap = |source| OnnxError::Read { path: self.path.into(), source };
        Ok(match self.bytes {
            Some(bytes) => Contents::Given(bytes),
            None => Contents::Mapped(mapping::map(self.path).map_err(wrap)?),
        })
    }
}

enum Contents<'a> {
    Given(&'a [u8]),
    Mapped(Bytes),
}

impl Deref for Contents<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Contents::Given(bytes) => bytes,
            Contents::Mapped(bytes) => bytes,
        }
    }
}

/// The element types that a network's inputs and outputs may have there. Here they are f32, i64 or bool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    F64,
    I64,
    I32,
    Bool,
}

impl Element {
    /// ONNX's `TensorProto.DataType`; `None` for the types that no sampler fills.
    pub(super) fn of(onnx_type: i32) -> Option<Element> {
        Some(match onnx_type {
            1 => Element::F32,
            6 => Element::I32,
            7 => Element::I64,
            9 => Element::Bool,
            10 => Element::F16,
            11 => Element::F64,
            _ => return None,
        })
    }

    /// As [`Element::of`] reads it.
    #[cfg(feature = "ort")]
    pub(super) fn onnx_type(self) -> i32 {
        match self {
            Element::F32 => 1,
            Element::I32 => 6,
            Element::I64 => 7,
            Element::Bool => 9,
            Element::F16 => 10,
            Element::F64 => 11,
        }
    }

    pub(super) fn size(self) -> usize {
        match self {
            Element::Bool => 1,
            Element::F16 => 2,
            Element::F32 | Element::I32 => 4,
            Element::F64 | Element::I64 => 8,
        }
    }

    /// What the values are here.
    pub(super) fn dtype(self) -> DType {
        match self {
            Element::F32 | Element::F16 | Element::F64 => DType::F32,
            Element::I64 | Element::I32 => DType::I64,
            Element::Bool => DType::Bool,
        }
    }

    /// Whether the values are here what they are there.
    fn is_plain(self) -> bool {
        matches!(self, Element::F32 | Element::I64 | Element::Bool)
    }
}

/// Memory for elements, zeros at first, which begins where elements of any type may.
#[derive(Debug)]
pub(super) enum Elements {
    Ordinary(Scratch),
    /// The runtime's, for what goes to a device and comes back.
    #[cfg(feature = "ort")]
    PageLocked(super::ort::PageLocked),
}

impl Elements {
    /// # Errors
    /// If the system does not give them.
    pub(super) fn ordinary(bytes: usize) -> io::Result<Elements> {
        Ok(Elements::Ordinary(Scratch::new(bytes)?))
    }
}

impl Deref for Elements {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Elements::Ordinary(memory) => memory,
            #[cfg(feature = "ort")]
            Elements::PageLocked(memory) => memory,
        }
    }
}

impl DerefMut for Elements {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Elements::Ordinary(memory) => memory,
            #[cfg(feature = "ort")]
            Elements::PageLocked(memory) => memory,
        }
    }
}

/// An input or output: what it is, and where its elements are.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    /// Whether every condition has elements of its own.
    pub(super) conditional: bool,
    /// Whether it is one of the runtime's, and not of a prelude alone.
    pub(super) handed: bool,
    /// How often the elements have been written, once or once a condition.
    writes: Vec<u64>,
    /// The elements here, once or once a condition.
    values: Vec<Elements>,
    /// The elements as the network has them, where they are of another type there.
    converted: Vec<Elements>,
}

impl Port {
    pub(super) fn new(name: String, shape: Vec<usize>, element: Element) -> Port {
        Port {
            name,
            shape,
            element,
            conditional: false,
            handed: true,
            writes: Vec::new(),
            values: Vec::new(),
            converted: Vec::new(),
        }
    }

    /// Another of the same name, shape and type, without memory.
    pub(super) fn like(&self) -> Port {
        Port::new(self.name.clone(), self.shape.clone(), self.element)
    }

    pub(super) fn fact(&self) -> Fact {
        Fact::new(self.element.dtype(), &self.shape)
    }

    /// `bound` makes what the runtime is bound to.
    fn reserve(&mut self, conditions: usize, bound: &Allocate<'_>) -> Result<(), NetworkError> {
        let count = if self.conditional { conditions } else { 1 };
        let len: usize = self.shape.iter().product();
        let elements = |size: usize, allocate: &Allocate<'_>| {
            let bytes = len * size;
            let make = |_| allocate(bytes).map_err(|_| NetworkError::Memory { bytes });
            (0..count).map(make).collect::<Result<Vec<_>, _>>()
        };
        let bound = if self.handed { bound } else { &Elements::ordinary };
        let (here, there) = (self.element.dtype().size(), self.element.size());
        self.writes = std::vec![0; count];
        (self.values, self.converted) = match self.element.is_plain() {
            true => (elements(here, bound)?, Vec::new()),
            false => (elements(here, &Elements::ordinary)?, elements(there, bound)?),
        };
        Ok(())
    }

    /// The memory of the elements as the network has them, for a condition.
    pub(super) fn memory(&mut self, condition: usize) -> Option<&mut Elements> {
        let at = self.at(condition);
        let all = if self.element.is_plain() { &mut self.values } else { &mut self.converted };
        all.get_mut(at)
    }

    /// The elements as the network has them, for a condition.
    pub(super) fn bytes(&mut self, condition: usize) -> &mut [u8] {
        self.memory(condition).map(|memory| &mut memory[..]).unwrap_or_default()
    }

    fn at(&self, condition: usize) -> usize {
        if self.conditional { condition } else { 0 }
    }

    /// How often elements have been written, of all conditions.
    fn writes(&self) -> u64 {
        self.writes.iter().sum()
    }

    /// How often a condition's elements have been written, and what they are here.
    pub(super) fn written(&mut self, condition: usize) -> (u64, &[u8]) {
        let at = self.at(condition);
        let writes = self.writes.get(at).copied().unwrap_or_default();
        (writes, self.values.get(at).map(|memory| &memory[..]).unwrap_or_default())
    }

    /// Writes a condition's elements.
    pub(super) fn write<T: Plain>(&mut self, condition: usize, values: &[T]) {
        self.elements(condition).copy_from_slice(values);
    }

    /// A condition's elements as they are here, to be written.
    fn elements<T: Plain>(&mut self, condition: usize) -> &mut [T] {
        let at = self.at(condition);
        if let Some(writes) = self.writes.get_mut(at) {
            *writes += 1;
        }
        cast_mut(self.values.get_mut(at).map(|memory| &mut memory[..]).unwrap_or_default())
    }

    /// The elements here and there, if they are of other types there.
    fn pair(&mut self, condition: usize) -> Option<(&mut [u8], &mut [u8])> {
        let at = self.at(condition);
        Some((self.values.get_mut(at)?, self.converted.get_mut(at)?))
    }

    /// To the network's type.
    fn send(&mut self, condition: usize) {
        let element = self.element;
        let Some((here, there)) = self.pair(condition) else { return };
        match element {
            Element::F16 => {
                convert(cast::<f32>(here), cast_mut::<u16>(there), |x| f16::from_f32(x).to_bits())
            }
            Element::F64 => convert(cast::<f32>(here), cast_mut::<f64>(there), f64::from),
            Element::I32 => convert(cast::<i64>(here), cast_mut::<i32>(there), |x| {
                x.clamp(i32::MIN.into(), i32::MAX.into()) as i32
            }),
            Element::F32 | Element::I64 | Element::Bool => {}
        }
    }

    /// From the network's type.
    fn receive(&mut self, condition: usize) {
        let element = self.element;
        let Some((here, there)) = self.pair(condition) else { return };
        match element {
            Element::F16 => {
                convert(cast::<u16>(there), cast_mut::<f32>(here), |x| f16::from_bits(x).to_f32())
            }
            Element::F64 => convert(cast::<f64>(there), cast_mut::<f32>(here), |x| x as f32),
            Element::I32 => convert(cast::<i32>(there), cast_mut::<i64>(here), i64::from),
            Element::F32 | Element::I64 | Element::Bool => {}
        }
    }
}

fn convert<A: Copy, B>(from: &[A], to: &mut [B], value: impl Fn(A) -> B) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = value(from));
}

/// Types of which every pattern of bits is a value.
pub(super) trait Plain: Copy {
    const DTYPE: Option<DType>;
}

impl Plain for f32 {
    const DTYPE: Option<DType> = Some(DType::F32);
}
impl Plain for i64 {
    const DTYPE: Option<DType> = Some(DType::I64);
}
impl Plain for u8 {
    const DTYPE: Option<DType> = Some(DType::Bool);
}
impl Plain for u16 {
    const DTYPE: Option<DType> = None;
}
impl Plain for i32 {
    const DTYPE: Option<DType> = None;
}
impl Plain for f64 {
    const DTYPE: Option<DType> = None;
}

/// Memory as elements of a type. It begins where those of any type may, so that nothing is left out at its beginning.
fn cast<T: Plain>(bytes: &[u8]) -> &[T] {
    // SAFETY: every pattern of bits is a value of a plain type.
    unsafe { bytes.align_to::<T>().1 }
}

fn cast_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: as above, both ways.
    unsafe { bytes.align_to_mut::<T>().1 }
}

/// Makes memory of so many bytes.
type Allocate<'a> = dyn Fn(usize) -> io::Result<Elements> + 'a;

/// All inputs and outputs of a network.
#[derive(Debug)]
pub(super) struct Ports {
    /// Those of the network, and after them those that a prelude writes.
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    pub(super) conditions: usize,
    /// The present one.
    pub(super) condition: usize,
}

impl Ports {
    /// The inputs that a runtime has, in its order.
    pub(super) fn handed(&mut self) -> impl Iterator<Item = &mut Port> {
        self.inputs.iter_mut().filter(|port| port.handed)
    }

    pub(super) fn reserve(&mut self, conditions: usize, bound: &Allocate<'_>) -> Result<(), NetworkError> {
        let mut ports = self.inputs.iter_mut().chain(&mut self.outputs);
        ports.try_for_each(|port| port.reserve(conditions, bound))?;
        (self.conditions, self.condition) = (conditions, 0);
        Ok(())
    }
}

/// What a runtime that keeps a sampler's state has to know.
#[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "tract keeps none"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule<'a> {
    pub(crate) table: &'a Table,
    /// The number of the input and of the output of the state.
    pub(crate) state: usize,
    pub(crate) output: usize,
}

/// A runtime that keeps a sampler's state where the network is, and updates it there.
pub(super) trait Resident {
    /// Takes what the inputs hold, other than the state, for a step of all samples to come.
    fn fix(&mut self, ports: &mut Ports, step: usize) -> Result<(), ProviderError>;
    /// Begins a sample with the state before the first step, and with what the network reads for it.
    fn begin(&mut self, state: &[f32]) -> Result<(), ProviderError>;
    /// Evaluates the network, and takes a step with this noise.
    fn advance(&mut self, step: usize, noise: &[f32]) -> Result<(), ProviderError>;
    /// The state after the last step.
    fn end(&mut self, state: &mut [f32]) -> Result<(), ProviderError>;
}

/// A general runtime with a network in it.
pub(super) trait Runtime: fmt::Debug + Send {
    /// As `--provider` names it.
    fn provider(&self) -> &str;
    fn version(&self) -> &str;
    /// Where the nodes run, if the runtime says so.
    fn assignment(&self) -> &[Assigned];
    /// Memory for what it is to be bound to.
    fn elements(&self, bytes: usize) -> io::Result<Elements> {
        Elements::ordinary(bytes)
    }
    /// What all memory that it is bound to is called, if it says so.
    fn bound_memory(&self) -> Option<String> {
        None
    }
    /// Takes notice of where the elements are. They stay there until the next call.
    fn bind(&mut self, ports: &mut Ports) -> Result<(), ProviderError>;
    /// Evaluates the network for the present condition.
    fn run(&mut self, ports: &mut Ports) -> Result<(), ProviderError>;
    /// Prepares to keep the state of samples of a schedule, or not to do so any more.
    fn keep_state(&mut self, _: &mut Ports, _: Option<Schedule<'_>>) -> Result<(), ProviderError> {
        Ok(())
    }
    /// The runtime, if it keeps the state.
    fn resident(&mut self) -> Option<&mut dyn Resident> {
        None
    }
}

/// A network in a general runtime.
#[derive(Debug)]
pub(crate) struct External {
    /// Dropped before the memory that it knows of.
    runtime: Box<dyn Runtime>,
    /// What the engine evaluates before.
    prelude: Option<Prelude>,
    /// Number of inputs that are the network's own.
    inputs: usize,
    ports: Ports,
    /// How often conditions had been written when what the runtime keeps for each step was made of them.
    fixed: Option<u64>,
}

impl External {
    pub(super) fn open(
        provider: &Provider,
        file: super::OnnxFile<'_>,
        opening: &Opening<'_>,
    ) -> Result<External, NetworkError> {
        check(provider, opening)?;
        let header = file.header()?;
        let mut external = match External::staged(provider, file, inputs(&header, opening)?, opening) {
            Some(staged) => staged,
            None => {
                let inputs = inputs(&header, opening)?;
                let (runtime, outputs) = provider.runtime(file, &header, &inputs, opening)?;
                External::of(runtime, None, inputs.len(), inputs, outputs)
            }
        };
        external.reserve(Slots::ONE)?;
        Ok(external)
    }

    /// With a prelude, if the network can be cut, and the runtime takes what is left.
    fn staged(
        provider: &Provider,
        file: OnnxFile<'_>,
        mut ports: Vec<Port>,
        opening: &Opening<'_>,
    ) -> Option<External> {
        let own = ports.len();
        let (cpu, rest) = split(file, opening)?;
        let file = rest.file(file.path);
        let header = file.header().ok()?;
        let prelude = Prelude::connect(cpu, &mut ports, &header, opening)?;
        let handed = ports.iter().filter(|port| port.handed);
        let handed: Vec<Port> = handed.map(Port::like).collect();
        let in_order = header.inputs.iter().zip(&handed).all(|(input, port)| input.name == port.name);
        if !in_order || header.inputs.len() != handed.len() {
            return None;
        }
        let (runtime, outputs) = provider.runtime(file, &header, &handed, opening).ok()?;
        Some(External::of(runtime, Some(prelude), own, ports, outputs))
    }

    fn of(
        runtime: Box<dyn Runtime>,
        prelude: Option<Prelude>,
        own: usize,
        inputs: Vec<Port>,
        outputs: Vec<Port>,
    ) -> External {
        let ports = Ports { inputs, outputs, conditions: 0, condition: 0 };
        External { runtime, prelude, inputs: own, ports, fixed: None }
    }

    /// The plan of what the engine evaluates before the runtime, and the number of values that it hands on.
    pub(super) fn prelude(&self) -> Option<(Plan<'_>, usize)> {
        let handed = &self.ports.inputs[self.inputs..];
        let values = handed.iter().map(|port| port.fact().len()).sum();
        self.prelude.as_ref().map(|prelude| (prelude.plan(), values))
    }

    pub(super) fn provider(&self) -> &str {
        self.runtime.provider()
    }

    pub(super) fn version(&self) -> &str {
        self.runtime.version()
    }

    pub(super) fn assignment(&self) -> &[Assigned] {
        self.runtime.assignment()
    }

    pub(super) fn bound_memory(&self) -> Option<String> {
        self.runtime.bound_memory()
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        self.ports.inputs[..self.inputs].iter().map(|port| (&port.name[..], port.fact()))
    }

    pub(super) fn input_type(&self, index: usize) -> Option<DType> {
        self.ports.inputs[..self.inputs].get(index).map(|port| port.element.dtype())
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        self.ports.outputs.iter().map(|port| (&port.name[..], port.fact()))
    }

    pub(super) fn conditions(&self) -> usize {
        self.ports.conditions
    }

    pub(super) fn reserve(&mut self, slots: Slots) -> Result<bool, NetworkError> {
        let conditions = slots.conditions;
        self.prelude.as_mut().map_or(Ok(()), |prelude| prelude.reserve(slots))?;
        if conditions == self.ports.conditions {
            return Ok(false);
        }
        // When the old memory goes, nothing may know of it any more.
        self.ports.conditions = 0;
        self.runtime.bind(&mut self.ports)?;
        self.ports.reserve(conditions, &|bytes| self.runtime.elements(bytes))?;
        self.runtime.bind(&mut self.ports)?;
        Ok(true)
    }

    pub(super) fn forget_times(&mut self) -> Result<(), EngineError> {
        self.prelude.as_mut().map_or(Ok(()), Prelude::forget_times)
    }

    pub(super) fn select_condition(&mut self, condition: usize) -> Result<(), EngineError> {
        if condition >= self.ports.conditions {
            return Err(EngineError::NoPort { kind: "condition", index: condition });
        }
        self.ports.condition = condition;
        Ok(())
    }

    pub(super) fn input<T: Plain>(&mut self, index: usize) -> Result<&mut [T], EngineError> {
        values(&mut self.ports.inputs, "input", index, self.ports.condition)
    }

    pub(super) fn output<T: Plain>(&mut self, index: usize) -> Result<&[T], EngineError> {
        Ok(values(&mut self.ports.outputs, "output", index, self.ports.condition)?)
    }

    pub(super) fn run(&mut self) -> Result<(), NetworkError> {
        let condition = self.ports.condition;
        self.send()?;
        self.runtime.run(&mut self.ports)?;
        self.ports.outputs.iter_mut().for_each(|port| port.receive(condition));
        Ok(())
    }
}

/// Samples whose state the runtime keeps.
impl External {
    /// Evaluates what comes before the runtime, and converts its inputs.
    fn send(&mut self) -> Result<(), NetworkError> {
        let condition = self.ports.condition;
        if let Some(prelude) = &mut self.prelude {
            prelude.run(&mut self.ports)?;
        }
        self.ports.handed().for_each(|port| port.send(condition));
        Ok(())
    }

    /// Whether the runtime keeps the state of samples of this schedule from now on.
    pub(crate) fn keep_state(&mut self, schedule: Option<Schedule<'_>>) -> Result<bool, NetworkError> {
        self.fixed = None;
        self.runtime.keep_state(&mut self.ports, schedule)?;
        Ok(self.runtime.resident().is_some())
    }

    /// Whether what the runtime keeps for each step is that of the present conditions.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed == Some(self.conditions_written())
    }

    /// Whether all that the runtime is bound to is in page-locked memory.
    #[cfg(all(test, feature = "ort"))]
    pub(super) fn is_page_locked(&mut self) -> bool {
        let Ports { inputs, outputs, .. } = &mut self.ports;
        let mut bound = inputs.iter_mut().filter(|port| port.handed).chain(outputs);
        bound.all(|port| matches!(port.memory(0), Some(Elements::PageLocked(_))))
    }

    fn conditions_written(&self) -> u64 {
        self.ports.inputs[..self.inputs].iter().filter(|port| port.conditional).map(Port::writes).sum()
    }

    /// Has the runtime keep what the inputs hold for a step.
    pub(crate) fn fix(&mut self, step: usize) -> Result<(), NetworkError> {
        self.send()?;
        if let Some(resident) = self.runtime.resident() {
            resident.fix(&mut self.ports, step)?;
        }
        self.fixed = Some(self.conditions_written());
        Ok(())
    }

    pub(crate) fn begin(&mut self, state: &[f32]) -> Result<(), NetworkError> {
        Ok(self.runtime.resident().map_or(Ok(()), |resident| resident.begin(state))?)
    }

    pub(crate) fn advance(&mut self, step: usize, noise: &[f32]) -> Result<(), NetworkError> {
        Ok(self.runtime.resident().map_or(Ok(()), |resident| resident.advance(step, noise))?)
    }

    pub(crate) fn end(&mut self, state: &mut [f32]) -> Result<(), NetworkError> {
        Ok(self.runtime.resident().map_or(Ok(()), |resident| resident.end(state))?)
    }
}

/// That nothing is asked for which the engine alone can do.
fn check(provider: &Provider, opening: &Opening<'_>) -> Result<(), ProviderError> {
    let settings = opening.settings;
    let asked = [
        ("half precision", settings.precision == Precision::F16),
        ("a limit on memory", settings.max_memory.is_some()),
        ("weights in memory beforehand", settings.prefault),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(ProviderError::EngineOnly { what, provider: provider.name() }),
        None => Ok(()),
    }
}

/// The inputs of a network, at concrete shapes.
fn inputs(header: &Header, opening: &Opening<'_>) -> Result<Vec<Port>, NetworkError> {
    let shapes = concrete_shapes(&header.inputs, opening.shapes)?;
    let input = |(declared, shape): (&Declared, Vec<usize>)| {
        let onnx_type = declared.onnx_type;
        let wrong = || ProviderError::Type { input: declared.name.clone(), onnx_type };
        let element = Element::of(onnx_type).ok_or_else(wrong)?;
        let conditional = opening.binding(&declared.name) == Binding::CONDITION;
        Ok(Port { conditional, ..Port::new(declared.name.clone(), shape, element) })
    };
    header.inputs.iter().zip(shapes).map(input).collect()
}

fn values<'a, T: Plain>(
    ports: &'a mut [Port],
    kind: &'static str,
    index: usize,
    condition: usize,
) -> Result<&'a mut [T], EngineError> {
    let port = ports.get_mut(index).ok_or(EngineError::NoPort { kind, index })?;
    let found = port.element.dtype();
    match T::DTYPE {
        Some(wanted) if wanted != found => Err(EngineError::PortType { kind, index, found, wanted }),
        _ => Ok(port.elements(condition)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(element: Element, len: usize) -> Port {
        let mut port = Port::new("x".into(), std::vec![len], element);
        port.reserve(1, &Elements::ordinary).expect("memory");
        port
    }

    #[test]
    fn types_are_converted_both_ways() {
        for (element, tolerance) in [(Element::F16, 1e-3), (Element::F64, 0.0), (Element::F32, 0.0)] {
            let values = [1.0f32, -0.333, 65504.0];
            let mut ports = [port(element, 3)];
            super::values::<f32>(&mut ports, "input", 0, 0).expect("f32").copy_from_slice(&values);
            ports[0].send(0);
            assert_eq!(ports[0].bytes(0).len(), 3 * element.size());
            if !element.is_plain() {
                super::values::<f32>(&mut ports, "input", 0, 0).expect("f32").fill(0.0);
            }
            ports[0].receive(0);
            let found = super::values::<f32>(&mut ports, "input", 0, 0).expect("f32");
            for (found, value) in found.iter().zip(values) {
                assert!((*found - value).abs() <= tolerance * value.abs(), "{element:?}: {found}, {value}");
            }
        }
        let mut whole = [port(Element::I32, 2)];
        super::values::<i64>(&mut whole, "input", 0, 0).expect("i64").copy_from_slice(&[-7, i64::MAX]);
        whole[0].send(0);
        whole[0].receive(0);
        let found = super::values::<i64>(&mut whole, "input", 0, 0).expect("i64");
        assert_eq!(found, [-7, i32::MAX.into()]);
    }

    #[test]
    fn elements_have_their_type() {
        let mut ports = [port(Element::I64, 2)];
        assert!(matches!(
            super::values::<f32>(&mut ports, "input", 0, 0),
            Err(EngineError::PortType { found: DType::I64, wanted: DType::F32, .. })
        ));
        assert!(matches!(
            super::values::<f32>(&mut ports, "input", 1, 0),
            Err(EngineError::NoPort { index: 1, .. })
        ));
    }
}
