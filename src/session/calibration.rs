//! Into half precision: by the values that samples show, and as far as samples stay what they are.

use super::{Session, SessionError};
use crate::plan::Depth;
use crate::provider::Precision;
use crate::sampler::TorchCpu;
use std::vec::Vec;

/// How much half precision may change a sample, relative to the range of its values: root mean square (54 dB), and any
/// element.
const MEAN: f64 = 2e-3;
const MOST: f64 = 5e-3;

/// Samples that are drawn to watch values, and again to compare.
const SAMPLES: u64 = 4;

impl Session {
    /// Draws samples that the network watches, and puts it into half precision, as far as samples stay the same. Where they
    /// do not, it stays in f32, unless half precision is asked for whatever comes of it.
    pub(super) fn calibrate(&mut self) -> Result<(), SessionError> {
        let Some(precision) = self.evaluator.network().calibrating() else { return Ok(()) };
        let stand_ins = self.evaluator.stand_in(&self.manifest)?;
        let wanted = match self.trials() {
            // What guidance moves away from comes later; without it, values are those of the conditions.
            Err(SessionError::NoNegative) => {
                self.evaluator.set_guidance(None);
                self.trials()?
            }
            found => found?,
        };
        for (i, depth) in Depth::ALL.into_iter().enumerate() {
            let Some(halved) = self.evaluator.network_mut().halved(depth)? else { break };
            let single = self.evaluator.replace_network(halved);
            let last = precision == Precision::F16 && i + 1 == Depth::ALL.len();
            if last || self.trials().is_ok_and(|found| is_close(&wanted, &found)) {
                break;
            }
            self.evaluator.replace_network(single);
        }
        self.evaluator.network_mut().settle();
        stand_ins.iter().for_each(|name| self.evaluator.forget(name));
        self.prepare(&Default::default())
    }

    fn trials(&mut self) -> Result<Vec<Vec<f32>>, SessionError> {
        let trial = |seed| {
            let mut out = std::vec![0.0; self.elements()];
            self.sample(&mut TorchCpu::new(seed), &mut out)?;
            Ok(out)
        };
        (0..SAMPLES).map(trial).collect()
    }
}

fn is_close(wanted: &[Vec<f32>], found: &[Vec<f32>]) -> bool {
    wanted.iter().zip(found).all(|(wanted, found)| {
        let Change { mean, most } = Change::of(wanted, found);
        mean <= MEAN && most <= MOST
    })
}

/// By how much two samples differ, relative to the range of the first.
struct Change {
    mean: f64,
    most: f64,
}

impl Change {
    fn of(wanted: &[f32], found: &[f32]) -> Change {
        let [low, high] =
            wanted.iter().fold([f32::MAX, f32::MIN], |[low, high], &x| [low.min(x), high.max(x)]);
        let range = (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE);
        let changes = || wanted.iter().zip(found).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
        let mean = (changes().map(|change| change * change).sum::<f64>() / wanted.len() as f64).sqrt();
        Change { mean: mean / range, most: changes().fold(0.0, f64::max) / range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_relative_to_the_range() {
        let Change { mean, most } = Change::of(&[-2.0, 2.0, 0.0, 0.0], &[-2.0, 2.0, 0.0, 0.04]);
        assert!((most - 0.01).abs() < 1e-6 && (mean - 0.005).abs() < 1e-6, "{mean} {most}");
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
