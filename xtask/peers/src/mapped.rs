//! A trace through a file that is mapped, of which the least recently used pages leave.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use vac_core::memory::policy::PolicyKind;

use super::{PAGE, Result, check, number, say_peak, text, timed, trace};

struct Mapped {
    start: *mut u8,
    len: usize,
}

impl Mapped {
    fn of(path: &str) -> Result<Self> {
        let file = File::open(path).map_err(|e| format!("{path}: {e}"))?;
        let len = usize::try_from(file.metadata().map_err(text)?.len()).map_err(text)?;
        // SAFETY: 1. the address is the system's choice. 2. nobody writes to the file while it is mapped: it is in a
        // folder of this benchmark alone.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, 0)
        };
        let mapped = Self { start: start.map_err(text)?.cast(), len };
        // Pages are fetched as they are asked for, not by guesses that nobody counts.
        mapped.advise(0, len, Advice::Random)?;
        Ok(mapped)
    }

    fn advise(&self, at: usize, len: usize, advice: Advice) -> Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(format!("byte {at} is past the end of the file"));
        }
        // SAFETY: 1. the range is inside of the mapping, as was just checked. 2. no advice that is given here changes
        // what is read.
        unsafe { rustix::mm::madvise(self.start.add(at).cast(), len, advice) }.map_err(text)
    }

    fn read(&self, page: u64, to: &mut [u8]) -> Result<()> {
        let at = page as usize * PAGE;
        self.advise(at, PAGE, Advice::WillNeed)?;
        // SAFETY: 1. `advise` checked that the page is inside of the mapping. 2. `to` is as long at least, and elsewhere.
        // 3. see `of`: nobody writes.
        unsafe { std::ptr::copy_nonoverlapping(self.start.add(at), to.as_mut_ptr(), PAGE.min(to.len())) };
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: 1. this is the whole mapping. 2. nothing that was borrowed from it is left.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), self.len) };
    }
}

pub(super) fn run(file: &str, budget: &str, path: &str) -> Result<()> {
    let (trace, mapped, budget) = (trace(path)?, Mapped::of(file)?, number(budget)?);
    let mut policy = PolicyKind::Lru.build(budget);
    let (mut slots, mut pages) = (BTreeMap::new(), Vec::new());
    let mut to = vec![0; PAGE];
    timed("ns", || {
        for page in &trace {
            if let Some(slot) = slots.get(page) {
                policy.touch(*slot);
            } else {
                let slot = if pages.len() < budget {
                    pages.push(*page);
                    pages.len() as u32 - 1
                } else {
                    let slot = policy.victim().ok_or("nothing can leave")?;
                    let old = std::mem::replace(&mut pages[slot as usize], *page);
                    slots.remove(&old);
                    mapped.advise(old as usize * PAGE, PAGE, Advice::LinuxPageOut)?;
                    slot
                };
                slots.insert(*page, slot);
                policy.insert(slot, *page);
            }
            mapped.read(*page, &mut to)?;
            check(*page, &to)?;
        }
        Ok(())
    })?;
    say_peak("peak")
}
