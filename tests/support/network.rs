//! The analytic network of tests/golden/common.py, written down a second time: the data are a mixture of four round
//! normals in the plane, whose posterior mean is known.

use fewstep::sampler::Inputs;

pub type Point = [f64; 2];

const WEIGHTS: [f64; 4] = [0.4, 0.3, 0.2, 0.1];
const MEANS: [Point; 4] = [[0.8, 0.4], [-0.7, 0.5], [-0.2, -0.8], [0.5, -0.3]];
const SPREADS: [f64; 4] = [0.3, 0.4, 0.25, 0.15];

/// Scales of data and noise in a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub alpha: f64,
    pub sigma: f64,
}

/// The mean of the data.
pub fn mean() -> Point {
    [0, 1].map(|d| (0..4).map(|k| WEIGHTS[k] * MEANS[k][d]).sum())
}

/// The covariance of the data.
pub fn covariance() -> [Point; 2] {
    let centre = mean();
    [0, 1].map(|a| {
        [0, 1].map(|b| {
            let component = |k: usize| {
                let spread = if a == b { SPREADS[k] * SPREADS[k] } else { 0.0 };
                WEIGHTS[k] * (spread + (MEANS[k][a] - centre[a]) * (MEANS[k][b] - centre[b]))
            };
            (0..4).map(component).sum()
        })
    })
}

/// What is expected of data and of noise in a state.
fn expected(x: Point, Level { alpha, sigma }: Level) -> (Point, Point) {
    let variance = SPREADS.map(|spread| (alpha * spread).powi(2) + sigma * sigma);
    let gap = MEANS.map(|mean| [x[0] - alpha * mean[0], x[1] - alpha * mean[1]]);
    let logit = |k: usize| {
        let square = gap[k][0] * gap[k][0] + gap[k][1] * gap[k][1];
        (WEIGHTS[k] / variance[k]).ln() - square / (2.0 * variance[k])
    };
    let logits = [logit(0), logit(1), logit(2), logit(3)];
    let most = logits.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - most).exp()).sum();
    let (mut data, mut noise) = ([0.0; 2], [0.0; 2]);
    for k in 0..4 {
        let share = (logits[k] - most).exp() / total;
        for d in 0..2 {
            data[d] += share * (MEANS[k][d] + alpha * SPREADS[k] * SPREADS[k] / variance[k] * gap[k][d]);
            noise[d] += share * sigma / variance[k] * gap[k][d];
        }
    }
    (data, noise)
}

/// Where the probability flow takes a state, by so many steps of Runge and Kutta's method of order four.
///
/// Divided by `hypot(alpha, sigma)` every process is `cos(a) * data + sin(a) * noise`, with the angle as its time.
pub fn flow(x: Point, from: Level, to: Level, steps: usize) -> Point {
    let slope = |x: Point, angle: f64| {
        let (sigma, alpha) = angle.sin_cos();
        let (data, noise) = expected(x, Level { alpha, sigma });
        [0, 1].map(|d| alpha * noise[d] - sigma * data[d])
    };
    let ahead = |x: Point, by: f64, k: Point| [x[0] + by * k[0], x[1] + by * k[1]];
    let angle = |level: Level| level.sigma.atan2(level.alpha);
    let (start, h) = (angle(from), (angle(to) - angle(from)) / steps as f64);
    let mut x = x.map(|x| x / from.alpha.hypot(from.sigma));
    for step in 0..steps {
        let t = start + step as f64 * h;
        let k1 = slope(x, t);
        let k2 = slope(ahead(x, h / 2.0, k1), t + h / 2.0);
        let k3 = slope(ahead(x, h / 2.0, k2), t + h / 2.0);
        let k4 = slope(ahead(x, h, k3), t + h);
        for d in 0..2 {
            x[d] += h / 6.0 * (k1[d] + 2.0 * k2[d] + 2.0 * k3[d] + k4[d]);
        }
    }
    x.map(|x| x * to.alpha.hypot(to.sigma))
}

/// The exact network, in the words of a `[sampling]` table.
pub struct Network {
    sampling: toml::Table,
    second: Option<Second>,
    /// Of a network that gives several velocities: a time, and the mean place of those that its step goes with.
    places: Vec<(f64, f64)>,
    /// `ln(sigma / alpha)` at the timesteps.
    log_ratios: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Second {
    Target,
    Duration,
}

impl Network {
    pub fn new(sampling: &str, second: Option<&str>) -> Network {
        let sampling: toml::Table = sampling.parse().expect("a table");
        let second = second.map(|role| match role {
            "target" => Second::Target,
            "duration" => Second::Duration,
            _ => panic!("{role} is no second time"),
        });
        let mut network = Network { sampling, second, places: Vec::new(), log_ratios: Vec::new() };
        network.log_ratios = network.log_ratios();
        network
    }

    /// Has a step's velocities, of which number `k` of `n` bends by `k / (n - 1)`, combined by their weights.
    pub fn with_weights(&mut self, t: f64, weights: &[f64]) {
        let last = (weights.len() - 1) as f64;
        let place = weights.iter().enumerate().map(|(k, weight)| weight * k as f64 / last).sum();
        self.places.push((t, place));
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.sampling.get(key).map(|value| value.as_str().expect("a string"))
    }

    fn number(&self, key: &str) -> Option<f64> {
        let value = self.sampling.get(key)?;
        Some(value.as_float().unwrap_or_else(|| value.as_integer().expect("a number") as f64))
    }

    fn deviation(&self) -> f64 {
        self.number("sigma_data").expect("sigma_data")
    }

    fn log_ratios(&self) -> Vec<f64> {
        let between = |i: usize, ends: [f64; 2]| ends[0] + i as f64 / 999.0 * (ends[1] - ends[0]);
        let ends = || ["beta_start", "beta_end"].map(|key| self.number(key).expect("betas"));
        let beta: Box<dyn Fn(usize) -> f64> = match self.text("betas") {
            None => return Vec::new(),
            Some("linear") => Box::new(move |i| between(i, ends())),
            Some("scaled-linear") => Box::new(move |i| between(i, ends().map(f64::sqrt)).powi(2)),
            Some("cosine") => Box::new(|i| {
                let left = |i: usize| {
                    ((i as f64 / 1000.0 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                (1.0 - left(i + 1) / left(i)).min(0.999)
            }),
            Some(other) => panic!("no betas are called {other}"),
        };
        let bars = (0..1000).scan(1.0, |bar, i| {
            *bar *= 1.0 - beta(i);
            Some(*bar)
        });
        let mut bars: Vec<f64> = bars.collect();
        if self.sampling.get("zero_terminal_snr").is_some_and(|zero| zero.as_bool() == Some(true)) {
            let [first, last] = [bars[0], bars[999]].map(f64::sqrt);
            bars.iter_mut().for_each(|bar| *bar = ((bar.sqrt() - last) * first / (first - last)).powi(2));
            // The network itself is told of a trace of the data, whatever the sampler makes of it.
            bars[999] = 0.5f64.powi(24);
        }
        bars.into_iter().map(|bar| 0.5 * ((1.0 - bar) / bar).ln()).collect()
    }

    /// The level of a timestep. Between two, `ln(sigma / alpha)` is linear.
    pub fn timestep(&self, t: f64) -> Level {
        let t = t.clamp(0.0, 999.0);
        let below = t.floor().min(998.0);
        let [low, high] = [0, 1].map(|i| self.log_ratios[below as usize + i]);
        let ratio = (low + (t - below) * (high - low)).exp();
        let alpha = 1.0 / (1.0 + ratio * ratio).sqrt();
        Level { alpha, sigma: ratio * alpha }
    }

    /// The level at the network's time `t`.
    pub fn level(&self, t: f64) -> Level {
        let t = t / self.number("time_scale").unwrap_or(1.0);
        match self.text("time").expect("time") {
            "timestep" => self.timestep(t),
            // A piecewise rectified flow counts timesteps from 1.
            "unit" if self.text("betas").is_some() => self.timestep(1000.0 * t - 1.0),
            "unit" if self.runs_to_data() => Level { alpha: t, sigma: 1.0 - t },
            "unit" => Level { alpha: 1.0 - t, sigma: t },
            "sigma" => Level { alpha: 1.0, sigma: t },
            "log-sigma" => Level { alpha: 1.0, sigma: t.exp() },
            "mean-reverting" => {
                let [low, high, theta] =
                    ["sigma_min", "sigma_max", "theta"].map(|key| self.number(key).expect("the process"));
                let growth = (high / low).ln();
                let variance =
                    ((high / low).powf(2.0 * t) - (-2.0 * theta * t).exp()) * growth / (theta + growth);
                Level { alpha: (-theta * t).exp(), sigma: low * variance.sqrt() }
            }
            "angle" => Level { alpha: t.cos(), sigma: self.deviation() * t.sin() },
            "angle-share" => {
                let norm = t.hypot(1.0 - t);
                Level { alpha: (1.0 - t) / norm, sigma: self.deviation() * t / norm }
            }
            other => panic!("no time is called {other}"),
        }
    }

    /// Whether the network's time runs from noise to data, and its velocity with it.
    fn runs_to_data(&self) -> bool {
        self.number("noise_at") == Some(0.0)
    }

    fn between_angles(&self) -> bool {
        self.text("time").is_some_and(|time| time.starts_with("angle"))
    }

    /// What the state is multiplied by before the network reads it.
    fn scale(&self, Level { alpha, sigma }: Level) -> f64 {
        match self.text("prediction").expect("prediction") {
            "edm" | "edm-consistency" => 1.0 / self.deviation().hypot(sigma),
            "scaled-velocity" | "simple-edm" => 1.0 / (self.deviation() * alpha.hypot(sigma)),
            "v" if self.between_angles() => 1.0 / self.deviation(),
            "velocity" if self.between_angles() => {
                1.0 / (self.deviation() * (alpha + sigma / self.deviation()))
            }
            _ => 1.0,
        }
    }

    /// The output that stands for a clean sample.
    fn output(&self, x: f64, clean: f64, Level { alpha, sigma }: Level) -> f64 {
        let noise = || (x - alpha * clean) / sigma;
        let direction = if self.runs_to_data() { -1.0 } else { 1.0 };
        match self.text("prediction").expect("prediction") {
            "x0" => clean,
            "epsilon" | "windowed-noise" => noise(),
            "v" if self.between_angles() => (alpha * x - clean) / sigma,
            "v" => alpha * noise() - sigma * clean,
            "velocity" if self.between_angles() => (self.deviation() * noise() - clean) / self.deviation(),
            "velocity" => direction * (noise() - clean),
            "velocity-grid" => noise() - clean,
            "next-state" => x - (noise() - clean) / self.number("steps").expect("steps"),
            "score" => -noise() / sigma,
            "data-velocity" => clean - noise(),
            "scaled-velocity" => direction * (noise() - clean) / self.deviation(),
            "simple-edm" => {
                let norm = alpha.hypot(sigma);
                (alpha / norm * x - norm * clean) / (sigma * self.deviation())
            }
            prediction @ ("edm" | "edm-consistency") => {
                let least = self.number("sigma_min").filter(|_| prediction == "edm-consistency");
                let (above, d) = (sigma - least.unwrap_or(0.0), self.deviation());
                let skip = d * d / (above * above + d * d);
                (clean - skip * x) * sigma.hypot(d) / (above * d)
            }
            other => panic!("no prediction is called {other}"),
        }
    }

    /// What the network answers: the exact estimate of the clean sample, and a known dependence on the second time.
    pub fn evaluate(&self, fed: Point, inputs: &Inputs) -> Point {
        let f = self.answer(fed, inputs, |x, level| expected(x, level).0);
        let second = self.second.map_or(0.0, |second| match second {
            Second::Target => inputs.s,
            Second::Duration => inputs.h,
        });
        let place = self.places.iter().find(|(t, _)| *t == inputs.t).map_or(0.0, |(_, place)| *place);
        let bend = 0.3 * second / self.number("time_scale").unwrap_or(1.0) + 0.2 * place;
        [f[0] + bend * fed[0], f[1] + bend * fed[1]]
    }

    /// What a network answers that has `clean` of the state and its level for the clean sample.
    pub fn answer(&self, fed: Point, inputs: &Inputs, clean: impl Fn(Point, Level) -> Point) -> Point {
        let level = self.level(inputs.t);
        let x = fed.map(|fed| fed / self.scale(level));
        let clean = clean(x, level);
        [0, 1].map(|d| self.output(x[d], clean[d], level))
    }
}
