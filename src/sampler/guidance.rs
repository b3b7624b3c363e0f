//! Guidance: two outputs of the network, with and without the condition, become one.
//!
//! All of it acts on the network's output `F` as it is, as diffusers' `guiders/` do by default. Arithmetic is f32, sums over
//! a sample are f64. The unconditional output may just as well be that of a negative condition, or of a weaker network
//! with the same condition (Karras et al. 2024, arXiv 2406.02507).

use rkyv::{Archive, Deserialize, Serialize};

use super::{Error, Level, update::same_length};

/// How far the conditional output is moved away from the unconditional one, and when.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    pub method: Method,
    /// `w`. With [`Start::Unconditional`] 1 is no guidance, with [`Start::Conditional`] 0 is.
    pub scale: f64,
    pub start: Start,
    /// Share of the result that gets the deviation of the conditional output: Lin et al. 2023, arXiv 2305.08891, section 3.4.
    pub rescale: f64,
    pub interval: Interval,
}

/// What the difference `d` of the outputs becomes before it is added.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Nothing else: Ho and Salimans 2022, arXiv 2207.12598.
    ClassifierFree,
    /// The unconditional output is scaled to fit the conditional one, and the first evaluations are zero: CFG-Zero*, Fan et
    /// al. 2025, arXiv 2503.18886.
    ZeroStar { zero_steps: usize },
    /// Its part along the conditional output is lessened: Adaptive Projected Guidance, Sadat et al. 2024, arXiv 2410.02416.
    Projected {
        /// What is added to `d` of the sum of the earlier ones; negative pushes away from them. `None`: nothing is summed.
        momentum: Option<f64>,
        /// The largest norm of `d`. `None`: any.
        norm: Option<f64>,
        /// What stays of the part along the conditional output.
        eta: f64,
    },
}

impl Method {
    /// All, by the names that manifests and users give them, with diffusers' settings.
    pub const NAMED: [(&'static str, Method); 3] = [
        ("cfg", Method::ClassifierFree),
        ("zero-star", Method::ZeroStar { zero_steps: 1 }),
        ("apg", Method::Projected { momentum: None, norm: Some(15.0), eta: 1.0 }),
    ];
}

/// What `w * d` is added to.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// `u + w * (c - u)`: Imagen, diffusers.
    #[default]
    Unconditional,
    /// `c + w * (c - u)`: the formula of the papers.
    Conditional,
}

/// The evaluations that are guided. In the others the conditional output is all there is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// From one fraction of the evaluations, rounded down, to another, which is excluded: diffusers' `start` and `stop`.
    Steps([f64; 2]),
    /// Above one scale of the noise in the state, up to another: Kynkäänniemi et al. 2024, arXiv 2404.07724. That scale is
    /// sigma where time is a noise level, and `t` on a rectified flow.
    Noise([f64; 2]),
}

/// What an evaluation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The conditional output alone.
    Conditional,
    /// Both, for [`Guidance::apply`].
    Both,
    /// None: zeros take their place.
    Zero,
}

impl Default for Guidance {
    fn default() -> Guidance {
        Guidance {
            method: Method::ClassifierFree,
            scale: 1.0,
            start: Start::Unconditional,
            rescale: 0.0,
            interval: Interval::Steps([0.0, 1.0]),
        }
    }
}

impl Guidance {
    /// # Errors
    /// If a setting is not finite, or outside of where it has a meaning.
    pub fn check(&self) -> Result<(), Error> {
        let setting = |name, value: f64, holds: bool, must| {
            if holds && value.is_finite() { Ok(()) } else { Err(Error::BadSetting { name, value, must }) }
        };
        setting("guidance scale", self.scale, true, "finite")?;
        setting("guidance rescale", self.rescale, (0.0..=1.0).contains(&self.rescale), "from 0 to 1")?;
        match self.interval {
            Interval::Steps([start, stop]) => {
                let must = "[start, stop], from 0 to 1, the smaller first";
                let within = 0.0 <= start && start < stop && stop <= 1.0;
                setting("guidance interval", if start >= 0.0 { stop } else { start }, within, must)?;
            }
            Interval::Noise([low, high]) => {
                let must = "[low, high], not negative, the smaller first";
                setting(
                    "guidance noise",
                    if low >= 0.0 { high } else { low },
                    0.0 <= low && low < high,
                    must,
                )?;
            }
        }
        let Method::Projected { momentum, norm, eta } = self.method else { return Ok(()) };
        setting("guidance momentum", momentum.unwrap_or(0.0), true, "finite")?;
        setting(
            "guidance norm",
            norm.unwrap_or(1.0),
            norm.is_none_or(|norm| norm > 0.0),
            "finite and above 0",
        )?;
        setting("guidance eta", eta, true, "finite")
    }

    /// Whether no evaluation is changed.
    pub fn is_idle(&self) -> bool {
        let neutral = match self.start {
            Start::Unconditional => 1.0,
            Start::Conditional => 0.0,
        };
        self.scale == neutral && !matches!(self.method, Method::ZeroStar { zero_steps: 1.. })
    }

    /// What evaluation number `step` of `steps` needs, whose state has this much noise.
    pub fn pass(&self, step: usize, steps: usize, level: Level) -> Pass {
        if matches!(self.method, Method::ZeroStar { zero_steps } if step < zero_steps) {
            return Pass::Zero;
        }
        let guided = match self.interval {
            Interval::Steps(ends) => {
                let [start, stop] = ends.map(|end| (end * steps as f64) as usize);
                (start..stop).contains(&step)
            }
            Interval::Noise([low, high]) => low < level.sigma && level.sigma <= high,
        };
        let neutral = Guidance { method: Method::ClassifierFree, ..*self }.is_idle();
        if guided && !neutral { Pass::Both } else { Pass::Conditional }
    }

    /// Whether [`Guidance::apply`] needs room for the sum of the differences.
    pub fn remembers(&self) -> bool {
        matches!(self.method, Method::Projected { momentum: Some(_), .. })
    }

    /// Turns the conditional output `c` of one sample into the guided one, in place, given the unconditional output `u`.
    ///
    /// `sum` is as long as the outputs if [`Guidance::remembers`], and read by nothing else: zeros before a run, then what the
    /// call before left.
    ///
    /// # Errors
    /// If the slices are not of one length.
    pub fn apply(&self, c: &mut [f32], u: &[f32], sum: &mut [f32]) -> Result<(), Error> {
        same_length("the unconditional output", u, c)?;
        let deviation = if self.rescale > 0.0 { deviation(c) } else { 0.0 };
        let (w, start) = (self.scale as f32, self.start);
        let from = |c: f32, u: f32| if start == Start::Unconditional { u } else { c };
        match self.method {
            Method::ClassifierFree => pairs(c, u).for_each(|(c, &u)| *c = from(*c, u) + w * (*c - u)),
            Method::ZeroStar { .. } => {
                let fit = (dot(c, u) / (dot(u, u) + 1e-8)) as f32;
                pairs(c, u).for_each(|(c, u)| {
                    let u = fit * u;
                    *c = from(*c, u) + w * (*c - u);
                });
            }
            Method::Projected { momentum: Some(momentum), norm, eta } => {
                same_length("the sum of differences", sum, c)?;
                let momentum = momentum as f32;
                for ((sum, c), u) in sum.iter_mut().zip(&*c).zip(u) {
                    *sum = (c - u) + momentum * *sum;
                }
                let (along, keep) = projection(c, |i, _| sum[i], norm, eta);
                for ((c, u), d) in c.iter_mut().zip(u).zip(sum) {
                    *c = from(*c, *u) + w * (keep * *d - along * *c);
                }
            }
            Method::Projected { momentum: None, norm, eta } => {
                let (along, keep) = projection(c, |i, c| c - u[i], norm, eta);
                pairs(c, u).for_each(|(c, &u)| *c = from(*c, u) + w * (keep * (*c - u) - along * *c));
            }
        }
        if self.rescale > 0.0 {
            rescale(c, deviation, self.rescale);
        }
        Ok(())
    }
}

fn pairs<'a>(c: &'a mut [f32], u: &'a [f32]) -> impl Iterator<Item = (&'a mut f32, &'a f32)> {
    c.iter_mut().zip(u)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// What is taken of `c`, and what stays of `d`, where `d` is cut to a norm and loses all but `eta` of its part along `c`.
fn projection(c: &[f32], d: impl Fn(usize, f32) -> f32, norm: Option<f64>, eta: f64) -> (f32, f32) {
    let (mut square, mut across, mut own) = (0.0, 0.0, 0.0);
    for (i, &c) in c.iter().enumerate() {
        let (d, c) = (f64::from(d(i, c)), f64::from(c));
        square += d * d;
        across += d * c;
        own += c * c;
    }
    let keep = norm.map_or(1.0, |norm| (norm / libm::sqrt(square)).min(1.0));
    // As torch's `normalize` does, so that an output of zeros has no direction.
    let along = across * keep / libm::sqrt(own).max(1e-12) / libm::sqrt(own).max(1e-12);
    (((1.0 - eta) * along) as f32, keep as f32)
}

/// The standard deviation of a sample's values, as of one less of them.
fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let square: f64 = values.iter().map(|&v| (f64::from(v) - mean) * (f64::from(v) - mean)).sum();
    libm::sqrt(square / (n - 1.0))
}

fn rescale(values: &mut [f32], wanted: f64, share: f64) {
    let factor = share * wanted / deviation(values) + 1.0 - share;
    // A sample of one value, or of equal ones, has no deviation to correct.
    if factor.is_finite() {
        values.iter_mut().for_each(|v| *v *= factor as f32);
    }
}
