//! Networks with the update inside: Supertonic.

use super::{Combination, Error, Prediction, Process, Setup, Table};

/// `x' = F`. What the network is told of a step is its number, which the caller counts.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let network = setup.parameterisation;
    if network.prediction != Prediction::NextState {
        return Err(setup.unsupported("this prediction", "a network that returns the next state"));
    }
    if network.process != Process::RectifiedFlow {
        return Err(setup.unsupported(network.process.what(), "a rectified flow's time"));
    }
    if setup.planned != setup.steps() {
        return Err(setup.unsupported("a part of the steps", "all of them, for their numbers are told"));
    }
    Ok(setup.intervals(|at, _| setup.row(setup.here(at), at, Combination::OTHER)))
}
