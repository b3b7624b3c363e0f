//! Temperatures, by Linux's thermal zones or, where there are none, its hardware monitors.
#![forbid(unsafe_code)]

use super::tree::Tree;
use serde::Serialize;

#[derive(Debug, Serialize, PartialEq)]
pub struct Temperature {
    pub sensor: String,
    pub celsius: f64,
}

/// What no part of a computer that runs is at: some sensors say so when they are off.
const SANE: std::ops::Range<f64> = -40.0..150.0;
/// Sensors of the CPU have one of these in their names.
const CPU: [&str; 7] = ["cpu", "soc", "pkg", "core", "package", "tctl", "k10temp"];

pub fn temperatures(tree: &Tree) -> Vec<Temperature> {
    let zones = thermal_zones(tree);
    if zones.is_empty() { monitors(tree) } else { zones }
}

/// The hottest of the CPU's sensors; of all if no name says that it is the CPU's.
pub fn hottest_celsius(tree: &Tree) -> Option<f64> {
    let all = temperatures(tree);
    let is_cpu = |found: &&Temperature| CPU.iter().any(|name| found.sensor.to_lowercase().contains(name));
    let hottest =
        |found: &mut dyn Iterator<Item = &Temperature>| found.map(|found| found.celsius).reduce(f64::max);
    hottest(&mut all.iter().filter(is_cpu)).or_else(|| hottest(&mut all.iter()))
}

fn thermal_zones(tree: &Tree) -> Vec<Temperature> {
    let zones = tree.numbered("sys/class/thermal", "thermal_zone");
    let zone = |(_, path): (usize, String)| {
        temperature(tree, tree.text(&format!("{path}/type"))?, &format!("{path}/temp"))
    };
    zones.into_iter().filter_map(zone).collect()
}

fn monitors(tree: &Tree) -> Vec<Temperature> {
    let mut found = Vec::new();
    for (_, path) in tree.numbered("sys/class/hwmon", "hwmon") {
        let Some(name) = tree.text(&format!("{path}/name")) else { continue };
        // Ten are more than a CPU's monitor says apart from its cores.
        found.extend((1..=10).filter_map(|index| {
            let label = tree.text(&format!("{path}/temp{index}_label"));
            let sensor = label.map_or_else(|| name.clone(), |label| format!("{name} {label}"));
            temperature(tree, sensor, &format!("{path}/temp{index}_input"))
        }));
    }
    found
}

/// Of a file in thousandths of a degree.
fn temperature(tree: &Tree, sensor: String, path: &str) -> Option<Temperature> {
    let celsius = tree.number::<f64>(path)? / 1e3;
    SANE.contains(&celsius).then_some(Temperature { sensor, celsius })
}

#[cfg(test)]
mod tests {
    use super::super::boards;
    use super::*;

    #[test]
    fn zones_come_first_and_sensors_that_are_off_are_left_out() {
        let found = temperatures(&boards::phone().tree());
        let found: Vec<_> = found.iter().map(|found| (found.sensor.as_str(), found.celsius)).collect();
        assert_eq!(found, [("battery", 55.0), ("cpu-0-0", 41.2), ("cpu-1-0", 48.7)]);
        assert_eq!(hottest_celsius(&boards::phone().tree()), Some(48.7));
    }

    #[test]
    fn monitors_tell_where_there_are_no_zones() {
        let found = temperatures(&boards::server().tree());
        let expected = Temperature { sensor: "coretemp Package id 0".into(), celsius: 61.0 };
        assert_eq!(found[1], expected);
        // The disk is hotter, and no part of the CPU.
        assert_eq!(hottest_celsius(&boards::server().tree()), Some(61.0));
    }
}
