//! Sessions on plan files for Python. What each thing does is said in fewstep/__init__.pyi.

use fewstep::manifest::Request;
use fewstep::plan::{self, PlanFile};
use fewstep::provider::{Precision, Settings};
use fewstep::session::{self, Run, SessionError};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::ptr::NonNull;

pyo3::create_exception!(fewstep, Error, PyException, "What a plan, a session or a sample can not do.");

fn error(error: impl std::error::Error) -> PyErr {
    Error::new_err(error.to_string())
}

#[pyclass(frozen, module = "fewstep")]
struct Plan(PlanFile);

#[pymethods]
impl Plan {
    #[new]
    fn new(path: PathBuf) -> PyResult<Plan> {
        plan::Plan::open(path).map(Plan).map_err(error)
    }

    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.verify()).map_err(error)
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().into()
    }

    #[getter]
    fn origin(&self) -> &str {
        self.0.origin()
    }
}

/// A plan file, or where it is.
#[derive(FromPyObject)]
enum Source<'py> {
    Plan(PyRef<'py, Plan>),
    Path(PathBuf),
}

#[pyclass(module = "fewstep")]
struct Session(session::Session);

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (plan, *, threads = 0, steps = None, sampler = None, guidance = None, seed = 0,
                        precision = "f32", prefault = false, max_memory = None))]
    #[expect(clippy::too_many_arguments, reason = "they have names")]
    fn new(
        plan: Source<'_>,
        threads: usize,
        steps: Option<usize>,
        sampler: Option<&str>,
        guidance: Option<f64>,
        seed: u64,
        precision: &str,
        prefault: bool,
        max_memory: Option<usize>,
    ) -> PyResult<Session> {
        let precision = match precision {
            "f32" => Precision::F32,
            "f16" => Precision::F16,
            "auto" => Precision::Auto,
            other => {
                return Err(PyValueError::new_err(format!("precision is f32, f16 or auto, not {other}")));
            }
        };
        let plan = match plan {
            Source::Plan(plan) => plan.0.clone(),
            Source::Path(path) => plan::Plan::open(path).map_err(error)?,
        };
        let settings = Settings { threads, precision, prefault, max_memory, ..Settings::default() };
        let request = Request { sampler, steps, guidance, ..Request::default() };
        let builder = session::Session::builder().plan(&plan).settings(settings).request(request).seed(seed);
        builder.build().map(Session).map_err(error)
    }

    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.0.manifest().state_shape().to_vec()
    }

    #[getter]
    fn steps(&self) -> usize {
        self.0.steps()
    }

    #[getter]
    fn conditions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let conditions = PyDict::new(py);
        for (name, condition) in self.0.manifest().conditions() {
            conditions.set_item(name, condition.shape.clone())?;
        }
        Ok(conditions)
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.0.seed()
    }

    #[setter]
    fn set_seed(&mut self, seed: u64) {
        self.0.set_seed(seed);
    }

    fn set_condition(&mut self, name: &str, values: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.set_condition(name, &numbers(values)?).map_err(error)
    }

    fn set_negative(&mut self, name: &str, values: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.set_negative(name, &numbers(values)?).map_err(error)
    }

    #[pyo3(signature = (noise = None, out = None))]
    fn sample<'py>(
        &mut self,
        py: Python<'py>,
        noise: Option<Bound<'py, PyAny>>,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let out = match out {
            Some(out) => out,
            None => py.import("numpy")?.call_method1("empty", (self.shape(), "float32"))?,
        };
        let noise = noise.as_ref().map(|noise| Values::of(noise, "noise", false)).transpose()?;
        let mut values = Values::of(&out, "out", true)?;
        if noise.as_ref().is_some_and(|noise| noise.overlaps(&values)) {
            return Err(PyValueError::new_err("noise and out share memory; give each its own"));
        }
        let own = &mut self.0;
        py.detach(move || {
            // SAFETY: the two share no memory. Python code that touches it meanwhile has a race with itself.
            let (initial, out) = unsafe { (noise.as_ref().map(|noise| noise.read()), values.write()) };
            own.sample_run(Run { initial, ..Run::default() }, out)
        })
        .map_err(|failure: SessionError| error(failure))?;
        Ok(out)
    }
}

/// The memory of an array of f32.
struct Values {
    at: NonNull<[f32]>,
    /// Keeps the memory where it is.
    _buffer: PyBuffer<f32>,
}

// SAFETY: the memory is there until the buffer goes, which any thread may let go.
unsafe impl Send for Values {}

impl Values {
    fn of(object: &Bound<'_, PyAny>, name: &str, writable: bool) -> PyResult<Values> {
        let wrong = |what: &str| PyTypeError::new_err(format!("{name} {what}"));
        let buffer = PyBuffer::<f32>::get(object).map_err(|_| wrong("is no array of float32"))?;
        if writable && buffer.readonly() {
            return Err(wrong("can not be written"));
        }
        let at =
            buffer.as_slice_ptr().ok_or_else(|| wrong("is not contiguous; use numpy.ascontiguousarray"))?;
        Ok(Values { at, _buffer: buffer })
    }

    /// # Safety
    /// Nobody writes the memory as long as the result is used.
    unsafe fn read(&self) -> &[f32] {
        // SAFETY: contiguous and of this type, and the buffer keeps it where it is; the rest is the caller's.
        unsafe { self.at.as_ref() }
    }

    /// # Safety
    /// The memory is writable, and nobody else touches it as long as the result is used.
    unsafe fn write(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { self.at.as_mut() }
    }

    fn overlaps(&self, other: &Values) -> bool {
        let range = |values: &Values| {
            let start = values.at.cast::<f32>().addr().get();
            start..start + values.at.len() * size_of::<f32>()
        };
        let (own, other) = (range(self), range(other));
        own.start < other.end && other.start < own.end
    }
}

/// A number, or all of an array or a list.
fn numbers(values: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    if let Ok(number) = values.extract::<f64>() {
        return Ok(vec![number]);
    }
    let array = values.py().import("numpy")?.call_method1("ascontiguousarray", (values, "float64"))?;
    PyBuffer::<f64>::get(&array)?.to_vec(values.py())
}

#[pymodule]
fn _fewstep(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Plan>()?;
    module.add_class::<Session>()
}
