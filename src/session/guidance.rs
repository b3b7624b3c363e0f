//! From a state to the output that the sampler sees: one evaluation of the network, or two that guidance makes one of.

use super::ports::{Moment, Ports};
use super::{SessionError, room, zeros};
use crate::manifest::{Condition, Encoding, Manifest};
use crate::plan::Slots;
use crate::provider::Network;
use crate::sampler::{self, Guidance, Pass};
use std::string::{String, ToString};
use std::vec::Vec;

/// A network, its conditions, and the guidance between their values.
#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) network: Network,
    pub(super) ports: Ports,
    /// Whether the network takes two samples at once: with the conditions' values, and with the negative ones.
    paired: bool,
    /// A weaker network, which takes the place of the negative values.
    guide: Option<(Network, Ports)>,
    /// `None`: the conditional output is all there is.
    guidance: Option<Guidance>,
    pub(super) conditions: Vec<Values>,
    /// What the state is relative to, or nothing. [elements of a sample]
    prior: Vec<f32>,
    /// [elements of a sample]
    output: Vec<f32>,
    /// The unconditional output. [elements of a sample]
    other: Vec<f32>,
    /// What guidance remembers. [elements of a sample]
    sum: Vec<f32>,
}

/// A condition: one value for all its elements, or one for each.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) name: String,
    /// Of one sample.
    elements: usize,
    encoding: Option<Encoding>,
    prior: bool,
    pub(super) positive: Vec<f64>,
    negative: Option<Vec<f64>>,
}

impl Values {
    /// The values as they are, if that is what the network reads.
    fn plain(&self, negative: bool) -> Option<&[f64]> {
        let values = self.negative.as_ref().filter(|_| negative).unwrap_or(&self.positive);
        (self.encoding.is_none() && values.len() == self.elements).then_some(values)
    }

    fn fill(&self, negative: bool, i: usize) -> f64 {
        let values = self.negative.as_ref().filter(|_| negative).unwrap_or(&self.positive);
        let value = values.get(i).or(values.first()).copied().unwrap_or(0.0);
        self.encoding.map_or(value, |encoding| encoding.value(value, i, self.elements))
    }
}

impl Evaluator {
    pub(super) fn new(manifest: &Manifest, network: Network) -> Result<Evaluator, SessionError> {
        let paired = network.is_paired();
        let ports = Ports::of(manifest, &network)?;
        let elements = network.inputs().nth(ports.state).map_or(0, |(_, fact)| fact.len());
        let elements = if paired { elements / 2 } else { elements };
        let has_prior = manifest.conditions().any(|(_, condition)| condition.prior);
        let values = |(name, condition): (&str, &Condition)| {
            Ok(Values {
                name: name.to_string(),
                elements: condition.elements(),
                encoding: condition.encoding,
                prior: condition.prior,
                positive: room(condition.elements())?,
                negative: condition.negative.clone(),
            })
        };
        Ok(Evaluator {
            network,
            ports,
            paired,
            guide: None,
            guidance: None,
            conditions: manifest.conditions().map(values).collect::<Result<_, SessionError>>()?,
            prior: zeros(if has_prior { elements } else { 0 })?,
            output: zeros(elements)?,
            other: zeros(elements)?,
            sum: Vec::new(),
        })
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// The last evaluation's output. [elements of a sample]
    pub(super) fn output(&self) -> &[f32] {
        &self.output
    }

    /// What the state is relative to, or nothing.
    pub(super) fn prior(&self) -> &[f32] {
        &self.prior
    }

    pub(super) fn is_paired(&self) -> bool {
        self.paired
    }

    pub(super) fn set_guide(&mut self, manifest: &Manifest, guide: Network) -> Result<(), SessionError> {
        let ports = Ports::of(manifest, &guide)?;
        let found = guide.outputs().nth(ports.output).map_or(0, |(_, fact)| fact.len());
        let needed = self.output.len() * ports.stacked;
        if found != needed {
            return Err(SessionError::Guide { found, needed });
        }
        self.guide = Some((guide.with_pool(self.network.pool()), ports));
        (0..self.conditions.len()).try_for_each(|at| self.write(at))
    }

    /// Whether an evaluation is the network's output for the state, and nothing else.
    #[cfg(feature = "compile")]
    pub(super) fn is_plain(&self) -> bool {
        self.guidance.is_none() && self.prior.is_empty() && !self.paired
    }

    /// Guides the evaluations to come.
    pub(super) fn set_guidance(&mut self, guidance: Option<Guidance>) {
        self.guidance = guidance.filter(|guidance| !guidance.is_idle());
        let remembers = self.guidance.is_some_and(|guidance| guidance.remembers());
        self.sum.resize(if remembers { self.output.len() } else { 0 }, 0.0);
    }

    /// Makes room for what the network's stages compute for a schedule of so many steps, and drops what they have computed
    /// for another.
    pub(super) fn reserve(&mut self, steps: usize) -> Result<(), SessionError> {
        let alternates = self.guidance.is_some() && self.guide.is_none() && !self.paired;
        let slots = Slots { times: steps, conditions: if alternates { 2 } else { 1 } };
        if self.network.reserve(slots)? {
            (0..self.conditions.len()).try_for_each(|at| self.write(at))?;
        }
        Ok(self.network.forget_times()?)
    }

    /// Sets a condition's value, or its negative one. The values fit the condition.
    pub(super) fn set(&mut self, name: &str, values: &[f64], negative: bool) -> Result<(), SessionError> {
        let Some(at) = self.conditions.iter().position(|own| own.name == name) else {
            return Err(SessionError::NoRole { input: name.to_string() });
        };
        let condition = &mut self.conditions[at];
        let own = if negative { condition.negative.get_or_insert_default() } else { &mut condition.positive };
        // What a network computes of a condition stays as long as that is the same.
        if own == values {
            return Ok(());
        }
        own.clear();
        own.extend_from_slice(values);
        self.write(at)
    }

    /// The first condition without a value.
    pub(super) fn unset(&self) -> Option<&str> {
        self.conditions.iter().find(|own| own.positive.is_empty()).map(|own| own.name.as_str())
    }

    /// Begins a run.
    ///
    /// # Errors
    /// If guidance has nothing to move away from.
    pub(super) fn begin(&mut self) -> Result<(), SessionError> {
        let contrast = self.guide.is_some() || self.conditions.iter().any(|own| own.negative.is_some());
        if self.guidance.is_some() && !contrast {
            return Err(SessionError::NoNegative);
        }
        self.sum.fill(0.0);
        // A run that ended in an error may have left the negative values in their place.
        Ok(self.network.select_condition(0)?)
    }

    /// Evaluates the network.
    pub(super) fn evaluate(&mut self, at: Moment<'_>, state: &[f32]) -> Result<(), SessionError> {
        match self.guidance.map_or(Pass::Conditional, |g| g.pass(at.step, at.steps, at.row.level)) {
            Pass::Zero => {
                self.output.fill(0.0);
                return Ok(());
            }
            Pass::Conditional => return self.run(at, state),
            Pass::Both => {}
        }
        if let Some((guide, ports)) = &mut self.guide {
            feed(guide, ports, at, state, &self.prior)?;
            guide.run()?;
            read(guide, ports, at, &mut [&mut self.other])?;
            self.run(at, state)?;
        } else if self.paired {
            feed(&mut self.network, &self.ports, at, state, &self.prior)?;
            self.network.run()?;
            read(&mut self.network, &self.ports, at, &mut [&mut self.output, &mut self.other])?;
        } else {
            self.network.select_condition(1)?;
            feed(&mut self.network, &self.ports, at, state, &self.prior)?;
            self.network.run()?;
            read(&mut self.network, &self.ports, at, &mut [&mut self.other])?;
            self.network.select_condition(0)?;
            self.network.run_branch()?;
            read(&mut self.network, &self.ports, at, &mut [&mut self.output])?;
        }
        match &self.guidance {
            Some(guidance) => Ok(guidance.apply(&mut self.output, &self.other, &mut self.sum)?),
            None => Ok(()),
        }
    }

    /// One evaluation with the conditions' values.
    fn run(&mut self, at: Moment<'_>, state: &[f32]) -> Result<(), SessionError> {
        feed(&mut self.network, &self.ports, at, state, &self.prior)?;
        self.network.run()?;
        read(&mut self.network, &self.ports, at, &mut [&mut self.output])
    }

    /// Writes a condition into the networks that read it.
    fn write(&mut self, at: usize) -> Result<(), SessionError> {
        let own = &self.conditions[at];
        if own.positive.is_empty() {
            return Ok(());
        }
        if own.prior {
            self.prior.iter_mut().enumerate().for_each(|(i, y)| *y = own.fill(false, i) as f32);
        }
        if let Some(index) = self.ports.condition(&own.name) {
            let Slots { conditions, .. } = self.network.slots();
            // The present condition last, so that it stays the present one.
            for negative in (0..conditions).rev() {
                self.network.select_condition(negative)?;
                let mut io = self.network.io()?;
                if let Some(values) = own.plain(negative > 0)
                    && let Ok(input) = io.input_f32(index)
                    && input.len() == values.len()
                {
                    input.iter_mut().zip(values).for_each(|(x, &value)| *x = value as f32);
                    continue;
                }
                let at = |i: usize| own.fill(negative > 0 || i >= own.elements, i % own.elements);
                io.fill(index, at)?;
            }
        }
        if let Some((guide, ports)) = &mut self.guide
            && let Some(index) = ports.condition(&own.name)
        {
            guide.io()?.fill(index, |i| own.fill(false, i))?;
        }
        Ok(())
    }
}

/// Writes what an evaluation reads: the state, once for each sample that the network takes, and the times.
fn feed(
    network: &mut Network,
    ports: &Ports,
    at: Moment<'_>,
    state: &[f32],
    prior: &[f32],
) -> Result<(), SessionError> {
    let mut io = network.io()?;
    for input in io.input_f32(ports.state)?.chunks_exact_mut(state.len()) {
        sampler::feed(at.row, state, input)?;
        input.iter_mut().zip(prior).for_each(|(input, prior)| *input += prior);
    }
    Ok(ports.write_times(&mut io, at)?)
}

/// Reads what an evaluation gave, for as many samples as there are outputs.
fn read(
    network: &mut Network,
    ports: &Ports,
    at: Moment<'_>,
    outputs: &mut [&mut Vec<f32>],
) -> Result<(), SessionError> {
    let mut io = network.io()?;
    let elements = outputs.first().map_or(0, |output| output.len());
    let found = io.output_f32(ports.output)?;
    // What a network gives beyond what the sampler reads is after it.
    let each = (found.len() / outputs.len().max(1)).max(1);
    for (output, found) in outputs.iter_mut().zip(found.chunks_exact(each)) {
        let found = &found[..elements * ports.stacked];
        match at.weights {
            [] => output.copy_from_slice(found),
            weights => sampler::combine(weights, found, ports.block, output)?,
        }
    }
    Ok(())
}
