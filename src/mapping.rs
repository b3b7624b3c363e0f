//! Files mapped into memory, so that weights are pages that the system can share and drop.

use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// What ranges are cut to before their pages are dropped, in bytes: whole pages on every system. Linux maps a file in
/// pieces of this size as well, so that a finer cut would drop no more.
const BLOCK: usize = 64 << 10;

/// Pages are at least this large.
const SMALLEST_PAGE: usize = 4 << 10;

/// Zeros to work on, which take no memory before they are first touched.
#[derive(Debug)]
pub struct Scratch(Option<MmapMut>);

impl Scratch {
    /// So many bytes, at the beginning of a page.
    ///
    /// # Errors
    /// If the system does not give them.
    pub fn new(bytes: usize) -> io::Result<Scratch> {
        if bytes == 0 {
            return Ok(Scratch(None));
        }
        let map = MmapMut::map_anon(bytes)?;
        system::large_pages(&map);
        Ok(Scratch(Some(map)))
    }
}

impl std::ops::Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

/// Gives memory that was allocated and freed back to the system, where its allocator (glibc's) keeps it otherwise.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: any thread may call it at any time; it touches no memory that is in use.
        unsafe { malloc_trim(0) };
    }
}

/// A file's contents.
#[derive(Debug, Default)]
pub struct Bytes(Option<Mmap>);

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Maps a file, read only.
///
/// # Errors
/// If it can not be opened, or is no regular file.
pub fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    map_file(&file)
}

/// Maps an open file as far as it goes now, read only.
///
/// # Errors
/// If the system does not map it.
pub fn map_file(file: &File) -> io::Result<Bytes> {
    map_part(file, 0..file.metadata()?.len())
}

/// Maps a part of an open file, read only.
///
/// # Errors
/// If the file ends before, or the system does not map it.
pub fn map_part(file: &File, part: Range<u64>) -> io::Result<Bytes> {
    let length = part.end.saturating_sub(part.start);
    if part.end > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if length == 0 {
        return Ok(Bytes(None));
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the map is read only. As with every memory-mapped weight file, whoever truncates or rewrites it while it is
    // in use breaks the program that uses it; files are replaced by renaming instead.
    let map = unsafe { MmapOptions::new().offset(part.start).len(length).map(file)? };
    Ok(Bytes(Some(map)))
}

/// Advice to the system on when the contents are in memory. They are the same with it and without.
impl Bytes {
    /// Brings all pages in, so that no later read waits for the disk or takes a page fault, unless memory gets scarce.
    ///
    /// # Errors
    /// If the file cannot be read, on Linux 5.14 and later. Elsewhere that ends the process, as when a page is read later.
    pub fn prefault(&self) -> io::Result<()> {
        let Some(map) = &self.0 else { return Ok(()) };
        system::populate(map).unwrap_or_else(|| {
            touch(map);
            Ok(())
        })
    }

    /// Brings all pages in and keeps them in memory for as long as the file is mapped.
    ///
    /// # Errors
    /// If the process may not lock so much memory (on Linux `ulimit -l`, or `RLIMIT_MEMLOCK`, which is 8 MiB by default), or
    /// the system locks none.
    pub fn lock(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), system::lock)
    }

    /// The contents will be read from front to back, and be dropped piece by piece: the system reads further ahead, and maps
    /// no large pages, of which only a part may be wanted.
    pub fn streamed(&self) {
        if let Some(map) = &self.0 {
            system::streamed(map);
        }
    }

    /// A range will be read soon: the system starts to read it from the disk, and does not wait until it is there.
    pub fn will_need(&self, range: Range<usize>) {
        let range = clamp(range, self.len());
        if let Some(map) = self.0.as_ref().filter(|_| !range.is_empty()) {
            system::will_need(map, range);
        }
    }

    /// The pages that lie inside of a range leave this process's memory; locked ones stay. When they are read again they come
    /// from the system's cache of the file, or from the disk. A block of 64 KiB that is in the range in part is left out.
    pub fn drop_pages(&self, range: Range<usize>) {
        let range = blocks_inside(range, self.len());
        if let Some(map) = self.0.as_ref().filter(|_| !range.is_empty()) {
            system::drop_pages(map, range);
        }
    }
}

fn clamp(range: Range<usize>, len: usize) -> Range<usize> {
    let end = range.end.min(len);
    range.start.min(end)..end
}

/// The whole blocks of a range. The last block of a file ends where that does.
fn blocks_inside(range: Range<usize>, len: usize) -> Range<usize> {
    let range = clamp(range, len);
    let end = if range.end == len { len } else { range.end / BLOCK * BLOCK };
    range.start.div_ceil(BLOCK).saturating_mul(BLOCK).min(end)..end
}

/// Reads a byte of every page.
fn touch(bytes: &[u8]) {
    for page in bytes.chunks(SMALLEST_PAGE) {
        std::hint::black_box(page[0]);
    }
}

/// Advice is a hint: the system need not follow it, and where it does not, all works the same, more slowly.
#[cfg(unix)]
mod system {
    use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};
    use std::{io, ops::Range};

    /// `None` where the system cannot.
    pub fn populate(map: &Mmap) -> Option<io::Result<()>> {
        #[cfg(target_os = "linux")]
        match map.advise(Advice::PopulateRead) {
            // Linux before 5.14 does not know this advice.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            result => Some(result),
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = map;
            None
        }
    }

    /// Fewer page faults and fewer misses of address translation; small memory would only be rounded up.
    pub fn large_pages(map: &MmapMut) {
        #[cfg(target_os = "linux")]
        if map.len() >= 8 << 20 {
            map.advise(Advice::HugePage).ok();
        }
        #[cfg(not(target_os = "linux"))]
        let _ = map;
    }

    pub fn lock(map: &Mmap) -> io::Result<()> {
        map.lock()
    }

    pub fn streamed(map: &Mmap) {
        map.advise(Advice::Sequential).ok();
        #[cfg(target_os = "linux")]
        map.advise(Advice::NoHugePage).ok();
    }

    pub fn will_need(map: &Mmap, range: Range<usize>) {
        map.advise_range(Advice::WillNeed, range.start, range.len()).ok();
    }

    pub fn drop_pages(map: &Mmap, range: Range<usize>) {
        // SAFETY: what makes this advice dangerous is that anonymous and changed pages lose their contents. These are pages
        // of a file, mapped read only, and a page that is read again is read from the file: whoever holds a slice of
        // them sees the same bytes.
        unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) }.ok();
    }
}

#[cfg(not(unix))]
mod system {
    use memmap2::{Mmap, MmapMut};
    use std::{io, ops::Range};

    pub fn populate(_: &Mmap) -> Option<io::Result<()>> {
        None
    }

    pub fn large_pages(_: &MmapMut) {}

    pub fn lock(_: &Mmap) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn streamed(_: &Mmap) {}

    pub fn will_need(_: &Mmap, _: Range<usize>) {}

    pub fn drop_pages(_: &Mmap, _: Range<usize>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, vec::Vec};

    fn contents(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn mapped(contents: &[u8]) -> (tempfile::TempDir, Bytes) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, contents).unwrap();
        let bytes = map(&path).unwrap();
        (folder, bytes)
    }

    #[test]
    fn ranges_are_cut_to_whole_blocks() {
        let len = 10 * BLOCK + 5;
        for (range, expected) in [
            (0..len, 0..len),
            (0..usize::MAX, 0..len),
            (1..len, BLOCK..len),
            (BLOCK..3 * BLOCK, BLOCK..3 * BLOCK),
            (BLOCK + 1..3 * BLOCK - 1, 2 * BLOCK..2 * BLOCK),
            (1..len - 1, BLOCK..10 * BLOCK),
            (10 * BLOCK..len, 10 * BLOCK..len),
            (len - 1..len, len..len),
            (usize::MAX..usize::MAX, len..len),
            (7..7, 0..0),
        ] {
            assert_eq!(blocks_inside(range.clone(), len), expected, "{range:?}");
        }
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = blocks_inside(5 * BLOCK..BLOCK, len);
        assert!(reversed.is_empty());
    }

    #[test]
    fn advice_changes_no_contents() {
        for len in [0, 1, BLOCK, 5 * BLOCK + 3] {
            let contents = contents(len);
            let (_folder, bytes) = mapped(&contents);
            bytes.streamed();
            for range in [0..len, 0..usize::MAX, len..len + 1, 1..len.max(1)] {
                bytes.will_need(range.clone());
                bytes.drop_pages(range);
                assert!(*bytes == *contents);
                bytes.prefault().unwrap();
                assert!(*bytes == *contents);
            }
        }
    }

    #[test]
    fn what_is_no_file_is_not_mapped() {
        let folder = tempfile::tempdir().unwrap();
        map(folder.path()).unwrap_err();
        assert_eq!(map(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// What Linux says that it does.
    #[cfg(target_os = "linux")]
    mod linux {
        use super::*;
        use std::{format, process::Command, string::String};

        const LEN: usize = 16 * BLOCK;

        /// A line of the map's entry in a list of all maps.
        fn entry(bytes: &Bytes, name: &str) -> String {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let first = format!("{:x}-", bytes.as_ptr() as usize);
            let mut lines = maps.lines().skip_while(|line| !line.starts_with(&first));
            lines.find_map(|line| line.strip_prefix(name)).unwrap().trim().into()
        }

        fn kilobytes(bytes: &Bytes, name: &str) -> usize {
            entry(bytes, name).strip_suffix(" kB").unwrap().parse().unwrap()
        }

        fn resident(bytes: &Bytes) -> usize {
            kilobytes(bytes, "Rss:") << 10
        }

        #[test]
        fn pages_come_and_go() {
            let contents = contents(LEN);
            let (_folder, bytes) = mapped(&contents);
            assert_eq!(resident(&bytes), 0);
            bytes.prefault().unwrap();
            assert_eq!(resident(&bytes), LEN);
            bytes.drop_pages(1..LEN - 1);
            assert_eq!(resident(&bytes), 2 * BLOCK);
            bytes.drop_pages(0..LEN);
            assert_eq!(resident(&bytes), 0);
            assert!(*bytes == *contents);
            assert_eq!(resident(&bytes), LEN);
            bytes.drop_pages(0..LEN);
            touch(&bytes);
            assert_eq!(resident(&bytes), LEN);
        }

        #[test]
        fn locked_pages_stay() {
            // As much as any user may lock on old systems too.
            let (_folder, bytes) = mapped(&contents(BLOCK));
            bytes.lock().unwrap();
            assert_eq!(kilobytes(&bytes, "Locked:") << 10, BLOCK);
            bytes.drop_pages(0..BLOCK);
            assert_eq!(resident(&bytes), BLOCK);
        }

        #[test]
        fn the_system_is_told_of_reads_in_passing() {
            let (_folder, bytes) = mapped(&contents(LEN));
            let told = || entry(&bytes, "VmFlags:").split(' ').any(|flag| flag == "sr");
            assert!(!told());
            bytes.streamed();
            assert!(told());
        }

        #[test]
        fn what_will_be_needed_is_read() {
            let (folder, bytes) = mapped(&contents(LEN));
            let path = folder.path().join("file");
            File::open(&path).unwrap().sync_all().unwrap();
            // Bytes that this thread has had read from the disk, where the system counts them.
            let count = || {
                let counters = fs::read_to_string("/proc/thread-self/io").ok()?;
                let count = counters.lines().find_map(|line| line.strip_prefix("read_bytes: "))?;
                count.parse::<usize>().ok()
            };
            let read_by = |act: &dyn Fn()| {
                // Out of the system's cache of the file.
                let input = format!("if={}", path.display());
                let dropped = Command::new("dd").args([&*input, "iflag=nocache", "count=0"]).output();
                dropped.ok().filter(|dropped| dropped.status.success())?;
                let before = count()?;
                act();
                Some(count()? - before)
            };
            // Nothing to see in a folder that is in memory, not on a disk.
            let Some(all) = read_by(&|| touch(&bytes)).filter(|read| *read >= LEN) else { return };
            bytes.drop_pages(0..LEN);
            let some = read_by(&|| bytes.will_need(4 * BLOCK..8 * BLOCK)).unwrap();
            assert!((4 * BLOCK..all).contains(&some), "{some} of {all} bytes");
        }
    }
}
