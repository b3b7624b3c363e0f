//! tract as a provider: a reference in Rust alone, whatever the machine has. It runs on the caller's thread, and allocates
//! as it goes.

use super::external::{Element, Port, Ports, Runtime};
use super::{Assigned, NetworkError, OnnxFile, ProviderError};
use crate::onnx::{Declared, Header};
use prost::Message;
use std::boxed::Box;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TypedSimplePlan;

#[derive(Debug)]
pub(super) struct Tract(Arc<TypedSimplePlan>);

impl Tract {
    pub(super) const NAME: &'static str = "tract";

    pub(super) fn open(
        file: OnnxFile<'_>,
        header: &Header,
        inputs: &[Port],
    ) -> Result<(Box<dyn Runtime>, Vec<Port>), NetworkError> {
        let plan = caught(|| {
            // What a file says of its values may hang on symbols that the inputs have fixed.
            let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
            let proto = pb::ModelProto::decode(&*file.contents()?)?;
            let parsed = onnx.parse(&proto, file.folder().to_str())?;
            if let Some(name) = parsed.unresolved_inputs.first() {
                return Err(TractError::msg(format!("nothing computes {name}")));
            }
            let mut model = parsed.model;
            for (index, input) in inputs.iter().enumerate() {
                model
                    .set_input_fact(index, InferenceFact::dt_shape(datum(input.element), &input.shape[..]))?;
            }
            model.into_optimized()?.into_runnable()
        })?;
        let outputs = caught(|| {
            let model = plan.model();
            let output = |(declared, outlet): (&Declared, &OutletId)| {
                let fact = model.outlet_fact(*outlet)?;
                let open = || TractError::msg("an output has no fixed shape");
                let shape = fact.shape.as_concrete().ok_or_else(open)?;
                let other = || TractError::msg("an output is no f32, f16, f64, i64, i32 or bool");
                let element = element(fact.datum_type).ok_or_else(other)?;
                Ok(Port::new(declared.name.clone(), shape.to_vec(), element))
            };
            header.outputs.iter().zip(&model.outputs).map(output).collect::<TractResult<Vec<_>>>()
        })?;
        Ok((Box::new(Tract(plan)), outputs))
    }
}

/// Runs a piece of tract, which panics where it has no code.
fn caught<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, ProviderError> {
    let refused = |problem: String| ProviderError::Refused { provider: Tract::NAME.into(), problem };
    // What it borrows is dropped or left unchanged: nothing is seen half done.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| refused(format!("{error:#}"))),
        Err(_) => Err(refused("it panics".into())),
    }
}

fn datum(element: Element) -> DatumType {
    match element {
        Element::F32 => f32::datum_type(),
        Element::F16 => f16::datum_type(),
        Element::F64 => f64::datum_type(),
        Element::I64 => i64::datum_type(),
        Element::I32 => i32::datum_type(),
        Element::Bool => bool::datum_type(),
    }
}

fn element(datum: DatumType) -> Option<Element> {
    use Element::{Bool, F16, F32, F64, I32, I64};
    [F32, F16, F64, I64, I32, Bool].into_iter().find(|&element| self::datum(element) == datum)
}

impl Runtime for Tract {
    fn provider(&self) -> &str {
        Tract::NAME
    }

    fn version(&self) -> &str {
        "0.23"
    }

    fn assignment(&self) -> &[Assigned] {
        &[]
    }

    fn bind(&mut self, _: &mut Ports) -> Result<(), ProviderError> {
        Ok(())
    }

    fn run(&mut self, ports: &mut Ports) -> Result<(), ProviderError> {
        let condition = ports.condition;
        caught(|| {
            let tensor = |port: &mut Port| {
                let (shape, datum) = (port.shape.clone(), datum(port.element));
                let mut tensor = Tensor::zero_dt(datum, &shape)?;
                tensor.as_bytes_mut().copy_from_slice(port.bytes(condition));
                Ok(tensor.into_tvalue())
            };
            let inputs = ports.handed().map(tensor).collect::<TractResult<TVec<TValue>>>()?;
            for (port, found) in ports.outputs.iter_mut().zip(self.0.run(inputs)?) {
                let (to, from) = (port.bytes(condition), found.as_bytes());
                if to.len() != from.len() {
                    return Err(TractError::msg("an output has another shape than it was to have"));
                }
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }
}
