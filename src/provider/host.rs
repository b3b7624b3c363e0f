//! Runs the operators of a plan that have no kernel, through what the compiler found for them.

use crate::engine;
use crate::graph::{Data, Tensor};
use crate::kernels::{DType, Operand};
use crate::plan::CompiledPlan;
use std::vec::Vec;

impl engine::Host for CompiledPlan {
    fn run(&self, operator: u32, inputs: &[Operand], outputs: &[Operand]) -> bool {
        let Some(host) = self.hosts().get(operator as usize) else { return false };
        // SAFETY: the engine passes operands of its own arena and weights, dense, of a plan that was checked.
        let tensors: Option<Vec<Tensor>> = inputs.iter().map(|o| unsafe { read(o) }).collect();
        let Some(Ok(results)) = tensors.map(|t| host.run.run(&t)) else { return false };
        results.len() == outputs.len()
            && results.iter().zip(outputs).all(|(tensor, output)| {
                // SAFETY: as above.
                unsafe { write(tensor, output) }
            })
    }
}

/// # Safety
/// The operand is dense and may be read.
unsafe fn read(operand: &Operand) -> Option<Tensor> {
    let layout = &operand.layout;
    let (shape, len) = ((0..layout.rank()).map(|a| layout.dim(a)).collect::<Vec<_>>(), layout.len());
    // SAFETY: the caller's contract; operands are aligned for their type, and `u8` truth values are compared, not cast.
    let data = unsafe {
        match operand.dtype {
            DType::F32 => Data::F32(core::slice::from_raw_parts(operand.ptr.cast(), len).to_vec()),
            DType::I64 => Data::I64(core::slice::from_raw_parts(operand.ptr.cast(), len).to_vec()),
            DType::Bool => {
                let bytes = core::slice::from_raw_parts(operand.ptr, len);
                Data::Bool(bytes.iter().map(|&b| b != 0).collect())
            }
        }
    };
    Tensor::new(&shape, data).ok()
}

/// False if the tensor does not fit the operand.
///
/// # Safety
/// The operand is dense and may be written.
unsafe fn write(tensor: &Tensor, operand: &Operand) -> bool {
    if tensor.len() != operand.layout.len() || tensor.dtype() != operand.dtype {
        return false;
    }
    // SAFETY: the caller's contract; the lengths and types were compared.
    unsafe {
        match tensor.data() {
            Data::F32(v) => core::ptr::copy_nonoverlapping(v.as_ptr(), operand.ptr.cast(), v.len()),
            Data::I64(v) => core::ptr::copy_nonoverlapping(v.as_ptr(), operand.ptr.cast(), v.len()),
            Data::Bool(v) => core::ptr::copy_nonoverlapping(v.as_ptr().cast(), operand.ptr, v.len()),
        }
    }
    true
}
