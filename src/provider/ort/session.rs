//! A network in a session of ONNX Runtime, which reads and writes our memory: a step allocates nothing here.

use super::Choice;
use super::api::{OrtError, Owned, check, text};
use super::library::Library;
use super::open::Opened;
use super::page_locked::Allocator;
use super::resident::KeptState;
use crate::onnx::{Declared, Header};
use crate::provider::external::{Element, Elements, Port, Ports, Resident, Runtime, Schedule};
use crate::provider::{Assigned, ProviderError};
use ort_sys::{
    ONNXTensorElementDataType as ElementType, OrtAllocatorType, OrtApi, OrtIoBinding, OrtMemType,
    OrtMemoryInfo, OrtRunOptions, OrtSession, OrtTensorTypeAndShapeInfo, OrtTypeInfo, OrtValue,
};
use std::ffi::CString;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use std::{format, io, ptr};

/// Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Session {
    /// Of samples whose state stays here.
    pub(super) kept: Option<KeptState>,
    /// One for each condition.
    bindings: Vec<Binding>,
    /// Of memory for what is bound, where the provider has its own.
    page_locked: Option<Arc<Allocator>>,
    pub(super) session: Arc<Owned<OrtSession>>,
    memory: Owned<OrtMemoryInfo>,
    pub(super) library: Library,
    pub(super) inputs: Vec<CString>,
    pub(super) outputs: Vec<CString>,
    assignment: Vec<Assigned>,
    name: String,
    pub(super) choice: Choice,
    pub(super) threads: usize,
    /// Whether binding an input copies it, so that a run does not see what was written since.
    copies: bool,
    /// Of runs that capture no graph, where the provider would.
    plain: Option<Owned<OrtRunOptions>>,
    /// How many graphs were asked for: each has a number of its own.
    pub(super) graphs: usize,
}

/// Where a condition's inputs are read and its outputs written.
#[derive(Debug)]
struct Binding {
    io: Owned<OrtIoBinding>,
    inputs: Vec<Owned<OrtValue>>,
    outputs: Vec<Owned<OrtValue>>,
}

impl Session {
    /// A network that was opened, and what its outputs are.
    pub(super) fn new(
        opened: Opened,
        header: &Header,
        inputs: &[Port],
    ) -> Result<(Session, Vec<Port>), OrtError> {
        let Opened { session, library, assignment, choice, threads } = opened;
        let names = |declared: &[Declared]| -> Result<Vec<CString>, OrtError> {
            declared.iter().map(|own| Ok(CString::new(own.name.as_str())?)).collect()
        };
        let mut session = Session {
            kept: None,
            bindings: Vec::new(),
            page_locked: None,
            session: Arc::new(session),
            memory: host_memory(library.api)?,
            inputs: names(&header.inputs)?,
            outputs: names(&header.outputs)?,
            library,
            assignment,
            name: choice.name(),
            choice,
            threads,
            copies: true,
            plain: None,
            graphs: 0,
        };
        session.plain = session.run_options(NO_GRAPH)?;
        session.page_locked = session.allocator()?;
        // What is page-locked counts as the device's, and is copied to where the CPU reads it as well.
        session.copies = session.page_locked.is_some() || !session.reads_here()?;
        let outputs = session.describe(header, inputs)?;
        Ok((session, outputs))
    }
}

/// The number of no graph.
const NO_GRAPH: i32 = -1;

fn host_memory(api: &'static OrtApi) -> Result<Owned<OrtMemoryInfo>, OrtError> {
    Owned::new(api, api.ReleaseMemoryInfo, |out| {
        let (device, kind) = (OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault);
        // SAFETY: `out` is writable.
        unsafe { (api.CreateCpuMemoryInfo)(device, kind, out) }
    })
}

impl Session {
    pub(super) fn api(&self) -> &'static OrtApi {
        self.library.api
    }

    /// The allocator of page-locked memory, if there is such for what goes to the device.
    fn allocator(&self) -> Result<Option<Arc<Allocator>>, OrtError> {
        let Some(name) = self.choice.ep.page_locked else { return Ok(None) };
        let memories = self.input_memories()?;
        let there = memories.iter().find(|&&memory| !self.is_host(memory)).or(memories.first());
        Ok(there.and_then(|&memory| Allocator::beside(memory, name, &self.session, &self.library)))
    }

    /// Whether the provider reads all inputs in plain memory of the CPU. A plugin may have memory of its own although its
    /// device is the CPU.
    fn reads_here(&self) -> Result<bool, OrtError> {
        for memory in self.input_memories()? {
            let mut kind = OrtMemType::OrtMemTypeDefault;
            // SAFETY: the information is the session's, and `kind` is writable.
            check(self.api(), unsafe { (self.api().MemoryInfoGetMemType)(memory, &raw mut kind) })?;
            if !self.is_host(memory) || kind != OrtMemType::OrtMemTypeDefault {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the outputs are. Where the file and the library leave a shape open, an evaluation shows it.
    fn describe(&mut self, header: &Header, inputs: &[Port]) -> Result<Vec<Port>, OrtError> {
        let declared = |index: usize| {
            let info: Owned<OrtTypeInfo> = Owned::new(self.api(), self.api().ReleaseTypeInfo, |out| {
                // SAFETY: the session is alive, `out` is writable.
                unsafe { (self.api().SessionGetOutputTypeInfo)(self.session.ptr, index, out) }
            })?;
            let mut tensor = ptr::null();
            // SAFETY: the information is alive, and owns what is written.
            check(self.api(), unsafe { (self.api().CastTypeInfoToTensorInfo)(info.ptr, &raw mut tensor) })?;
            if tensor.is_null() {
                return Err(OrtError(format!("output {} is no tensor", header.outputs[index].name)));
            }
            self.tensor(tensor)
        };
        let found = (0..header.outputs.len()).map(declared).collect::<Result<Vec<_>, _>>()?;
        let open = |(_, shape): &(i32, Vec<i64>)| shape.iter().any(|&size| size < 0);
        let found = if found.iter().any(open) { self.evaluated(inputs)? } else { found };
        let port = |(declared, (onnx_type, shape)): (&Declared, (i32, Vec<i64>))| {
            let wrong = || OrtError(format!("output {} has ONNX type {onnx_type}", declared.name));
            let element = Element::of(onnx_type).ok_or_else(wrong)?;
            let shape = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(0)).collect();
            Ok(Port::new(declared.name.clone(), shape, element))
        };
        header.outputs.iter().zip(found).map(port).collect()
    }

    /// ONNX type and shape of a tensor.
    fn tensor(&self, info: *const OrtTensorTypeAndShapeInfo) -> Result<(i32, Vec<i64>), OrtError> {
        let mut element = ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let mut rank = 0;
        // SAFETY: the information is alive, what is written to is writable.
        unsafe {
            check(self.api(), (self.api().GetTensorElementType)(info, &raw mut element))?;
            check(self.api(), (self.api().GetDimensionsCount)(info, &raw mut rank))?;
        }
        let mut shape = std::vec![0; rank];
        // SAFETY: as above, and there is room for so many.
        check(self.api(), unsafe { (self.api().GetDimensions)(info, shape.as_mut_ptr(), rank) })?;
        // ONNX and ONNX Runtime number the types alike.
        Ok((element as i32, shape))
    }

    /// Types and shapes of the outputs of an evaluation, of zeros.
    fn evaluated(&mut self, inputs: &[Port]) -> Result<Vec<(i32, Vec<i64>)>, OrtError> {
        let api = self.api();
        let mut ports = Ports {
            inputs: inputs.iter().map(Port::like).collect(),
            outputs: Vec::new(),
            conditions: 1,
            condition: 0,
        };
        let reserved = ports.reserve(1, &|bytes| self.elements(bytes));
        reserved.map_err(|error| OrtError(error.to_string()))?;
        let binding = self.binding(&mut ports, 0)?;
        for name in &self.outputs {
            // SAFETY: binding, string and information are alive.
            let status = unsafe { (api.BindOutputToDevice)(binding.io.ptr, name.as_ptr(), self.memory.ptr) };
            check(api, status)?;
        }
        self.run_bound(&self.session, self.plain.as_ref(), &binding.io)?;
        let mut allocator = ptr::null_mut();
        let (mut values, mut count) = (ptr::null_mut(), 0);
        // SAFETY: the binding is alive, what is written to is writable; the default allocator is not released.
        unsafe {
            check(api, (api.GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
            let status =
                (api.GetBoundOutputValues)(binding.io.ptr, allocator, &raw mut values, &raw mut count);
            check(api, status)?;
        }
        // SAFETY: the library gives so many values, which are ours to release.
        let own = |i| Owned::from(unsafe { *values.add(i) }, api.ReleaseValue);
        let outputs: Vec<Owned<OrtValue>> = (0..count).map(own).collect();
        // SAFETY: the array is of this allocator, and not used again.
        check(api, unsafe { (api.AllocatorFree)(allocator, values.cast()) })?;
        let shape = |value: &Owned<OrtValue>| {
            let info: Owned<OrtTensorTypeAndShapeInfo> =
                Owned::new(api, api.ReleaseTensorTypeAndShapeInfo, |out| {
                    // SAFETY: the value is alive, `out` is writable.
                    unsafe { (api.GetTensorTypeAndShape)(value.ptr, out) }
                })?;
            self.tensor(info.ptr)
        };
        outputs.iter().map(shape).collect()
    }

    /// Binds the memory of the ports for a condition.
    fn binding(&self, ports: &mut Ports, condition: usize) -> Result<Binding, OrtError> {
        let api = self.api();
        // SAFETY: the session is alive, `out` is writable.
        let create = |out: *mut *mut OrtIoBinding| unsafe { (api.CreateIoBinding)(self.session.ptr, out) };
        let io = Owned::new(api, api.ReleaseIoBinding, create)?;
        let inputs = ports.handed().map(|port| self.value(port, condition)).collect::<Result<_, _>>()?;
        let outputs = &mut ports.outputs;
        let outputs = outputs.iter_mut().map(|port| self.value(port, condition)).collect::<Result<_, _>>()?;
        let binding = Binding { io, inputs, outputs };
        self.bind_inputs(&binding)?;
        for (name, value) in self.outputs.iter().zip(&binding.outputs) {
            // SAFETY: binding, string and value are alive.
            check(api, unsafe { (api.BindOutput)(binding.io.ptr, name.as_ptr(), value.ptr) })?;
        }
        Ok(binding)
    }

    /// Where a device has memory of its own, binding an input copies it there.
    fn bind_inputs(&self, binding: &Binding) -> Result<(), OrtError> {
        self.inputs.iter().zip(&binding.inputs).try_for_each(|(name, value)| {
            // SAFETY: binding, string and value are alive.
            check(self.api(), unsafe { (self.api().BindInput)(binding.io.ptr, name.as_ptr(), value.ptr) })
        })
    }

    /// A tensor on a port's memory.
    fn value(&self, port: &mut Port, condition: usize) -> Result<Owned<OrtValue>, OrtError> {
        let (shape, element) = (port.shape.clone(), port.element);
        let Some(memory) = port.memory(condition) else {
            return Err(OrtError(format!("{} has no memory", port.name)));
        };
        self.tensor_on(memory, &shape, element)
    }

    /// A tensor on memory that the CPU sees, and that stays where it is for as long as the tensor is bound.
    pub(super) fn tensor_on(
        &self,
        memory: &mut Elements,
        shape: &[usize],
        element: Element,
    ) -> Result<Owned<OrtValue>, OrtError> {
        let (shape, element) = (sizes(shape), element_type(element));
        let info = match memory {
            Elements::Ordinary(_) => self.memory.ptr.cast_const(),
            Elements::PageLocked(memory) => memory.info()?,
        };
        Owned::new(self.api(), self.api().ReleaseValue, |out| {
            // SAFETY: information and shape are alive; the memory has the elements of this shape, and the caller keeps it.
            unsafe {
                (self.api().CreateTensorWithDataAsOrtValue)(
                    info,
                    memory.as_mut_ptr().cast(),
                    memory.len(),
                    shape.as_ptr(),
                    shape.len(),
                    element,
                    out,
                )
            }
        })
    }

    /// What a tensor's memory is called.
    fn memory_of(&self, value: &Owned<OrtValue>) -> Result<String, OrtError> {
        let (mut info, mut name) = (ptr::null(), ptr::null());
        // SAFETY: the tensor is alive, and so is the information with it; what is written to is writable, and the name ends
        // in a zero.
        unsafe {
            check(self.api(), (self.api().GetTensorMemoryInfo)(value.ptr, &raw mut info))?;
            check(self.api(), (self.api().MemoryInfoGetName)(info, &raw mut name))?;
            Ok(text(name))
        }
    }

    /// Of a run that captures the graph of this number the first time, and replays it from then on; `None` where the provider
    /// captures none.
    pub(super) fn run_options(&self, graph: i32) -> Result<Option<Owned<OrtRunOptions>>, OrtError> {
        let api = self.api();
        if !self.choice.captures() {
            return Ok(None);
        }
        // SAFETY: `out` is writable.
        let options = Owned::new(api, api.ReleaseRunOptions, |out| unsafe { (api.CreateRunOptions)(out) })?;
        let graph = CString::new(graph.to_string())?;
        // SAFETY: the options are alive, strings end in a zero. onnxruntime_run_options_config_keys.h has the key.
        check(api, unsafe {
            (api.AddRunConfigEntry)(options.ptr, c"gpu_graph_id".as_ptr(), graph.as_ptr())
        })?;
        Ok(Some(options))
    }

    pub(super) fn run_bound(
        &self,
        session: &Owned<OrtSession>,
        options: Option<&Owned<OrtRunOptions>>,
        binding: &Owned<OrtIoBinding>,
    ) -> Result<(), OrtError> {
        let options = options.map_or(ptr::null(), |options| options.ptr.cast_const());
        // SAFETY: session, binding and options are alive; without options there are the default ones.
        check(self.api(), unsafe { (self.api().RunWithBinding)(session.ptr, options, binding.ptr) })
    }

    pub(super) fn refused(&self, error: &OrtError) -> ProviderError {
        ProviderError::Refused { provider: self.name.clone(), problem: error.to_string() }
    }
}

pub(super) fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&size| size as i64).collect()
}

pub(super) fn element_type(element: Element) -> ElementType {
    match element {
        Element::F32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        Element::F16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        Element::F64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        Element::I64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        Element::I32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        Element::Bool => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
    }
}

impl Runtime for Session {
    fn provider(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        &self.library.version
    }

    fn assignment(&self) -> &[Assigned] {
        &self.assignment
    }

    fn elements(&self, bytes: usize) -> io::Result<Elements> {
        let page_locked = self.page_locked.as_ref().and_then(|allocator| allocator.zeros(bytes));
        page_locked.map_or_else(|| Elements::ordinary(bytes), |memory| Ok(Elements::PageLocked(memory)))
    }

    fn bound_memory(&self) -> Option<String> {
        let values = self.bindings.iter().flat_map(|binding| binding.inputs.iter().chain(&binding.outputs));
        let mut names = values.map(|value| self.memory_of(value).ok());
        let first = names.next()??;
        names.all(|name| name.as_ref() == Some(&first)).then_some(first)
    }

    fn bind(&mut self, ports: &mut Ports) -> Result<(), ProviderError> {
        self.bindings.clear();
        for condition in 0..ports.conditions {
            let binding = self.binding(ports, condition).map_err(|error| self.refused(&error))?;
            self.bindings.push(binding);
        }
        Ok(())
    }

    fn run(&mut self, ports: &mut Ports) -> Result<(), ProviderError> {
        let unbound = || self.refused(&OrtError("it has no memory, which it was refused before".into()));
        let binding = self.bindings.get(ports.condition).ok_or_else(unbound)?;
        if self.copies {
            self.bind_inputs(binding).map_err(|error| self.refused(&error))?;
        }
        let ran = self.run_bound(&self.session, self.plain.as_ref(), &binding.io);
        ran.map_err(|error| self.refused(&error))
    }

    fn keep_state(&mut self, ports: &mut Ports, schedule: Option<Schedule<'_>>) -> Result<(), ProviderError> {
        let beside = self.kept.take().map(KeptState::into_beside);
        let steps = schedule.as_ref().map_or(0, |schedule| schedule.table.rows.len());
        self.kept = schedule.map_or(Ok(None), |schedule| self.keep(ports, schedule, beside))?;
        self.graphs += steps;
        Ok(())
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        if self.kept.is_some() { Some(self) } else { None }
    }
}
