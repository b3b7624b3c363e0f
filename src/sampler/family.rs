//! What networks have learned, and what is known of a sampler.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use super::{Error, Grid, Options, Parameterisation, SAMPLERS, Setup, Table};

/// What a network has learned, which decides the samplers that make sense for it.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Jumps from any time to the data.
    Consistency,
    /// Jumps from any time `t` to any time `s` below it.
    FlowMap,
    /// The velocity at one time.
    RectifiedFlow,
    /// The noise or the clean sample at one time, on a process of noise levels, timesteps or angles.
    Diffusion,
}

impl Family {
    pub const ALL: [Family; 4] =
        [Family::Consistency, Family::FlowMap, Family::RectifiedFlow, Family::Diffusion];

    pub const fn name(self) -> &'static str {
        match self {
            Family::Consistency => "consistency",
            Family::FlowMap => "flow-map",
            Family::RectifiedFlow => "rectified-flow",
            Family::Diffusion => "diffusion",
        }
    }

    /// The samplers that make sense for this family, its default first.
    pub fn samplers(self) -> impl Iterator<Item = &'static Sampler> {
        SAMPLERS.iter().filter(move |sampler| sampler.families.contains(&self))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row of [`SAMPLERS`].
#[derive(Debug)]
pub struct Sampler {
    /// What users type.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub families: &'static [Family],
    /// Order of convergence towards the exact trajectory.
    pub order: u8,
    /// Network evaluations, and so table rows, for one interval of the grid. The last one always takes a single
    /// evaluation, for there is no noise left to evaluate at.
    pub evaluations_per_step: u8,
    /// Whether it draws noise after the initial state when it takes more than one step.
    pub stochastic: bool,
    /// What [`Options::eta`] is when it is not chosen. `None`: there is nothing to choose.
    pub eta: Option<f64>,
    /// What [`Options::order`] may be. Empty: there is nothing to choose.
    pub orders: &'static [u8],
    /// Whether it takes [`Options::churn`].
    pub churns: bool,
    pub paper: &'static str,
    /// The implementation it agrees with.
    pub reference: &'static str,
    /// Whether it can start from a state with nothing of the data. The others are given a trace of it, as diffusers does.
    pub(super) from_pure_noise: bool,
    pub(super) rows: fn(&Setup<'_>) -> Result<Table, Error>,
}

impl Sampler {
    /// Whether `name` is its name or one of its aliases.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The coefficients of a whole run.
    pub fn table(
        &self,
        parameterisation: &Parameterisation,
        grid: &Grid<'_>,
        options: &Options,
    ) -> Result<Table, Error> {
        parameterisation.check()?;
        options.check(self)?;
        let mut parameterisation = *parameterisation;
        if !self.from_pure_noise {
            parameterisation.process = parameterisation.process.with_a_trace_of_data();
        }
        let knots = grid.knots(parameterisation.process)?;
        let skipped = options.skipped(knots.len() - 1)?;
        let eta = options.eta.or(self.eta).unwrap_or(0.0);
        let order = options.order.unwrap_or(self.order);
        let mut table = (self.rows)(&Setup {
            sampler: self.name,
            parameterisation: &parameterisation,
            grid,
            knots: &knots[skipped..],
            planned: knots.len() - 1,
            options,
            eta,
            order,
        })?;
        table.initial_scale = options.initial_scale.unwrap_or(table.initial_scale) * options.temperature;
        let amplify = |noise: Option<f64>| noise.map(|c| c * options.noise_scale);
        table.rows.iter_mut().for_each(|row| row.noise = amplify(row.noise));
        Ok(Table { initial_noise: amplify(table.initial_noise), ..table })
    }
}
