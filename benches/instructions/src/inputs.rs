//! What a network reads in the first step of a sample.

use fewstep::kernels::DType;
use fewstep::manifest::{Request, Role};
use fewstep::provider::Network;
use fewstep::sampler::{self, Noise, Table, TorchCpu};
use fewstep::session::Session;
use std::error::Error;

/// An input and what it holds.
pub struct Input {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Values,
}

pub enum Values {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// The inputs, in the network's order; conditions with their defaults.
pub fn first_step(session: &Session) -> Result<Vec<Input>, Box<dyn Error>> {
    let table = session.manifest().table(&Request::default())?;
    let roles = &session.manifest().inputs;
    let input = |(name, fact): (&str, fewstep::plan::Fact)| {
        let role = roles.iter().find(|input| input.name == name).ok_or("an input has no role")?;
        let values = values(&table, &role.role, fact.len())?;
        let values = match fact.dtype {
            DType::F32 => Values::F32(values),
            DType::I64 => Values::I64(values.into_iter().map(|x| x.round_ties_even() as i64).collect()),
            other => return Err(format!("{name} is {other:?}, which no model here reads").into()),
        };
        Ok(Input { name: name.into(), shape: fact.shape.to_vec(), values })
    };
    session.network().inputs().map(input).collect()
}

fn values(table: &Table, role: &Role, len: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let row = table.rows.first().ok_or("a sample has no steps")?;
    Ok(match role {
        Role::State { .. } => {
            let (mut state, mut fed) = (vec![0.0; len], vec![0.0; len]);
            TorchCpu::new(0).fill_normal(&mut state);
            sampler::start(table, &mut state, None)?;
            sampler::feed(row, &state, &mut fed)?;
            fed
        }
        Role::Time => vec![row.inputs.t as f32; len],
        Role::Target => vec![row.inputs.s as f32; len],
        Role::Duration => vec![row.inputs.h as f32; len],
        Role::Condition(condition) => {
            let default = condition.default.as_ref().ok_or("a condition has no default")?;
            default.iter().map(|&x| x as f32).cycle().take(len).collect()
        }
        Role::Step => vec![0.0; len],
        Role::Steps => vec![table.rows.len() as f32; len],
    })
}

pub fn write(network: &mut Network, inputs: &[Input]) -> Result<(), Box<dyn Error>> {
    let mut io = network.io()?;
    for (index, input) in inputs.iter().enumerate() {
        match &input.values {
            Values::F32(values) => io.input_f32(index)?.copy_from_slice(values),
            Values::I64(values) => io.input_i64(index)?.copy_from_slice(values),
        }
    }
    Ok(())
}
