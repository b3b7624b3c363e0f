"""Multiply-adds a cycle of the innermost loops in AArch64 assembly, by llvm-mca. Run by mca.sh.

The peak is what the core has by Arm's optimization guides, or what llvm-mca reaches on nothing but independent FMLAs if
that is less: LLVM takes Cortex-A57's timing for Cortex-A76, which has half of its pipes. Neoverse N1 is the same core as
Cortex-A76 and has timing of its own. For Cortex-A55, whose pipes are 64 bits wide, LLVM believes in two 128-bit FMLAs a
cycle; the guide's one counts as the peak, but the cycles are LLVM's and so too few: what a loop waits for loads, it makes good.

A tile that widens halves spends the pipes that multiply on that as well, and has no bound.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ITERATIONS = 200


@dataclass
class Core:
    name: str
    # 128-bit FMLAs a cycle.
    peak: float
    # The least part of the peak that a full tile is to reach, if all it does is multiply.
    bound: float


CORES = [Core("cortex-a76", 2, 0.90), Core("neoverse-n1", 2, 0.90), Core("neoverse-v1", 4, 0.90), Core("cortex-a55", 1, 0.85)]


@dataclass
class Tile:
    kernel: str
    rows: int
    vectors: int
    loop: list[str]

    def fmlas(self):
        return sum("fmla" in line for line in self.loop)

    def widens(self):
        return any("fcvtl" in line for line in self.loop)

    def form(self):
        """Type of the lanes of its multiply-adds."""
        return next(re.search(r"fmla\s+v\d+\.(\d+\w)", line)[1] for line in self.loop if "fmla" in line)


def innermost(body):
    """Loops without a label in them: from the target of a backward branch to the branch."""
    labels = {line[:-1]: i for i, line in enumerate(body) if re.fullmatch(r"\.L\w+:", line)}
    for end, line in enumerate(body):
        branch = re.match(r"\s+(?:b|b\.\w+|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)
        begin = labels.get(branch[1], end) if branch else end
        if begin < end and not any(line.startswith(".L") for line in body[begin + 1 : end]):
            yield body[begin + 1 : end + 1]


def tiles(assembly):
    """The tile kernels, those of a full panel and the most rows first."""
    found = []
    # v0 mangling: the length of the name, the name, and the generic arguments as hexadecimal numbers.
    for symbol, text in re.findall(r"^(_R\S*tile\S*):\n(.*?)^\.Lfunc_end", assembly, re.M | re.S):
        sizes = re.search(r"\d([a-z_]*tile)Kj([0-9a-f]+)_Kj([0-9a-f]+)_", symbol)
        loops = [loop for loop in innermost(text.split("\n")) if any("fmla" in line for line in loop)]
        if sizes and loops:
            loop = max(loops, key=lambda loop: sum("fmla" in line for line in loop))
            found.append(Tile(sizes[1], int(sizes[2], 16), int(sizes[3], 16), loop))
    return sorted(found, key=lambda tile: (tile.kernel, -tile.vectors, -tile.rows))


def cycles(mca, core, lines):
    """Of one iteration."""
    words = [mca, "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+fullfp16", f"-iterations={ITERATIONS}"]
    done = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{mca}: {done.stderr.strip()}")
    return int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / ITERATIONS


def peak(mca, core, form):
    """FMLAs a cycle."""
    # The element's register is one of the first sixteen, where lanes are halves.
    chains = [f"fmla v{i}.{form}, v0.{form}, v1.{form[-1]}[0]" for i in range(8, 32)]
    return min(core.peak, len(chains) / cycles(mca, core.name, chains))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assembly", type=Path)
    parser.add_argument("--mca", default="llvm-mca")
    parser.add_argument("--core", choices=[core.name for core in CORES], help="only this one")
    parser.add_argument("--all", action="store_true", help="the tiles at the edges too, not only the full one of each kernel")
    args = parser.parse_args()
    found = tiles(args.assembly.read_text())
    if not found:
        sys.exit(f"{args.assembly}: no loop of a tile has FMLAs")
    full = list({(tile.kernel, tile.form()): tile for tile in reversed(found)}.values())
    print("| tile | core | instructions | cycles | FMLA a cycle | peak | of it | bound |\n|---|---|---|---|---|---|---|---|")
    short = False
    for tile in found if args.all else full:
        for core in (core for core in CORES if args.core in (None, core.name)):
            taken = cycles(args.mca, core.name, tile.loop)
            reached, most = tile.fmlas() / taken, peak(args.mca, core, tile.form())
            bounded = tile in full and not tile.widens()
            bound = f"{core.bound:.0%}" if bounded else ""
            short |= bounded and reached < core.bound * most
            shape = f"{tile.kernel} {tile.rows}x{tile.vectors} {tile.form()}"
            cells = [shape, core.name, len(tile.loop), f"{taken:.1f}", f"{reached:.2f}", f"{most:.2f}", f"{reached / most:.0%}", bound]
            print(f"| {' | '.join(str(cell) for cell in cells)} |")
    sys.exit("a full tile is below its bound" if short else 0)


if __name__ == "__main__":
    main()
