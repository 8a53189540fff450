//! Which parts of a linear memory were written since it was looked at last.
//!
//! On Linux the kernel notes it: the memory is write-protected through `userfaultfd` in its asynchronous mode, in
//! which the kernel itself lifts the protection of a page at the first write, and a scan of the page map says
//! where that happened and protects those pages again. No signal is involved, and no thread: whoever writes,
//! the guest or the host, notices nothing but one fault of some hundred nanoseconds a page. Where that cannot
//! be had, the memory is compared with a copy.
//!
//! Invariant: a chunk that was written since the last look is always named; one that was not may be.

use std::ops::Range;

/// Which chunks of a memory somebody may have written to since it was made. The others hold zeros, and reading
/// them to see that would make the system map each.
pub struct Touched {
    chunks: Vec<Range<usize>>,
}

impl Touched {
    pub(crate) fn of(memory: &[u8]) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(chunks) = noted::touched(memory) {
            return Self { chunks };
        }
        Self { chunks: merge(0..chunks(memory.len())) }
    }

    /// Nobody wrote anything.
    pub(crate) fn nothing() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Makes `range` of `memory` zeros. A part that holds them already is not written.
    pub fn clear(&self, memory: &mut [u8], range: Range<usize>) {
        for chunk in self.chunks.iter().cloned().flatten() {
            let start = (chunk * CHUNK_BYTES).max(range.start);
            let end = ((chunk + 1) * CHUNK_BYTES).min(range.end);
            let part = memory.get_mut(start..end).unwrap_or_default();
            if part.iter().any(|byte| *byte != 0) {
                part.fill(0);
            }
        }
    }
}

/// What is found is told in chunks of this length, which is a page of WebAssembly.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// Follows one memory.
pub(crate) enum Tracker {
    /// It was not looked at yet: all of it counts as written.
    New,
    /// The kernel notes what is written.
    #[cfg(target_os = "linux")]
    Noted(noted::Noted),
    /// A copy as of the last look.
    Compared(Vec<u8>),
}

impl Tracker {
    /// Follows by comparing, whatever the system has: to measure, and for tests.
    pub(crate) fn comparing() -> Self {
        Self::Compared(Vec::new())
    }

    /// The ranges of chunks of `memory` that were written since this was asked last, in order.
    pub(crate) fn written(&mut self, memory: &[u8]) -> Vec<Range<usize>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Noted(noted) => match noted.written(memory) {
                Ok(ranges) => return ranges,
                // It is not noted any more. From now on, it is compared.
                Err(_) => *self = Self::Compared(memory.to_vec()),
            },
            Self::Compared(copy) => return compare(copy, memory),
            Self::New => *self = Self::start(memory),
        }
        merge(0..chunks(memory.len()))
    }

    fn start(memory: &[u8]) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(noted) = noted::Noted::start(memory) {
            return Self::Noted(noted);
        }
        Self::Compared(memory.to_vec())
    }
}

fn chunks(len_bytes: usize) -> usize {
    len_bytes.div_ceil(CHUNK_BYTES)
}

/// The chunks that differ from `copy`, which then is `memory`.
fn compare(copy: &mut Vec<u8>, memory: &[u8]) -> Vec<Range<usize>> {
    let before = chunks(copy.len());
    copy.resize(memory.len(), 0);
    let pairs = copy.chunks_mut(CHUNK_BYTES).zip(memory.chunks(CHUNK_BYTES)).enumerate();
    let differ = pairs.filter_map(|(number, (old, new))| {
        if old == new && number < before {
            return None;
        }
        old.copy_from_slice(new);
        Some(number)
    });
    merge(differ)
}

/// Ascending numbers as ranges.
fn merge(numbers: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            Some(last) if last.end > number => {}
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

#[cfg(target_os = "linux")]
mod noted {
    //! The kernel's interface: `userfaultfd(2)`, and `PAGEMAP_SCAN` of `/proc/self/pagemap` (Linux 6.7).

    use std::ffi::c_void;
    use std::fs::File;
    use std::io;
    use std::ops::Range;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;

    use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
    use rustix::mm::{UserfaultfdFlags, userfaultfd};

    use super::{CHUNK_BYTES, chunks, merge};

    /// Version of the protocol.
    const UFFD_API: u64 = 0xaa;
    /// Pages that are not there yet can be protected, too.
    const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
    /// The kernel lifts a protection by itself.
    const FEATURE_WP_ASYNC: u64 = 1 << 15;
    const REGISTER_MODE_WP: u64 = 1 << 1;
    /// Only the kernel's own lifting of protections is used, which needs no privilege.
    const USER_MODE_ONLY: u32 = 1;
    /// Protect again what is found, and fail where that is not asynchronous.
    const SCAN_WP_MATCHING: u64 = 1 << 0;
    const SCAN_CHECK_WPASYNC: u64 = 1 << 1;
    const PAGE_IS_WRITTEN: u64 = 1 << 1;
    /// What is protected is made of pages of the processor.
    const PAGE_BYTES: usize = 4 << 10;
    /// Ranges that one scan may find; there may be several scans.
    const RANGES_MAX: usize = 512;

    /// `struct uffdio_api`
    #[repr(C)]
    struct Api {
        api: u64,
        features: u64,
        ioctls: u64,
    }

    /// `struct uffdio_register`
    #[repr(C)]
    struct Register {
        start: u64,
        len: u64,
        mode: u64,
        ioctls: u64,
    }

    /// `struct page_region`
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Region {
        start: u64,
        end: u64,
        categories: u64,
    }

    /// `struct pm_scan_arg`
    #[repr(C)]
    #[derive(Default)]
    struct Scan {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        vec: u64,
        vec_len: u64,
        max_pages: u64,
        category_inverted: u64,
        category_mask: u64,
        category_anyof_mask: u64,
        return_mask: u64,
    }

    const UFFDIO_API: Opcode = opcode::read_write::<Api>(0xaa, 0x3f);
    const UFFDIO_REGISTER: Opcode = opcode::read_write::<Register>(0xaa, 0x00);
    const PAGEMAP_SCAN: Opcode = opcode::read_write::<Scan>(b'f', 16);

    /// A memory whose writes the kernel notes.
    pub(crate) struct Noted {
        faults: OwnedFd,
        pagemap: File,
        /// Where the memory is, and how much of it is registered.
        at: usize,
        len_bytes: usize,
    }

    impl Noted {
        /// Begins to note what is written to `memory` from now on.
        pub(crate) fn start(memory: &[u8]) -> io::Result<Self> {
            let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
            // SAFETY: the descriptor that is made here can do nothing until memory is registered with it, which
            // `grow` does and gives its own reasons for.
            let faults = unsafe { userfaultfd(flags) }?;
            let features = FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC;
            let mut api = Api { api: UFFD_API, features, ioctls: 0 };
            // SAFETY: (1) the opcode is that of UFFDIO_API, whose argument is a `struct uffdio_api`, which `Api` is.
            // (2) It sets up the descriptor, and nothing else.
            unsafe { ioctl(&faults, Updater::<UFFDIO_API, Api>::new(&mut api)) }?;
            let pagemap = File::open("/proc/self/pagemap")?;
            let mut noted = Self { faults, pagemap, at: memory.as_ptr() as usize, len_bytes: 0 };
            noted.grow(memory)?;
            Ok(noted)
        }

        /// The chunks that were written since the last look.
        pub(crate) fn written(&mut self, memory: &[u8]) -> io::Result<Vec<Range<usize>>> {
            if memory.as_ptr() as usize != self.at || memory.len() < self.len_bytes {
                return Err(io::Error::other("the memory is somewhere else now"));
            }
            let mut numbers = Vec::new();
            let end = self.at + self.len_bytes;
            self.scan(self.at..end, &mut |region| {
                let chunk = |address: u64| (address as usize - self.at) / CHUNK_BYTES;
                numbers.extend(chunk(region.start)..=chunk(region.end - 1));
            })?;
            numbers.extend(self.len_bytes / CHUNK_BYTES..chunks(memory.len()));
            self.grow(memory)?;
            Ok(merge(numbers.into_iter()))
        }

        /// Registers what of `memory` is new.
        fn grow(&mut self, memory: &[u8]) -> io::Result<()> {
            let new = self.at + self.len_bytes..self.at + memory.len();
            if new.is_empty() {
                return Ok(());
            }
            if !new.start.is_multiple_of(PAGE_BYTES) || !new.end.is_multiple_of(PAGE_BYTES) {
                return Err(io::Error::other("the memory is not made of whole pages"));
            }
            let (start, len) = (new.start as u64, new.len() as u64);
            let mut register = Register { start, len, mode: REGISTER_MODE_WP, ioctls: 0 };
            // SAFETY: (1) the opcode is that of UFFDIO_REGISTER, whose argument is a `struct uffdio_register`, which
            // `Register` is. (2) The range is that of a slice, so it is mapped. (3) With WP_ASYNC a write to a
            // protected page is resolved in the kernel: no access by anybody waits, fails, or reads other bytes,
            // also after the descriptor is closed, which ends the registration.
            unsafe { ioctl(&self.faults, Updater::<UFFDIO_REGISTER, Register>::new(&mut register)) }?;
            self.scan(new, &mut |_| {})?;
            self.len_bytes = memory.len();
            Ok(())
        }

        /// Protects the written pages of `range` again, and tells which they are.
        fn scan(&self, range: Range<usize>, found: &mut dyn FnMut(&Region)) -> io::Result<()> {
            let (mut start, end) = (range.start as u64, range.end as u64);
            let mut regions = vec![Region::default(); RANGES_MAX];
            while start < end {
                let scan = Scan {
                    size: size_of::<Scan>() as u64,
                    flags: SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
                    start,
                    end,
                    category_mask: PAGE_IS_WRITTEN,
                    return_mask: PAGE_IS_WRITTEN,
                    ..Scan::default()
                };
                let mut scan = Scanning { scan, regions: &mut regions };
                // SAFETY: see `Scanning`.
                let (count, walked) = unsafe { ioctl(&self.pagemap, &mut scan) }?;
                regions.iter().take(count).for_each(&mut *found);
                if walked <= start {
                    return Err(io::Error::other("a scan that goes nowhere"));
                }
                start = walked;
            }
            Ok(())
        }
    }

    /// The chunks of `memory` that are not known to be zeros: those with a page that is there or was swapped out, and
    /// those that show a file, whose pages come when they are read.
    pub(crate) fn touched(memory: &[u8]) -> io::Result<Vec<Range<usize>>> {
        let start = memory.as_ptr() as usize;
        let range = start..start + memory.len();
        let mut found = files_in(&range)?;
        found.extend(present_in(&range)?);
        let mut numbers: Vec<usize> = found
            .iter()
            .flat_map(|part| (part.start - start) / CHUNK_BYTES..(part.end - start).div_ceil(CHUNK_BYTES))
            .collect();
        numbers.sort_unstable();
        Ok(merge(numbers.into_iter()))
    }

    /// The parts of `range` that are mapped from files.
    fn files_in(range: &Range<usize>) -> io::Result<Vec<Range<usize>>> {
        let malformed = || io::Error::other("a line of /proc/self/maps without addresses");
        let mut parts = Vec::new();
        for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next().and_then(|word| word.split_once('-')).ok_or_else(malformed)?;
            let address = |text| usize::from_str_radix(text, 16).map_err(|_| malformed());
            let (start, end) = (address(start)?.max(range.start), address(end)?.min(range.end));
            // Permissions, offset, device, inode.
            if start < end && words.nth(3) != Some("0") {
                parts.push(start..end);
            }
        }
        Ok(parts)
    }

    /// The pages of `range` that exist.
    fn present_in(range: &Range<usize>) -> io::Result<Vec<Range<usize>>> {
        /// Bits of an entry of the page map: the page is there; it was swapped out.
        const PRESENT_OR_SWAPPED: u64 = 3 << 62;
        let mut entries = vec![0; range.len().div_ceil(PAGE_BYTES) * size_of::<u64>()];
        let at = (range.start / PAGE_BYTES * size_of::<u64>()) as u64;
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entries, at)?;
        let is_there = |entry: &[u8]| {
            entry.try_into().map_or(true, |entry| u64::from_ne_bytes(entry) & PRESENT_OR_SWAPPED != 0)
        };
        let entries = entries.chunks_exact(size_of::<u64>()).enumerate();
        Ok(entries
            .filter(|(_, entry)| is_there(entry))
            .map(|(page, _)| range.start + page * PAGE_BYTES)
            .map(|start| start..range.end.min(start + PAGE_BYTES))
            .collect())
    }

    struct Scanning<'a> {
        scan: Scan,
        regions: &'a mut [Region],
    }

    // SAFETY: (1) the opcode is that of PAGEMAP_SCAN, whose argument is a `struct pm_scan_arg`, which `Scan` is; its
    // size says so. (2) The kernel writes at most `vec_len` regions to `vec`, which are those of the slice that
    // is borrowed as long as this is. (3) It changes nothing but the write protection of pages that were
    // registered by `grow`, which see.
    unsafe impl Ioctl for &mut Scanning<'_> {
        /// Regions that were found, and where the scan ended.
        type Output = (usize, u64);

        const IS_MUTATING: bool = true;

        fn opcode(&self) -> Opcode {
            PAGEMAP_SCAN
        }

        fn as_ptr(&mut self) -> *mut c_void {
            self.scan.vec = self.regions.as_mut_ptr() as u64;
            self.scan.vec_len = self.regions.len() as u64;
            std::ptr::from_mut(&mut self.scan).cast()
        }

        // SAFETY: called by `ioctl` alone, with the pointer that `as_ptr` gave, after the kernel filled it.
        unsafe fn output_from_ptr(out: IoctlOutput, ptr: *mut c_void) -> rustix::io::Result<Self::Output> {
            // SAFETY: the pointer is what `as_ptr` gave, to a `Scan` that lives as long as this.
            let scan = unsafe { &*ptr.cast::<Scan>() };
            Ok((usize::try_from(out).unwrap_or_default(), scan.walk_end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of its own pages, as linear memories have.
    fn pages(chunks: usize) -> Vec<u8> {
        vec![0; (chunks + 1) * CHUNK_BYTES]
    }

    /// The part of it that begins at a whole page.
    fn whole(bytes: &mut [u8]) -> &mut [u8] {
        let at = bytes.as_ptr().align_offset(4096);
        let len = bytes.len() - CHUNK_BYTES;
        &mut bytes[at..at + len]
    }

    fn every_write_is_found(mut tracker: Tracker) {
        let mut bytes = pages(64);
        let memory = whole(&mut bytes);
        tracker.written(memory);
        assert_eq!(tracker.written(memory), Vec::<Range<usize>>::new());
        memory[0] = 1;
        memory[5 * CHUNK_BYTES + 77] = 2;
        memory[6 * CHUNK_BYTES] = 3;
        memory[64 * CHUNK_BYTES - 1] = 4;
        assert_eq!(tracker.written(memory), [0..1, 5..7, 63..64]);
        assert_eq!(tracker.written(memory), Vec::<Range<usize>>::new());
        memory[5 * CHUNK_BYTES + 77] = 9;
        assert_eq!(tracker.written(memory), std::slice::from_ref(&(5..6)));
        // Many ranges at once: more than one scan tells.
        let written: Vec<usize> = (0..64).step_by(2).collect();
        (0..64 * 16).step_by(2).for_each(|page| memory[page * 4096] = 0xff);
        let found: Vec<usize> = tracker.written(memory).into_iter().flatten().collect();
        assert!(written.iter().all(|chunk| found.contains(chunk)), "{found:?}");
    }

    #[test]
    fn every_write_is_found_by_comparing() {
        every_write_is_found(Tracker::comparing());
    }

    #[test]
    fn every_write_is_found_by_what_the_system_has() {
        every_write_is_found(Tracker::New);
    }

    #[test]
    fn what_was_never_touched_is_not_read() {
        let mut bytes = pages(64);
        let memory = whole(&mut bytes);
        memory[5 * CHUNK_BYTES + 77] = 2;
        memory[63 * CHUNK_BYTES] = 3;
        let touched = Touched::of(memory);
        let is_in = |chunk| touched.chunks.iter().any(|range| range.contains(&chunk));
        assert!(is_in(5) && is_in(63), "{:?}", touched.chunks);
        // Pages of a new allocation are zeros that nobody made yet, unless the system gives larger ones.
        #[cfg(target_os = "linux")]
        assert!(!is_in(32) || touched.chunks.len() == 1, "{:?}", touched.chunks);
        touched.clear(memory, 0..6 * CHUNK_BYTES);
        assert_eq!((memory[5 * CHUNK_BYTES + 77], memory[63 * CHUNK_BYTES]), (0, 3));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_file_shows_counts_as_touched() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * CHUNK_BYTES as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", 2 * CHUNK_BYTES as u64).unwrap();
        use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new private mapping, at an address that the system chooses.
        let at = unsafe { mmap(std::ptr::null_mut(), 4 * CHUNK_BYTES, prot, flags, &file, 0) }.unwrap();
        // SAFETY: it was just mapped, for reading and writing, and nobody else knows it.
        let memory = unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), 4 * CHUNK_BYTES) };
        let touched = Touched::of(memory);
        touched.clear(memory, 0..4 * CHUNK_BYTES);
        assert!(memory.iter().all(|byte| *byte == 0));
        // SAFETY: nothing refers to it any more.
        unsafe { munmap(at, 4 * CHUNK_BYTES) }.unwrap();
    }

    #[test]
    fn what_is_new_counts_as_written() {
        for mut tracker in [Tracker::comparing(), Tracker::New] {
            let mut bytes = pages(8);
            let memory = whole(&mut bytes);
            let (before, after) = (4 * CHUNK_BYTES, 8 * CHUNK_BYTES);
            tracker.written(&memory[..before]);
            assert_eq!(tracker.written(&memory[..after]), std::slice::from_ref(&(4..8)));
            memory[7 * CHUNK_BYTES] = 1;
            assert_eq!(tracker.written(&memory[..after]), std::slice::from_ref(&(7..8)));
        }
    }
}
