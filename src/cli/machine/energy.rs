//! What a machine takes of energy, where a sensor tells: counters of Intel's and AMD's CPUs (RAPL), hardware monitors with
//! energy or power, and the power monitors on boards (INA2xx, INA3221).
#![forbid(unsafe_code)]

use super::tree::Tree;
use std::time::{Duration, Instant};

/// Between two readings. What a board's monitor says is a mean over about as long.
const INTERVAL: Duration = Duration::from_millis(100);
/// Hardware monitors whose power is the computer's or the CPU's, by the beginning of their names.
const POWER: [&str; 6] = ["ina", "power_meter", "fam15h_power", "zenpower", "sbrmi", "scmi_sensors"];
/// Where a board's whole power passes: its other rails are behind these.
const SUPPLIES: [&str; 4] = ["VDD_IN", "POM_5V_IN", "VIN", "VBUS"];

/// Why there is no [`Meter`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMeter {
    #[error("no sensor")]
    Missing,
    #[error("/{0} may not be read by this user")]
    Refused(String),
}

/// A sensor, and what it has counted since the start.
pub struct Meter {
    tree: Tree,
    pub sensor: String,
    source: Source,
    start: Instant,
    last: Instant,
    joules: f64,
}

enum Source {
    /// Files that count millionths of a joule.
    Counters(Vec<Counter>),
    Power(Vec<Power>),
}

struct Counter {
    path: String,
    last: u64,
    /// Where it begins again at zero.
    range: u64,
}

enum Power {
    /// A file in millionths of a watt.
    Watts(String),
    /// Files in thousandths of a volt and of an ampere.
    VoltsAmperes([String; 2]),
}

/// What a meter has counted: of all that its sensor covers, whoever used it.
#[derive(Clone, Copy, Debug)]
pub struct Energy {
    pub seconds: f64,
    pub joules: f64,
}

impl Meter {
    /// The first sensor that there is; it counts from now.
    ///
    /// # Errors
    /// If there is none, or it is not shown to this user.
    pub fn start(tree: &Tree) -> Result<Meter, NoMeter> {
        let found = rapl(tree)?.or_else(|| monitored_energy(tree)).or_else(|| monitored_power(tree));
        let (sensor, source) = found.ok_or(NoMeter::Missing)?;
        let now = Instant::now();
        Ok(Meter { tree: tree.clone(), sensor, source, start: now, last: now, joules: 0.0 })
    }

    /// To be called between the runs: reads the sensor if it is time.
    pub fn tick(&mut self) {
        if self.last.elapsed() >= INTERVAL {
            self.read();
        }
    }

    pub fn stop(mut self) -> Energy {
        self.read();
        Energy { seconds: (self.last - self.start).as_secs_f64(), joules: self.joules }
    }

    /// Of the time until now: what it takes to read is of the next time.
    fn read(&mut self) {
        let now = Instant::now();
        let passed = now - self.last;
        self.last = now;
        self.joules += match &mut self.source {
            Source::Counters(counters) => {
                counters.iter_mut().map(|counter| counter.joules(&self.tree)).sum::<f64>()
            }
            Source::Power(rails) => {
                rails.iter().filter_map(|rail| rail.watts(&self.tree)).sum::<f64>() * passed.as_secs_f64()
            }
        };
    }
}

impl Counter {
    fn new(tree: &Tree, path: String, range: u64) -> Option<Counter> {
        Some(Counter { last: tree.number(&path)?, path, range })
    }

    /// Since the last time.
    fn joules(&mut self, tree: &Tree) -> f64 {
        let Some(now) = tree.number::<u64>(&self.path) else { return 0.0 };
        let counted =
            if now >= self.last { now - self.last } else { (self.range - self.last.min(self.range)) + now };
        self.last = now;
        counted as f64 / 1e6
    }
}

impl Power {
    fn watts(&self, tree: &Tree) -> Option<f64> {
        match self {
            Power::Watts(path) => Some(tree.number::<f64>(path)? / 1e6),
            Power::VoltsAmperes([volts, amperes]) => {
                Some(tree.number::<f64>(volts)? * tree.number::<f64>(amperes)? / 1e6)
            }
        }
    }
}

/// The packages of the CPU; their parts are counted in them.
fn rapl(tree: &Tree) -> Result<Option<(String, Source)>, NoMeter> {
    let mut counters = Vec::new();
    for (_, zone) in tree.numbered("sys/class/powercap", "intel-rapl:") {
        let name = tree.text(&format!("{zone}/name")).unwrap_or_default();
        let path = format!("{zone}/energy_uj");
        if !name.starts_with("package") || !tree.has(&path) {
            continue;
        }
        let range = tree.number(&format!("{zone}/max_energy_range_uj")).unwrap_or(u64::MAX);
        counters.push(Counter::new(tree, path.clone(), range).ok_or(NoMeter::Refused(path))?);
    }
    let found = (!counters.is_empty()).then(|| ("RAPL, CPU package".into(), Source::Counters(counters)));
    Ok(found)
}

/// `amd_energy` and its like: sockets, of which the cores are a part.
fn monitored_energy(tree: &Tree) -> Option<(String, Source)> {
    for (_, path) in tree.numbered("sys/class/hwmon", "hwmon") {
        let label = |index| tree.text(&format!("{path}/energy{index}_label")).unwrap_or_default();
        let counter = |index| Counter::new(tree, format!("{path}/energy{index}_input"), u64::MAX);
        let counters: Vec<_> =
            (1..=512).filter(|&index| !label(index).starts_with("Ecore")).filter_map(counter).collect();
        if !counters.is_empty() {
            return Some((
                tree.text(&format!("{path}/name")).unwrap_or_default(),
                Source::Counters(counters),
            ));
        }
    }
    None
}

/// All rails of the first monitor that has any, or only its supply.
fn monitored_power(tree: &Tree) -> Option<(String, Source)> {
    for (_, path) in tree.numbered("sys/class/hwmon", "hwmon") {
        let name = tree.text(&format!("{path}/name")).unwrap_or_default();
        if !POWER.iter().any(|known| name.starts_with(known)) {
            continue;
        }
        let mut rails: Vec<(String, Power)> = (1..=8).filter_map(|index| rail(tree, &path, index)).collect();
        if let Some(supply) =
            rails.iter().position(|(label, _)| SUPPLIES.iter().any(|own| label.starts_with(own)))
        {
            rails = vec![rails.swap_remove(supply)];
        }
        if !rails.is_empty() {
            let labels = rails.iter().map(|(label, _)| label.as_str()).filter(|label| !label.is_empty());
            let labels: Vec<_> = labels.collect();
            let sensor = format!("{name} {}", labels.join(" + ")).trim_end().to_string();
            return Some((sensor, Source::Power(rails.into_iter().map(|(_, rail)| rail).collect())));
        }
    }
    None
}

/// A channel with its power or, as INA3221 has it, its voltage and current.
fn rail(tree: &Tree, path: &str, index: usize) -> Option<(String, Power)> {
    let file = |kind: &str, what: &str| format!("{path}/{kind}{index}_{what}");
    let readable = |path: &String| tree.number::<f64>(path).is_some();
    let label =
        ["power", "in"].into_iter().find_map(|kind| tree.text(&file(kind, "label"))).unwrap_or_default();
    let watts =
        ["input", "average"].map(|what| file("power", what)).into_iter().find(readable).map(Power::Watts);
    let pair = || Some([file("in", "input"), file("curr", "input")]).filter(|pair| pair.iter().all(readable));
    // INA3221 counts the sum of its channels' shunts as one more.
    let power = watts.or_else(|| pair().filter(|_| index <= 3).map(Power::VoltsAmperes))?;
    Some((label, power))
}

#[cfg(test)]
mod tests {
    use super::super::boards::{self, Board};
    use super::*;

    /// What is counted while a board changes.
    fn counted(board: &Board, change: impl FnOnce()) -> (String, Energy) {
        let meter = Meter::start(&board.tree()).expect("a sensor");
        let sensor = meter.sensor.clone();
        std::thread::sleep(Duration::from_millis(20));
        change();
        (sensor, meter.stop())
    }

    #[test]
    fn packages_are_counted_and_their_parts_are_not() {
        let board = boards::server();
        let rapl = "sys/class/powercap/intel-rapl";
        let (sensor, energy) = counted(&board, || {
            board.write(&format!("{rapl}:0/energy_uj"), "4000000\n");
            // Begins again, at ten joules.
            board.write(&format!("{rapl}:1/energy_uj"), "1000000\n");
        });
        assert_eq!(sensor, "RAPL, CPU package");
        assert_eq!(energy.joules, 3.0 + 2.0);
    }

    #[test]
    fn a_supply_is_all_of_a_board() {
        let (sensor, energy) = counted(&boards::jetson_orin(), || ());
        assert_eq!(sensor, "ina3221 VDD_IN");
        // 5 V and 2 A.
        let watts = energy.joules / energy.seconds;
        assert!((watts - 10.0).abs() < 1e-9, "{watts}");
    }

    #[test]
    fn rails_without_a_supply_are_added() {
        let path = "sys/class/hwmon/hwmon3";
        let (name, one, two) =
            (format!("{path}/name"), format!("{path}/power1_input"), format!("{path}/power2_input"));
        let board = Board::new(&[(&name, "ina226"), (&one, "3000000"), (&two, "1000000")]);
        let (sensor, energy) = counted(&board, || ());
        assert_eq!(sensor, "ina226");
        let watts = energy.joules / energy.seconds;
        assert!((watts - 4.0).abs() < 1e-9, "{watts}");
    }

    #[test]
    fn there_is_no_meter_without_a_sensor_or_with_one_that_is_hidden() {
        assert_eq!(Meter::start(&boards::raspberry_pi_5().tree()).err(), Some(NoMeter::Missing));
        let zone = "sys/class/powercap/intel-rapl:0";
        let (name, energy) = (format!("{zone}/name"), format!("{zone}/energy_uj"));
        // Nothing to be read, as where the system refuses.
        let board = Board::new(&[(&name, "package-0"), (&energy, "")]);
        assert_eq!(Meter::start(&board.tree()).err(), Some(NoMeter::Refused(energy)));
    }
}
