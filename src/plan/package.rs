//! Writes plan files.

use super::file::{ENTRY, HEAD, Kind, MAGIC, Section, checksum};
use super::{ALIGNMENT, CompiledPlan, Constants, VERSION};
use rkyv::util::AlignedVec;
use std::io::{self, Write};
use std::string::String;
use std::vec::Vec;

/// Weights and the large files of a bundle begin at a page of every system, so that they can be mapped, and dropped again.
const PAGE: usize = 64 << 10;

/// What goes into a plan file: plans of one network for one instruction set, and their constants.
#[derive(Debug, Default)]
pub struct Package {
    /// The network's manifest, archived.
    pub manifest: Option<Vec<u8>>,
    /// What the plans are made of, for people.
    pub origin: String,
    /// Whether the weights are written in small pieces. What is written in one piece, Linux caches in large pages, and from
    /// 6.18 on maps whole where a part is read: fast, but too much where little may be in memory.
    pub in_pieces: bool,
    plans: Vec<AlignedVec>,
    constants: Constants,
}

impl Package {
    /// The constants of the plans so far, for the next one to share.
    pub fn constants(&mut self) -> Constants {
        std::mem::take(&mut self.constants)
    }

    /// Adds a plan that was made with [`Package::constants`].
    ///
    /// # Errors
    /// With the name of an operator that only the compiler's library can run, if the plan has one.
    pub fn add(&mut self, plan: CompiledPlan) -> Result<(), String> {
        if let Some(host) = plan.hosts().first() {
            return Err(host.operator.clone());
        }
        let (metadata, constants) = plan.into_parts();
        self.plans.push(metadata);
        self.constants = constants;
        Ok(())
    }

    /// The number of plans.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Writes the file, from front to back, and returns its length.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<usize> {
        let all: Vec<(Kind, &[u8])> = (self.manifest.iter().map(|own| (Kind::Manifest, &own[..])))
            .chain([(Kind::Origin, self.origin.as_bytes())])
            .chain(self.plans.iter().map(|plan| (Kind::Plan, &plan[..])))
            .chain([(Kind::Weights, self.constants.bytes())])
            .collect();
        write_sections(&all, self.in_pieces, out)
    }
}

/// Writes a file of sections, from front to back, and returns its length.
pub(super) fn write_sections(
    all: &[(Kind, &[u8])],
    in_pieces: bool,
    out: &mut dyn Write,
) -> io::Result<usize> {
    let mut end = HEAD + all.len() * ENTRY;
    let mut table = Vec::with_capacity(all.len() * ENTRY);
    let mut starts = Vec::with_capacity(all.len());
    for &(kind, contents) in all {
        let is_mapped = kind == Kind::Weights || kind == Kind::Member && contents.len() >= PAGE;
        let start = end.next_multiple_of(if is_mapped { PAGE } else { ALIGNMENT });
        end = start + contents.len();
        starts.push(start);
        let section = Section {
            kind: kind as u32,
            offset: start as u64,
            bytes: contents.len() as u64,
            checksum: checksum(contents),
        };
        section.push(&mut table);
    }
    let mut head = Vec::with_capacity(HEAD);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((all.len() as u32).to_le_bytes());
    head.extend((end as u64).to_le_bytes());
    head.extend(checksum(&table).to_le_bytes());
    head.resize(HEAD, 0);
    out.write_all(&head)?;
    out.write_all(&table)?;
    let mut at = HEAD + table.len();
    for (start, (_, contents)) in starts.into_iter().zip(all) {
        io::copy(&mut io::Read::take(io::repeat(0), (start - at) as u64), out)?;
        let piece = if in_pieces { PAGE } else { contents.len().max(1) };
        for contents in contents.chunks(piece) {
            out.write_all(contents)?;
        }
        at = start + contents.len();
    }
    Ok(end)
}

impl Section {
    fn push(&self, table: &mut Vec<u8>) {
        table.extend(self.kind.to_le_bytes());
        table.extend([0; 4]);
        for number in [self.offset, self.bytes, self.checksum] {
            table.extend(number.to_le_bytes());
        }
    }
}
