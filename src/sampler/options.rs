//! What a caller may choose beyond the times.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Error, Sampler, positive};

/// What the caller may choose beyond the times.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Clamp every clean estimate to `[-limit, limit]`, for data that is known to lie there.
    pub clamp: Option<f64>,
    /// How much of the noise is drawn anew in each step, 0 (none) to 1 (all): DDIM's eta, the gamma of TCD and CTM,
    /// the signal-to-noise ratio of a Langevin corrector.
    pub eta: Option<f64>,
    /// Order of the solver, where it has several.
    pub order: Option<u8>,
    pub churn: Option<Churn>,
    /// Multiplies the noise of every step, but not the initial one: `s_noise`.
    pub noise_scale: f64,
    /// Multiplies the initial noise: below 1, samples are less varied.
    pub temperature: f64,
    /// Deviation of the initial noise, for networks that were not trained with the process's.
    pub initial_scale: Option<f64>,
    /// Share of the steps that are taken, the last ones: below 1, a run starts from noised data. SDEdit (Meng et al. 2021,
    /// arXiv 2108.01073), as diffusers' image-to-image pipelines count it.
    pub strength: f64,
}

/// Noise that is added before a step, and taken away by it: Karras et al. 2022, algorithm 2.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// `S_churn`, shared out over the steps.
    pub amount: f64,
    /// `[S_tmin, S_tmax]`, the noise levels that are churned.
    pub range: [f64; 2],
}

impl Default for Options {
    fn default() -> Options {
        Options {
            clamp: None,
            eta: None,
            order: None,
            churn: None,
            noise_scale: 1.0,
            temperature: 1.0,
            initial_scale: None,
            strength: 1.0,
        }
    }
}

impl Options {
    /// How many of so many steps [`Options::strength`] leaves out, the first ones.
    pub(super) fn skipped(&self, steps: usize) -> Result<usize, Error> {
        let taken = libm::floor(steps as f64 * self.strength);
        if self.strength <= 1.0 && taken >= 1.0 {
            return Ok(steps - taken as usize);
        }
        let must = "at most 1, and large enough for one of the steps: ask for more of either";
        Err(Error::BadSetting { name: "strength", value: self.strength, must })
    }

    pub(super) fn check(&self, sampler: &Sampler) -> Result<(), Error> {
        let unsupported = |what, accepts| Err(Error::Unsupported { sampler: sampler.name, what, accepts });
        self.clamp.map_or(Ok(()), |limit| positive("clamp", limit))?;
        positive("noise_scale", self.noise_scale)?;
        positive("temperature", self.temperature)?;
        self.initial_scale.map_or(Ok(()), |scale| positive("initial_scale", scale))?;
        match self.eta {
            Some(_) if sampler.eta.is_none() => return unsupported("eta", "none"),
            Some(value) if !(0.0..=1.0).contains(&value) => {
                return Err(Error::BadSetting { name: "eta", value, must: "from 0 to 1" });
            }
            _ => {}
        }
        match self.order {
            Some(_) if sampler.orders.is_empty() => return unsupported("an order", "none"),
            Some(order) if !sampler.orders.contains(&order) => {
                let value = f64::from(order);
                return Err(Error::BadSetting { name: "order", value, must: orders(sampler.orders) });
            }
            _ => {}
        }
        let Some(churn) = self.churn else { return Ok(()) };
        if !sampler.churns {
            return unsupported("churn", "none");
        }
        let [low, high] = churn.range;
        if !(churn.amount.is_finite() && churn.amount >= 0.0) {
            let must = "finite and not negative";
            return Err(Error::BadSetting { name: "churn", value: churn.amount, must });
        }
        if !(low >= 0.0 && high >= low) {
            let must = "two noise levels, the smaller first";
            return Err(Error::BadSetting { name: "churn_range", value: low, must });
        }
        Ok(())
    }
}

/// What [`Sampler::orders`] says, for messages.
fn orders(orders: &[u8]) -> &'static str {
    match orders {
        [1, 2] => "1 or 2",
        [2, 3] => "2 or 3",
        [1, 2, 3] => "1, 2 or 3",
        _ => "1, 2, 3 or 4",
    }
}
