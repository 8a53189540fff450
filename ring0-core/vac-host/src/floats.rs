//! The floating-point environment of the processor while a guest runs: rounding to nearest, subnormal numbers kept,
//! no exception that traps.
//!
//! Compiled code says nothing about rounding: it takes what the thread has. A library of the process may have
//! changed that, as those that trade precision for speed do when they are loaded, and a thread inherits it from
//! the one that made it. So whoever enters a guest, or compiles for one (constants are folded with the same
//! instructions), holds a [`Standard`] meanwhile.

/// The environment that WebAssembly asks for, until this is dropped; then the thread has its own again.
pub(crate) struct Standard {
    before: Word,
}

impl Standard {
    pub(crate) fn enter() -> Self {
        let before = read();
        set_if_other(before, STANDARD);
        Self { before }
    }
}

impl Drop for Standard {
    fn drop(&mut self) {
        // Flags that the guest raised go with it: they are no part of what it was asked for.
        set_if_other(read(), self.before);
    }
}

/// Reading costs a few cycles, writing some dozens; mostly there is nothing to write.
fn set_if_other(now: Word, wanted: Word) {
    if now != wanted {
        write(wanted);
    }
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use std::arch::asm;

    /// The register MXCSR (Intel SDM, volume 1, 10.2.3).
    pub(super) type Word = u32;
    /// Its value after a reset: every exception masked, no flag, round to nearest, neither flush-to-zero nor
    /// denormals-are-zeros.
    pub(super) const STANDARD: Word = 0x1f80;

    pub(super) fn read() -> Word {
        let mut word: Word = 0;
        // SAFETY: (1) `stmxcsr` writes four bytes to the address it is given, which is that of `word`, alive and
        // aligned. (2) It changes no other state.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: Word) {
        // SAFETY: (1) `ldmxcsr` reads four bytes at the address it is given, which is that of `word`. (2) It faults
        // for reserved bits only, and a word is `STANDARD` or what `read` gave. (3) Rust code between `enter` and
        // the drop runs in the environment that Rust assumes; after it, in the one it had before.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use std::arch::asm;

    /// The register FPCR (Arm ARM, C5.2.8).
    pub(super) type Word = u64;
    /// Round to nearest, no flush to zero, no exception that traps.
    pub(super) const STANDARD: Word = 0;

    pub(super) fn read() -> Word {
        let word: Word;
        // SAFETY: (1) `mrs` of FPCR reads a register that user code may read, and changes nothing.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: Word) {
        // SAFETY: (1) User code may write FPCR. (2) A word is `STANDARD` or what `read` gave. (3) Rust code between
        // `enter` and the drop runs in the environment that Rust assumes; after it, in the one it had before.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

/// Other processors of the engine have no such state in user code that Rust would let a library change.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod processor {
    pub(super) type Word = u32;
    pub(super) const STANDARD: Word = 0;

    pub(super) fn read() -> Word {
        STANDARD
    }

    pub(super) fn write(_: Word) {}
}

use processor::{STANDARD, Word, read, write};

#[cfg(test)]
mod tests;
