//! Flow maps that jump between two noise levels, and may noise the state again on the way: CTM, TCD, IMM.

use super::{Combination, Error, Knot, Level, Prediction, Process, Row, Setup, Table};

/// CTM's gamma-sampling: jump below the next noise level, to `sqrt(1 - gamma^2)` of it, and noise again up to it. Gamma 0
/// jumps exactly; gamma 1 jumps to the data, which is the reference's `cm_multistep`.
pub(super) fn ctm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_sigma()?;
    let (gamma, sigma_min) = (setup.eta, setup.parameterisation.process.end());
    Ok(setup.numbered_intervals(|i, at, Knot { t: next, .. }| {
        let s = libm::sqrt(1.0 - gamma * gamma) * (next - sigma_min) + sigma_min;
        let noise = (gamma > 0.0 && !setup.is_last(i)).then(|| libm::sqrt((next * next - s * s).max(0.0)));
        Row { noise, ..setup.jump(at, s) }
    }))
}

/// Consistency Policy's chain: jump to the data, and noise again by all of the next noise level.
pub(super) fn chain_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_sigma()?;
    let sigma_min = setup.parameterisation.process.end();
    Ok(setup.numbered_intervals(|i, at, Knot { t: next, .. }| {
        let noise = (!setup.is_last(i)).then_some(next);
        Row { noise, ..setup.jump(at, sigma_min) }
    }))
}

/// TCD's strategic stochastic sampling: DDIM to a timestep below the next, and noise again up to it. The last step
/// ends at timestep 0, so a little noise stays.
pub(super) fn tcd_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    let process = setup.parameterisation.process;
    Ok(setup.numbered_intervals(|i, at, to| {
        let next = to.t.max(0.0);
        let s = libm::floor((1.0 - setup.eta) * next);
        let (low, up) = (process.level(s), process.level(next));
        let mut update = at.level.transfer(low);
        let kept = up.alpha / low.alpha;
        let draws = setup.eta > 0.0 && !setup.is_last(i);
        if draws {
            update.x *= kept;
            update.y *= kept;
        }
        let noise = draws.then(|| libm::sqrt((1.0 - kept * kept).max(0.0)));
        Row { noise, ..setup.row(setup.parameterisation.inputs(at.t, s), at, update) }
    }))
}

/// IMM's pushforward: DDIM from `t` to `s`, with a network that knows both.
pub(super) fn imm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.moment_matching(|_, at, to| setup.matched(at, to))
}

/// IMM's restart: DDIM to the last time, and noise again up to the next.
pub(super) fn imm_restart_table(setup: &Setup<'_>) -> Result<Table, Error> {
    let end = setup.knots[setup.steps()];
    setup.moment_matching(|i, at, to| {
        let row = setup.matched(at, end);
        if setup.is_last(i) {
            return row;
        }
        // The reference takes what it has for data, and noises it from there.
        let Level { alpha, sigma } = to.level;
        let update = Combination { x: alpha * row.update.x, y: alpha * row.update.y };
        Row { update, noise: Some(sigma), ..row }
    })
}

impl Setup<'_> {
    fn require_sigma(&self) -> Result<(), Error> {
        self.require(|process| matches!(process, Process::Exploding { .. }), "a noise level as time")
    }

    /// A jump from noise level `t` to `s`: `G = s/t * x + (1 - s/t) * clean`. It is in the estimate, for the references clamp
    /// where it arrives, if that is the data.
    fn jump(&self, at: Knot, s: f64) -> Row {
        let row = self.row(self.parameterisation.inputs(at.t, s), at, Combination::OTHER);
        let to_data = s <= self.parameterisation.process.end();
        let stays = s / at.t;
        Row {
            estimate: Combination {
                x: stays + (1.0 - stays) * row.estimate.x,
                y: (1.0 - stays) * row.estimate.y,
            },
            limit: row.limit.filter(|_| to_data),
            clean: Combination { x: -stays / (1.0 - stays), y: 1.0 / (1.0 - stays) },
            ..row
        }
    }

    /// A run of a network whose noise has the deviation of the data.
    fn moment_matching(&self, row: impl Fn(usize, Knot, Knot) -> Row) -> Result<Table, Error> {
        self.require_rectified_flow()?;
        let (Prediction::ScaledVelocity { sigma_data } | Prediction::SimpleEdm { sigma_data }) =
            self.parameterisation.prediction
        else {
            return Err(self.unsupported("this prediction", "euler_fm's or simple_edm's"));
        };
        let mut table = self.numbered_intervals(row);
        table.initial_scale *= sigma_data;
        for row in &mut table.rows {
            row.level.sigma *= sigma_data;
            row.noise = row.noise.map(|noise| noise * sigma_data);
        }
        Ok(table)
    }

    fn matched(&self, at: Knot, to: Knot) -> Row {
        let clamp = self.options.clamp.filter(|_| to == self.knots[self.steps()]);
        let update = at.level.transfer(to.level);
        Row { limit: clamp, ..self.row(self.parameterisation.inputs(at.t, to.t), at, update) }
    }
}
