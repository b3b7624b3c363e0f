//! Samples whose state stays in the provider's memory: the network's output goes into the sampler's update, a network of its
//! own, and what that computes goes back, from one tensor there to another. Only noise goes in, and the sample comes out.
//!
//! Every step has its own bindings, which hold its times, its conditions and its coefficients. Where the provider captures
//! graphs, a step is two of them, which read and write the same memory in every sample: what changes is copied there by
//! networks that do nothing else.

use super::Memory;
use super::api::{OrtError, Owned, check};
use super::open::open_beside;
use super::session::{Session, element_type, sizes};
use super::update::{self, Form};
use crate::provider::ProviderError;
use crate::provider::external::{Element, Elements, Port, Ports, Resident, Runtime, Schedule};
use crate::sampler::Row;
use half::f16;
use ort_sys::{
    OrtAllocator, OrtIoBinding, OrtMemoryInfo, OrtMemoryInfoDeviceType, OrtRunOptions, OrtSession,
    OrtStatusPtr, OrtValue,
};
use std::ffi::{CStr, CString};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, ptr};

/// A schedule in the provider's memory. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct KeptState {
    steps: Vec<Step>,
    tensors: Tensors,
    _coefficients: Vec<Host>,
    beside: Beside,
    /// Name and type of the network's input.
    state: (CString, Element),
    /// What the network is fed is this times the state before the first step.
    scale: f32,
}

/// What a sample is in.
#[derive(Debug)]
struct Tensors {
    /// The state before the first step, what the network reads for it, the noise, and the state after the last step.
    first: Shared,
    first_input: Shared,
    noise: Shared,
    last: Shared,
    /// What was kept before there was anything.
    zeros: Host,
    /// The states between steps, in turns; what the network reads then, and its outputs.
    states: [Tensor; 2],
    input: Tensor,
    results: Vec<Tensor>,
    /// What steps keep for later ones: one more than are read at once.
    kept: Vec<Tensor>,
}

/// The networks beside the model's, which serve all schedules of one form.
#[derive(Debug)]
pub(super) struct Beside {
    update: Owned<OrtSession>,
    form: Form,
    /// One for each type of what is copied; none where binding does that, as no graphs are captured.
    copies: Vec<(Element, Owned<OrtSession>)>,
}

#[derive(Debug)]
struct Step {
    network: Owned<OrtIoBinding>,
    update: Owned<OrtIoBinding>,
    /// The network's inputs other than the state.
    fixed: Inputs,
    /// Whether its noise counts.
    is_noisy: bool,
    /// The number of its graphs.
    graph: Option<Owned<OrtRunOptions>>,
}

/// A tensor that the CPU sees. Where it is bound as an input, its elements are copied to a device at that moment.
#[derive(Debug)]
struct Host {
    value: Owned<OrtValue>,
    memory: Elements,
}

/// A tensor that the CPU and the provider see.
#[derive(Debug)]
struct Shared {
    host: Host,
    /// Where graphs are captured.
    there: Option<There>,
}

/// The provider's side of a tensor, which stays where it is, and copies between it and the CPU's.
#[derive(Debug)]
struct There {
    copy: Owned<OrtIoBinding>,
    tensor: Tensor,
    element: Element,
}

/// A tensor where the provider wants it.
#[derive(Debug)]
struct Tensor {
    value: Owned<OrtValue>,
    _allocator: Owned<OrtAllocator>,
}

type Inputs = Vec<(CString, Shared)>;

type Infos = unsafe extern "system" fn(*const OrtSession, *mut *const OrtMemoryInfo, usize) -> OrtStatusPtr;

impl KeptState {
    pub(super) fn into_beside(self) -> Beside {
        self.beside
    }
}

impl Beside {
    /// The network that copies a type; `None` where binding does.
    fn copying(&self, element: Element) -> Option<&Owned<OrtSession>> {
        self.copies.iter().find(|(own, _)| *own == element).map(|(_, session)| session)
    }
}

impl Shared {
    /// What a network is bound to.
    fn value(&self) -> &Owned<OrtValue> {
        self.there.as_ref().map_or(&self.host.value, |there| &there.tensor.value)
    }
}

impl Session {
    /// Prepares a schedule; `None` if its state is better fed in every step.
    pub(super) fn keep(
        &self,
        ports: &mut Ports,
        schedule: Schedule<'_>,
        beside: Option<Beside>,
    ) -> Result<Option<KeptState>, ProviderError> {
        let is_wanted = self.choice.resident.unwrap_or(self.choice.ep.memory == Memory::Device);
        let (Some(state), Some(output)) =
            (ports.inputs.get(schedule.state), ports.outputs.get(schedule.output))
        else {
            return Ok(None);
        };
        let is_real = |port: &Port| matches!(port.element, Element::F32 | Element::F16 | Element::F64);
        let Some(form) = Form::of(schedule.table, state, output).filter(|_| is_wanted) else {
            return Ok(None);
        };
        if schedule.table.rows.is_empty() || !state.handed || !is_real(state) || !is_real(output) {
            return Ok(None);
        }
        let beside = match beside.filter(|beside| beside.form == form) {
            Some(beside) => beside,
            None => match self.beside(ports, form, &schedule.table.rows[0])? {
                Some(beside) => beside,
                None => return Ok(None),
            },
        };
        self.schedule(ports, schedule, beside).map_err(|error| self.refused(&error))
    }

    /// `None` if the provider does not take all of what these networks do.
    fn beside(&self, ports: &mut Ports, form: Form, row: &Row) -> Result<Option<Beside>, ProviderError> {
        let network = form.network(&form.coefficients(row, 1.0));
        let Some(update) = open_beside(&self.library, &self.choice, self.threads, &network)? else {
            return Ok(None);
        };
        let mut copies: Vec<(Element, Owned<OrtSession>)> = Vec::new();
        let elements = ports.handed().map(|port| port.element).chain([Element::F32]);
        for element in elements.filter(|_| self.choice.captures()) {
            if copies.iter().any(|(own, _)| *own == element) {
                continue;
            }
            let choice = self.choice.without_capture();
            match open_beside(&self.library, &choice, self.threads, &update::copy(element))? {
                Some(session) => copies.push((element, session)),
                None => return Ok(None),
            }
        }
        Ok(Some(Beside { update, form, copies }))
    }

    fn schedule(
        &self,
        ports: &mut Ports,
        schedule: Schedule<'_>,
        beside: Beside,
    ) -> Result<Option<KeptState>, OrtError> {
        let rows = &schedule.table.rows;
        let state = &ports.inputs[schedule.state];
        let state = (CString::new(state.name.as_str())?, state.element);
        let Some(tensors) = self.tensors(ports, &state, &beside, &rows[0])? else { return Ok(None) };
        let mut coefficients = Vec::new();
        // Which of the tensors was kept last, before that, and so on.
        let mut kept = Vec::new();
        let mut steps = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let fed = if i == 0 { tensors.first_input.value() } else { &tensors.input.value };
            let (network, fixed) = self.bind_network(ports, &beside, (&state.0, fed), &tensors.results)?;
            let output = &tensors.results[schedule.output];
            let update = self.bind_update(&beside, &tensors, &rows[i..], i, &output.value, &mut kept)?;
            let following = rows.get(i + 1).unwrap_or(row);
            let values = beside.form.coefficients(row, following.inputs.scale);
            coefficients.extend(self.bind_coefficients(&update, values)?);
            let is_noisy = row.noise.is_some_and(|c| c != 0.0);
            // Those of another schedule are not replayed again: tensors of this one may lie where they write. Zero is ONNX
            // Runtime's.
            let number = i32::try_from(self.graphs + i + 1).map_err(|error| OrtError(error.to_string()))?;
            steps.push(Step { network, update, fixed, is_noisy, graph: self.run_options(number)? });
        }
        let scale = rows[0].inputs.scale as f32;
        Ok(Some(KeptState { steps, tensors, _coefficients: coefficients, beside, state, scale }))
    }

    /// The tensors of a sample, where the provider wants them; `None` if that is the CPU's memory, and nothing is won.
    fn tensors(
        &self,
        ports: &Ports,
        state: &(CString, Element),
        beside: &Beside,
        row: &Row,
    ) -> Result<Option<Tensors>, OrtError> {
        let Beside { update, form, copies } = beside;
        let at = self.inputs.iter().position(|name| *name == state.0).unwrap_or(0);
        let inputs = self.input_memories()?;
        // A graph has in it what the CPU read when it was captured.
        let is_baked = !copies.is_empty() && inputs.iter().any(|&memory| self.is_host(memory));
        if self.choice.resident.is_none() && (is_baked || self.is_host(inputs[at])) {
            return Ok(None);
        }
        let outputs =
            self.memories(&self.session, self.api().SessionGetMemoryInfoForOutputs, self.outputs.len())?;
        let count = 2 + usize::from(form.noise) + form.depth + form.coefficients(row, 1.0).len();
        let own = self.memories(update, self.api().SessionGetMemoryInfoForInputs, count)?[0];
        let there = || self.tensor_there(update, own, &form.shape, Element::F32);
        let shared = || self.shared(beside, (update, own), &form.shape, Element::F32);
        let results = ports.outputs.iter().zip(outputs);
        let result =
            |(port, memory): (&Port, _)| self.tensor_there(&self.session, memory, &port.shape, port.element);
        Ok(Some(Tensors {
            first: shared()?,
            first_input: self.shared(beside, (&self.session, inputs[at]), &form.shape, state.1)?,
            noise: shared()?,
            last: shared()?,
            zeros: self.host(&form.shape, Element::F32)?,
            states: [there()?, there()?],
            input: self.tensor_there(&self.session, inputs[at], &form.shape, state.1)?,
            results: results.map(result).collect::<Result<_, _>>()?,
            kept: (0..=form.depth).map(|_| there()).collect::<Result<_, _>>()?,
        }))
    }

    /// The update of step `i`, the first of the rows, by the network's output. `kept` says which tensor was kept last, before
    /// that, and so on.
    fn bind_update(
        &self,
        Beside { update, form, .. }: &Beside,
        tensors: &Tensors,
        rows: &[Row],
        i: usize,
        output: &Owned<OrtValue>,
        kept: &mut Vec<usize>,
    ) -> Result<Owned<OrtIoBinding>, OrtError> {
        let Tensors { states, .. } = tensors;
        let binding = self.new_binding(update)?;
        self.bind_input(&binding, c"x", if i == 0 { tensors.first.value() } else { &states[i % 2].value })?;
        self.bind_input(&binding, c"f", output)?;
        for (k, name) in form.kept().into_iter().enumerate() {
            let from = kept.get(k).map_or(&tensors.zeros.value, |&slot| &tensors.kept[slot].value);
            self.bind_input(&binding, &CString::new(name)?, from)?;
        }
        let to = if rows.len() > 1 { &states[(i + 1) % 2].value } else { tensors.last.value() };
        self.bind_output(&binding, c"next", to)?;
        self.bind_output(&binding, c"input", &tensors.input.value)?;
        if form.depth > 0 {
            let free = (0..tensors.kept.len()).find(|slot| !kept.contains(slot)).unwrap_or(0);
            self.bind_output(&binding, c"keep", &tensors.kept[free].value)?;
            if rows[0].keeps() {
                kept.insert(0, free);
                kept.truncate(form.depth);
            }
        }
        if form.noise {
            self.bind_input(&binding, c"z", tensors.noise.value())?;
        }
        Ok(binding)
    }

    /// An evaluation of the network on the state that is `fed`, with memory for its other inputs.
    fn bind_network(
        &self,
        ports: &mut Ports,
        beside: &Beside,
        (state, fed): (&CStr, &Owned<OrtValue>),
        results: &[Tensor],
    ) -> Result<(Owned<OrtIoBinding>, Inputs), OrtError> {
        let memories = self.input_memories()?;
        let binding = self.new_binding(&self.session)?;
        self.bind_input(&binding, state, fed)?;
        for (name, result) in self.outputs.iter().zip(results) {
            self.bind_output(&binding, name, &result.value)?;
        }
        let mut fixed = Vec::new();
        for (port, memory) in ports.handed().zip(memories) {
            let name = CString::new(port.name.as_str())?;
            if name.as_c_str() != state {
                let shared = self.shared(beside, (&self.session, memory), &port.shape, port.element)?;
                self.bind_input(&binding, &name, shared.value())?;
                fixed.push((name, shared));
            }
        }
        Ok((binding, fixed))
    }

    /// Binds coefficients of an update, which are returned with their memory.
    fn bind_coefficients(
        &self,
        binding: &Owned<OrtIoBinding>,
        coefficients: Vec<(String, f32)>,
    ) -> Result<Vec<Host>, OrtError> {
        let bind = |(name, value): (String, f32)| {
            let mut host = self.host(&[1], Element::F32)?;
            host.memory.copy_from_slice(&value.to_ne_bytes());
            self.bind_input(binding, &CString::new(name)?, &host.value)?;
            Ok(host)
        };
        coefficients.into_iter().map(bind).collect()
    }

    /// Where the network wants its inputs.
    pub(super) fn input_memories(&self) -> Result<Vec<*const OrtMemoryInfo>, OrtError> {
        self.memories(&self.session, self.api().SessionGetMemoryInfoForInputs, self.inputs.len())
    }

    /// Where a session wants its inputs, or has its outputs. They live as long as the session.
    fn memories(
        &self,
        session: &Owned<OrtSession>,
        infos: Infos,
        count: usize,
    ) -> Result<Vec<*const OrtMemoryInfo>, OrtError> {
        let mut found = std::vec![ptr::null(); count];
        // SAFETY: the session is alive, and there is room for so many.
        check(self.api(), unsafe { infos(session.ptr, found.as_mut_ptr(), count) })?;
        Ok(found)
    }

    pub(super) fn is_host(&self, memory: *const OrtMemoryInfo) -> bool {
        let mut kind = OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU;
        // SAFETY: the information is a session's, which is alive.
        unsafe { (self.api().MemoryInfoGetDeviceType)(memory, &raw mut kind) };
        kind == OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU
    }

    fn tensor_there(
        &self,
        session: &Owned<OrtSession>,
        memory: *const OrtMemoryInfo,
        shape: &[usize],
        element: Element,
    ) -> Result<Tensor, OrtError> {
        let api = self.api();
        // SAFETY: session and information are alive, `out` is writable.
        let create = |out: *mut *mut OrtAllocator| unsafe { (api.CreateAllocator)(session.ptr, memory, out) };
        let allocator = Owned::new(api, api.ReleaseAllocator, create)?;
        let shape = sizes(shape);
        let value = Owned::new(api, api.ReleaseValue, |out| {
            let (data, rank) = (shape.as_ptr(), shape.len());
            // SAFETY: the allocator is alive and outlives the tensor; the shape has this rank.
            unsafe { (api.CreateTensorAsOrtValue)(allocator.ptr, data, rank, element_type(element), out) }
        })?;
        Ok(Tensor { value, _allocator: allocator })
    }

    /// A tensor of the CPU, and one where a session wants it if graphs are captured.
    fn shared(
        &self,
        beside: &Beside,
        (session, memory): (&Owned<OrtSession>, *const OrtMemoryInfo),
        shape: &[usize],
        element: Element,
    ) -> Result<Shared, OrtError> {
        let there = |copying| -> Result<There, OrtError> {
            let tensor = self.tensor_there(session, memory, shape, element)?;
            Ok(There { copy: self.new_binding(copying)?, tensor, element })
        };
        let there = beside.copying(element).map(there).transpose()?;
        Ok(Shared { host: self.host(shape, element)?, there })
    }

    /// Hands over to an input what the CPU has written.
    fn hand_over(
        &self,
        beside: &Beside,
        (binding, name): (&Owned<OrtIoBinding>, &CStr),
        shared: &Shared,
    ) -> Result<(), OrtError> {
        match &shared.there {
            Some(there) => self.copy(beside, there, &shared.host.value, &there.tensor.value),
            None => self.bind_input(binding, name, &shared.host.value),
        }
    }

    fn copy(
        &self,
        beside: &Beside,
        there: &There,
        from: &Owned<OrtValue>,
        to: &Owned<OrtValue>,
    ) -> Result<(), OrtError> {
        self.bind_input(&there.copy, c"from", from)?;
        self.bind_output(&there.copy, c"to", to)?;
        let copying = beside.copying(there.element);
        copying.map_or(Ok(()), |session| self.run_bound(session, None, &there.copy))
    }

    fn host(&self, shape: &[usize], element: Element) -> Result<Host, OrtError> {
        let bytes = shape.iter().product::<usize>() * element.size();
        let mut memory = self
            .elements(bytes)
            .map_err(|_| OrtError(format!("there are no {bytes} bytes for its inputs")))?;
        let value = self.tensor_on(&mut memory, shape, element)?;
        Ok(Host { value, memory })
    }

    fn new_binding(&self, session: &Owned<OrtSession>) -> Result<Owned<OrtIoBinding>, OrtError> {
        // SAFETY: the session is alive, `out` is writable.
        let create = |out: *mut *mut OrtIoBinding| unsafe { (self.api().CreateIoBinding)(session.ptr, out) };
        Owned::new(self.api(), self.api().ReleaseIoBinding, create)
    }

    fn bind_input(
        &self,
        binding: &Owned<OrtIoBinding>,
        name: &CStr,
        value: &Owned<OrtValue>,
    ) -> Result<(), OrtError> {
        // SAFETY: binding, string and value are alive.
        check(self.api(), unsafe { (self.api().BindInput)(binding.ptr, name.as_ptr(), value.ptr) })
    }

    fn bind_output(
        &self,
        binding: &Owned<OrtIoBinding>,
        name: &CStr,
        value: &Owned<OrtValue>,
    ) -> Result<(), OrtError> {
        // SAFETY: binding, string and value are alive.
        check(self.api(), unsafe { (self.api().BindOutput)(binding.ptr, name.as_ptr(), value.ptr) })
    }

    /// Does something with what is kept.
    fn with_kept(
        &mut self,
        act: impl FnOnce(&Session, &mut KeptState) -> Result<(), OrtError>,
    ) -> Result<(), ProviderError> {
        let Some(mut kept) = self.kept.take() else { return Ok(()) };
        let result = act(self, &mut kept);
        self.kept = Some(kept);
        result.map_err(|error| self.refused(&error))
    }
}

impl Resident for Session {
    fn fix(&mut self, ports: &mut Ports, step: usize) -> Result<(), ProviderError> {
        let condition = ports.condition;
        self.with_kept(|session, kept| {
            let Some(Step { network, fixed, .. }) = kept.steps.get_mut(step) else { return Ok(()) };
            let state = &kept.state.0;
            let others = ports.handed().filter(|port| port.name.as_bytes() != state.to_bytes());
            for (port, (name, shared)) in others.zip(fixed) {
                shared.host.memory.copy_from_slice(port.bytes(condition));
                session.hand_over(&kept.beside, (network, name), shared)?;
            }
            Ok(())
        })
    }

    fn begin(&mut self, state: &[f32]) -> Result<(), ProviderError> {
        self.with_kept(|session, kept| {
            let (scale, element) = (kept.scale, kept.state.1);
            let Tensors { first, first_input, .. } = &mut kept.tensors;
            fill(&mut first.host.memory, Element::F32, state, 1.0);
            fill(&mut first_input.host.memory, element, state, scale);
            let Some(step) = kept.steps.first() else { return Ok(()) };
            session.hand_over(&kept.beside, (&step.update, c"x"), first)?;
            session.hand_over(&kept.beside, (&step.network, &kept.state.0), first_input)
        })
    }

    fn advance(&mut self, step: usize, noise: &[f32]) -> Result<(), ProviderError> {
        self.with_kept(|session, kept| {
            let Some(step) = kept.steps.get(step) else { return Ok(()) };
            if step.is_noisy {
                fill(&mut kept.tensors.noise.host.memory, Element::F32, noise, 1.0);
                session.hand_over(&kept.beside, (&step.update, c"z"), &kept.tensors.noise)?;
            }
            session.run_bound(&session.session, step.graph.as_ref(), &step.network)?;
            session.run_bound(&kept.beside.update, step.graph.as_ref(), &step.update)
        })
    }

    fn end(&mut self, state: &mut [f32]) -> Result<(), ProviderError> {
        self.with_kept(|session, kept| {
            let last = &kept.tensors.last;
            if let Some(there) = &last.there {
                session.copy(&kept.beside, there, &there.tensor.value, &last.host.value)?;
            }
            let values = last.host.memory.as_chunks::<4>().0.iter();
            state.iter_mut().zip(values).for_each(|(x, bytes)| *x = f32::from_ne_bytes(*bytes));
            Ok(())
        })
    }
}

/// Writes `scale` times the values, as elements of a type.
fn fill(memory: &mut [u8], element: Element, values: &[f32], scale: f32) {
    let elements = memory.chunks_exact_mut(element.size()).zip(values);
    for (to, &value) in elements {
        let value = scale * value;
        match element {
            Element::F16 => to.copy_from_slice(&f16::from_f32(value).to_bits().to_ne_bytes()),
            Element::F64 => to.copy_from_slice(&f64::from(value).to_ne_bytes()),
            _ => to.copy_from_slice(&value.to_ne_bytes()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::options::{Kind, option};
    use super::super::{Choice, EPS, Ep, Kept, update};
    use super::*;
    use crate::graph::Binding;
    use crate::onnx::Shapes;
    use crate::plan::Slots;
    use crate::provider::external::External;
    use crate::provider::{OnnxFile, Opening, Provider, Settings};
    use crate::sampler::{
        self, Grid, Noise, Options, Parameterisation, Philox, SAMPLERS, Sampler, Table, tests::accepted,
    };
    use std::path::{Path, PathBuf};

    const ELEMENTS: usize = 12;

    /// The CPU's provider as one with page-locked memory, for which the CPU's own stands in.
    static PAGE_LOCKED: Ep = Ep { page_locked: Some(c"Cpu"), kept: Kept::Not, ..EPS[0] };

    /// As one that captures graphs too, of which it makes nothing.
    static CAPTURING: Ep = Ep {
        options: &[option("capture", Kind::Flag, "0")],
        captures: Some("capture"),
        page_locked: Some(c"Cpu"),
        kept: Kept::Not,
        ..EPS[0]
    };

    /// `f = x * x + t * t`, in a session on the CPU that keeps the state although that has no other memory.
    fn network(library: &Path, element: Element, ep: &'static Ep) -> External {
        let options = ep.captures.map(|name| (name.into(), "1".into())).into_iter().collect();
        let library = Some(library.to_path_buf());
        let provider =
            Provider::Ort(Choice { ep, options, library, resident: Some(true), ..Choice::default() });
        let bytes = update::square(element, &[3, 4]);
        let file = OnnxFile { path: Path::new("square.onnx"), bytes: Some(&bytes) };
        let bindings = &[("t", Binding::TIME)];
        let settings = Settings { threads: 1, ..Settings::default() };
        let opening = Opening { shapes: &Shapes::new(), settings, bindings, cache: None };
        External::open(&provider, file, &opening).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As in tests/onnxruntime.
    fn library() -> Option<PathBuf> {
        let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/target/onnxruntime/onnxruntime/onnxruntime/capi");
        // In an emulator, what was fetched is for another CPU.
        let fits = std::env::var_os("FEWSTEP_RUNNER").is_none();
        named.or_else(|| Some(PathBuf::from(fetched)).filter(|fetched| fits && fetched.is_dir()))
    }

    fn noise(step: u64) -> Vec<f32> {
        let mut noise = std::vec![0.0; ELEMENTS];
        Philox::new(3, step).fill_normal(&mut noise);
        noise
    }

    fn set_time(network: &mut External, sampler::Inputs { t, .. }: sampler::Inputs) {
        network.input::<f32>(1).expect("t").fill((t / 1000.0) as f32);
    }

    /// The state fed in every step, and updated by the engine's own rule.
    fn fed(network: &mut External, table: &Table, x: &mut [f32]) {
        let mut history = std::vec![0.0; table.history() * x.len()];
        for (step, row) in table.rows.iter().enumerate() {
            sampler::feed(row, x, network.input(0).expect("x")).expect("a state");
            set_time(network, row.inputs);
            network.run().expect("an evaluation");
            let f = network.output::<f32>(0).expect("f").to_vec();
            sampler::advance(table, step, x, &f, Some(&noise(step as u64)), &mut history).expect("a step");
        }
    }

    fn kept(network: &mut External, table: &Table, x: &mut [f32]) {
        let schedule = Schedule { table, state: 0, output: 0 };
        assert!(network.keep_state(Some(schedule)).expect("a schedule"));
        for (step, row) in table.rows.iter().enumerate() {
            set_time(network, row.inputs);
            network.fix(step).expect("a step");
        }
        network.begin(x).expect("a state");
        for step in 0..table.rows.len() {
            network.advance(step, &noise(step as u64)).expect("a step");
        }
        network.end(x).expect("a sample");
    }

    fn tables(sampler: &Sampler) -> Vec<Table> {
        let table = |p: &Parameterisation| sampler.table(p, &Grid::steps(4), &Options::default()).ok();
        accepted(sampler).iter().filter_map(table).collect()
    }

    /// The library, or why what needs it is not run.
    pub(in super::super) fn fetched() -> Option<PathBuf> {
        let library = library();
        if library.is_none() {
            std::eprintln!(
                "not run: ORT_DYLIB_PATH is not set, and tests/onnxruntime.sh has fetched nothing"
            );
        }
        library
    }

    /// Every sampler, network outputs of two types, in ordinary memory and in the provider's, with what changes copied by
    /// binding and by networks, and both of two samples in a row.
    #[test]
    fn the_update_is_the_engines_to_the_bit() {
        let Some(library) = fetched() else { return };
        let cases = [
            (Element::F32, &EPS[0]),
            (Element::F16, &EPS[0]),
            (Element::F16, &PAGE_LOCKED),
            (Element::F16, &CAPTURING),
        ];
        for (element, ep) in cases {
            let mut network = network(&library, element, ep);
            network.reserve(Slots { times: 1, conditions: 2 }).expect("memory, and none of the old any more");
            assert_eq!(network.bound_memory().as_deref(), Some("Cpu"));
            assert_eq!(network.is_page_locked(), ep.page_locked.is_some());
            for sampler in SAMPLERS {
                let tables = tables(sampler);
                assert!(!tables.is_empty(), "{}", sampler.name);
                for table in tables {
                    for seed in [7, 8] {
                        // Small, so that squares stay in the range of half precision.
                        let start: Vec<f32> = noise(seed).iter().map(|x| x / 1024.0).collect();
                        let (mut wanted, mut found) = (start.clone(), start);
                        fed(&mut network, &table, &mut wanted);
                        kept(&mut network, &table, &mut found);
                        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&found), bits(&wanted), "{} {element:?} {ep:?}", sampler.name);
                    }
                }
            }
        }
    }
}
