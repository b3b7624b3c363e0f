//! The names of ARM cores, by the register in which a core says what it is (MIDR_EL1).
#![forbid(unsafe_code)]

use super::tree::Tree;

/// Implementer and part, as in Linux's `arch/arm64/include/asm/cputype.h`.
const NAMES: &[(u32, u32, &str)] = &[
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd04, "Cortex-A35"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd07, "Cortex-A57"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd09, "Cortex-A73"),
    (0x41, 0xd0a, "Cortex-A75"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0c, "Neoverse-N1"),
    (0x41, 0xd0d, "Cortex-A77"),
    (0x41, 0xd0e, "Cortex-A76AE"),
    (0x41, 0xd40, "Neoverse-V1"),
    (0x41, 0xd41, "Cortex-A78"),
    (0x41, 0xd42, "Cortex-A78AE"),
    (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd46, "Cortex-A510"),
    (0x41, 0xd47, "Cortex-A710"),
    (0x41, 0xd48, "Cortex-X2"),
    (0x41, 0xd49, "Neoverse-N2"),
    (0x41, 0xd4b, "Cortex-A78C"),
    (0x41, 0xd4c, "Cortex-X1C"),
    (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd4e, "Cortex-X3"),
    (0x41, 0xd4f, "Neoverse-V2"),
    (0x41, 0xd80, "Cortex-A520"),
    (0x41, 0xd81, "Cortex-A720"),
    (0x41, 0xd82, "Cortex-X4"),
    (0x41, 0xd83, "Neoverse-V3AE"),
    (0x41, 0xd84, "Neoverse-V3"),
    (0x41, 0xd85, "Cortex-X925"),
    (0x41, 0xd87, "Cortex-A725"),
    (0x41, 0xd8e, "Neoverse-N3"),
    (0x4e, 0x003, "Denver 2"),
    (0x4e, 0x004, "Carmel"),
    (0x51, 0x001, "Oryon"),
    (0x51, 0x802, "Kryo 385 Gold"),
    (0x51, 0x803, "Kryo 385 Silver"),
    (0x51, 0x804, "Kryo 485 Gold"),
    (0x51, 0x805, "Kryo 485 Silver"),
    (0x61, 0x022, "Icestorm (M1)"),
    (0x61, 0x023, "Firestorm (M1)"),
    (0x61, 0x032, "Blizzard (M2)"),
    (0x61, 0x033, "Avalanche (M2)"),
    (0xc0, 0xac3, "Ampere-1"),
    (0xc0, 0xac4, "Ampere-1A"),
];

/// The name of a core, or what it says of itself if that is not in the table; `None` if it is no ARM core.
pub fn name(tree: &Tree, cpu: usize, path: &str) -> Option<String> {
    let (implementer, part) = registers(tree, path).or_else(|| cpuinfo(tree, cpu))?;
    let known = NAMES.iter().find(|(by, own, _)| (*by, *own) == (implementer, part));
    let unknown = || format!("implementer {implementer:#x} part {part:#x}");
    Some(known.map_or_else(unknown, |(_, _, name)| name.to_string()))
}

fn registers(tree: &Tree, path: &str) -> Option<(u32, u32)> {
    let midr = u64::from_str_radix(
        tree.text(&format!("{path}/regs/identification/midr_el1"))?.strip_prefix("0x")?,
        16,
    );
    let midr = midr.ok()? as u32;
    Some((midr >> 24, (midr >> 4) & 0xfff))
}

/// One paragraph a CPU.
fn cpuinfo(tree: &Tree, cpu: usize) -> Option<(u32, u32)> {
    let text = tree.text("proc/cpuinfo")?;
    let field = |paragraph: &str, name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_string())
    };
    let own =
        |paragraph: &&str| field(paragraph, "processor").is_some_and(|number| number.parse() == Ok(cpu));
    let paragraph = text.split("\n\n").find(own)?;
    let number = |name| u32::from_str_radix(field(paragraph, name)?.strip_prefix("0x")?, 16).ok();
    Some((number("CPU implementer")?, number("CPU part")?))
}

#[cfg(test)]
mod tests {
    use super::super::boards::Board;
    use super::*;

    #[test]
    fn a_core_that_is_not_in_the_table_says_what_it_is() {
        let board = Board::new(&[("cpu0/regs/identification/midr_el1", "0x00000000460f0010\n")]);
        assert_eq!(name(&board.tree(), 0, "cpu0").as_deref(), Some("implementer 0x46 part 0x1"));
        assert_eq!(name(&board.tree(), 1, "cpu1"), None);
    }
}
