//! Into half precision: by the values that samples show, and as far as samples stay what they are.

use super::guidance::Evaluator;
use super::{Session, SessionError};
use crate::kernels::Isa;
use crate::manifest::{Manifest, Request};
use crate::plan::{Depth, Stage};
use crate::provider::{Network, Precision};
use crate::sampler::{Noise, TorchCpu};
use std::string::{String, ToString};
use std::vec::Vec;

/// How much half precision may change a sample, relative to the range of its values: root mean square (54 dB), and any
/// element.
const MEAN: f64 = 2e-3;
const MOST: f64 = 5e-3;

/// How much a provider may change a sample, as a root mean square: 40 dB.
const WORST: f64 = 1e-2;

/// Samples that are drawn to watch values, and again to compare: at most so many, and fewer, but one, if they would take more
/// than so many operations, some ten seconds of one core.
const SAMPLES: u64 = 4;
const WORK: u64 = 1 << 40;

/// Steps of a sample that takes more operations than that by itself. They go through the times of longer schedules.
const STEPS: u64 = 4;

/// The samples that are drawn to compare.
#[derive(Clone, Copy, Debug)]
struct Trials {
    samples: u64,
    /// `None` for those of the model's own schedule.
    steps: Option<usize>,
}

impl Session {
    /// Puts the network into half precision, as far as samples stay the same, if that is what was asked for.
    pub(super) fn calibrate(&mut self) -> Result<(), SessionError> {
        let Some(isa) = self.network().cpu().map(|cpu| cpu.plan().isa()) else { return Ok(()) };
        if let Some((_, Some(halved))) = self.depth(isa, Depth::ways(isa))? {
            self.evaluator.network = halved;
        }
        self.evaluator.network.settle();
        Ok(())
    }

    /// Draws samples that the network watches, and finds the fastest way into half precision that leaves samples the same,
    /// with the network that is. `None` if there is no such way and half precision is not asked for whatever comes of it, or
    /// is not asked for at all. For instruction sets of other computers, it is the last of the ways.
    pub(super) fn depth(
        &mut self,
        isa: Isa,
        ways: &[Depth],
    ) -> Result<Option<(Depth, Option<Network>)>, SessionError> {
        let Some(precision) = self.evaluator.network.calibrating() else { return Ok(None) };
        let stand_ins = self.evaluator.stand_in(&self.manifest)?;
        let trials = self.affordable();
        let wanted = self.watch(trials)?;
        let mut found = ways.last().map(|&depth| (depth, None)).filter(|_| !isa.supported());
        for (i, &depth) in ways.iter().enumerate().filter(|_| isa.supported()) {
            let Some(halved) = self.evaluator.network.halved(depth)? else { break };
            let single = core::mem::replace(&mut self.evaluator.network, halved);
            let last = precision == Precision::F16 && i + 1 == ways.len();
            let taken = last || self.draw(trials.samples).is_ok_and(|found| is_close(&wanted, &found));
            let halved = core::mem::replace(&mut self.evaluator.network, single);
            if taken {
                found = Some((depth, Some(halved)));
                break;
            }
        }
        stand_ins.iter().for_each(|name| self.evaluator.forget(name));
        self.prepare(&Default::default())?;
        Ok(found)
    }

    /// That samples are those of another session, as far as a provider may be off.
    pub(super) fn check_against(&mut self, mut reference: Session) -> Result<(), SessionError> {
        let trials = reference.affordable();
        let (wanted, found) = (reference.tried(trials)?, self.tried(trials)?);
        let changes = wanted.iter().zip(&found).map(|(wanted, found)| Change::of(wanted, found));
        match changes.max_by(|a, b| a.mean.total_cmp(&b.mean)) {
            Some(worst) if worst.mean > WORST => {
                let provider = self.network().provider().to_string();
                Err(SessionError::Unlike { provider, decibel: worst.psnr() })
            }
            _ => Ok(()),
        }
    }

    /// Trials of a session as it is before anything is asked of it.
    fn tried(&mut self, trials: Trials) -> Result<Vec<Vec<f32>>, SessionError> {
        let stand_ins = self.evaluator.stand_in(&self.manifest)?;
        let drawn = self.watch(trials)?;
        stand_ins.iter().for_each(|name| self.evaluator.forget(name));
        self.prepare(&Default::default())?;
        Ok(drawn)
    }

    /// Draws the samples whose values the network watches.
    fn watch(&mut self, Trials { samples, steps }: Trials) -> Result<Vec<Vec<f32>>, SessionError> {
        if steps.is_some() && self.prepare(&Request { steps, ..Request::default() }).is_err() {
            // A schedule that comes in one length.
            self.prepare(&Request::default())?;
        }
        match self.draw(samples) {
            // What guidance moves away from comes later; without it, values are those of the conditions.
            Err(SessionError::NoNegative) => {
                self.evaluator.set_guidance(None);
                self.draw(samples)
            }
            found => found,
        }
    }

    /// As many samples as are enough, or as one has the time for.
    fn affordable(&self) -> Trials {
        let step = self.network().cpu().map_or(0, |cpu| cpu.plan().cost(Stage::State).flop).max(1);
        let own = self.steps() as u64;
        let steps = own.min(STEPS.max(WORK / step));
        let samples = (WORK / step.saturating_mul(steps.max(1))).clamp(1, SAMPLES);
        Trials { samples, steps: Some(steps as usize).filter(|_| steps < own) }
    }

    fn draw(&mut self, samples: u64) -> Result<Vec<Vec<f32>>, SessionError> {
        let trial = |seed| {
            let mut out = std::vec![0.0; self.elements()];
            self.sample_from(&mut TorchCpu::new(seed), &mut out)?;
            Ok(out)
        };
        (0..samples).map(trial).collect()
    }
}

impl Evaluator {
    /// Gives every condition without a value a stand-in, and returns their names: noise for a tensor, as embeddings are, and
    /// for a number the middle of its range.
    pub(super) fn stand_in(&mut self, manifest: &Manifest) -> Result<Vec<String>, SessionError> {
        let unset = self.conditions.iter().filter(|own| own.positive.is_empty());
        let names: Vec<String> = unset.map(|own| own.name.clone()).collect();
        for (name, condition) in manifest.conditions().filter(|(name, _)| names.iter().any(|own| own == name))
        {
            let values = match condition.range {
                Some([low, high]) if condition.integer => std::vec![libm::floor((low + high) / 2.0)],
                Some([low, high]) => std::vec![(low + high) / 2.0],
                None => {
                    let mut noise = std::vec![0.0; condition.elements()];
                    TorchCpu::new(0).fill_normal(&mut noise);
                    noise.into_iter().map(f64::from).collect()
                }
            };
            self.set(name, &values, false)?;
        }
        Ok(names)
    }

    /// Takes a condition's value away.
    pub(super) fn forget(&mut self, name: &str) {
        self.conditions.iter_mut().filter(|own| own.name == name).for_each(|own| own.positive.clear());
    }
}

fn is_close(wanted: &[Vec<f32>], found: &[Vec<f32>]) -> bool {
    wanted.iter().zip(found).all(|(wanted, found)| Change::of(wanted, found).is_small())
}

/// By how much samples differ, relative to the range of the first.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The root mean square of the differences.
    pub mean: f64,
    /// The largest one.
    pub most: f64,
}

impl Change {
    /// Of as many values each.
    pub fn of(wanted: &[f32], found: &[f32]) -> Change {
        let [low, high] =
            wanted.iter().fold([f32::MAX, f32::MIN], |[low, high], &x| [low.min(x), high.max(x)]);
        let range = (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE);
        let changes = || wanted.iter().zip(found).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
        let mean = (changes().map(|change| change * change).sum::<f64>() / wanted.len() as f64).sqrt();
        Change { mean: mean / range, most: changes().fold(0.0, f64::max) / range }
    }

    /// Whether half precision may change as much.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.mean <= MEAN && self.most <= MOST
    }

    /// The peak signal-to-noise ratio in dB, infinite if nothing differs.
    pub fn psnr(&self) -> f64 {
        -20.0 * libm::log10(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Model;
    use crate::provider::Settings;

    /// What another class looks like is further off than a provider may be.
    #[test]
    fn other_samples_are_refused() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/fewstep.toml");
        let text = std::fs::read_to_string(&file).expect("a text");
        let parse = |text: &str| Manifest::parse(text, &file).expect("a manifest");
        let (own, other) = (parse(&text), parse(&text.replace("default = 0", "default = 5")));
        let session = |manifest: &Manifest| {
            let model = Model::read(&own.network_path()).expect("a network");
            Session::new(manifest.clone(), model, Settings::default()).expect("a session")
        };
        session(&own).check_against(session(&own)).expect("the same samples");
        let refused = session(&own).check_against(session(&other));
        assert!(
            matches!(refused, Err(SessionError::Unlike { decibel, .. }) if decibel < 30.0),
            "{refused:?}"
        );
    }

    #[test]
    fn changes_are_relative_to_the_range() {
        let Change { mean, most } = Change::of(&[-2.0, 2.0, 0.0, 0.0], &[-2.0, 2.0, 0.0, 0.04]);
        assert!((most - 0.01).abs() < 1e-6 && (mean - 0.005).abs() < 1e-6, "{mean} {most}");
    }

    #[test]
    fn the_ratio_is_relative_to_the_range() {
        let wanted = [-2.0, 2.0, 0.0, 0.0];
        let change = Change::of(&wanted, &[-2.0, 2.0, 0.0, 0.08]);
        // The root mean square is 0.04, a hundredth of the range.
        assert!((change.psnr() - 40.0).abs() < 1e-5, "{}", change.psnr());
        assert!((change.most - 0.02).abs() < 1e-6);
        assert_eq!(Change::of(&wanted, &wanted).psnr(), f64::INFINITY);
    }

    #[test]
    fn a_few_large_changes_are_too_many() {
        let wanted: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let changed =
            |by: f32| wanted.iter().map(|x| if *x == 7.0 { x + by } else { *x }).collect::<Vec<_>>();
        assert!(is_close(std::slice::from_ref(&wanted), &[changed(4.0)]));
        assert!(!is_close(std::slice::from_ref(&wanted), &[changed(6.0)]));
    }
}
