//! What a machine is, as far as Linux tells: board, kernel, memory, CPU features, kinds of cores.
#![forbid(unsafe_code)]

use super::clusters::Cluster;
use super::sensors::{self, Temperature};
use super::tree::Tree;
use serde::Serialize;

/// `null` or empty where the system does not tell.
#[derive(Serialize)]
pub struct Facts {
    /// The device tree's model, or vendor and product as DMI has them.
    pub board: Option<String>,
    pub kernel: Option<String>,
    pub memory_bytes: Option<u64>,
    /// Of those that matter to kernels, by their usual names.
    pub cpu_features: Vec<&'static str>,
    /// Kinds of cores, in the order of their first CPU: more than one on big.LITTLE and hybrid CPUs.
    pub clusters: Vec<Cluster>,
    pub temperatures: Vec<Temperature>,
}

/// Linux's names in `/proc/cpuinfo`, and the usual ones.
const FEATURES: &[(&str, &str)] = &[
    ("asimd", "neon"),
    ("asimdhp", "fp16"),
    ("asimddp", "dotprod"),
    ("i8mm", "i8mm"),
    ("bf16", "bf16"),
    ("sve", "sve"),
    ("sve2", "sve2"),
    ("sme", "sme"),
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("f16c", "f16c"),
    ("avx_vnni", "avx-vnni"),
    ("avx512f", "avx512f"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx512_bf16", "avx512-bf16"),
    ("avx512_fp16", "avx512-fp16"),
    ("amx_tile", "amx"),
];

impl Facts {
    pub fn read(tree: &Tree) -> Facts {
        let memory = tree.field("proc/meminfo", "MemTotal");
        let kilobytes = memory.and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
        Facts {
            board: board(tree),
            kernel: tree.text("proc/sys/kernel/osrelease"),
            memory_bytes: kilobytes.and_then(|kilobytes| kilobytes.checked_mul(1024)),
            cpu_features: cpu_features(tree),
            clusters: Cluster::all(tree),
            temperatures: sensors::temperatures(tree),
        }
    }
}

pub fn board(tree: &Tree) -> Option<String> {
    let model = ["proc/device-tree/model", "sys/firmware/devicetree/base/model"];
    let product = || {
        let parts = ["sys_vendor", "product_name"].map(|part| tree.text(&format!("sys/class/dmi/id/{part}")));
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        Some(parts.join(" ")).filter(|parts| !parts.is_empty())
    };
    model.into_iter().find_map(|path| tree.text(path)).or_else(product)
}

/// Linux lists what all cores have.
fn cpu_features(tree: &Tree) -> Vec<&'static str> {
    let listed = ["Features", "flags"].into_iter().find_map(|name| tree.field("proc/cpuinfo", name));
    let listed = listed.unwrap_or_default();
    let has = |linux: &str| listed.split_whitespace().any(|own| own == linux);
    FEATURES.iter().filter(|(linux, _)| has(linux)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::boards;
    use super::*;

    #[test]
    fn boards_are_told_by_device_tree_or_dmi() {
        let of = |board: &boards::Board| Facts::read(&board.tree());
        let pi = of(&boards::raspberry_pi_5());
        assert_eq!(pi.board.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(pi.kernel.as_deref(), Some("6.6.31+rpt-rpi-2712"));
        assert_eq!(pi.memory_bytes, Some(8_257_280 * 1024));
        assert_eq!(pi.cpu_features, ["neon", "fp16", "dotprod"]);
        assert_eq!(of(&boards::phone()).cpu_features, ["neon", "fp16", "dotprod", "i8mm", "bf16", "sve2"]);
        let server = of(&boards::server());
        assert_eq!(server.board.as_deref(), Some("Dell Inc. PowerEdge R650"));
        assert_eq!(server.cpu_features, ["avx2", "fma", "f16c", "avx512f", "avx512-fp16"]);
    }

    #[test]
    fn nothing_is_told_where_there_are_no_files() {
        let facts = Facts::read(&boards::Board::new(&[]).tree());
        assert!(facts.board.is_none() && facts.kernel.is_none() && facts.memory_bytes.is_none());
        assert!(facts.cpu_features.is_empty() && facts.clusters.is_empty() && facts.temperatures.is_empty());
    }
}
