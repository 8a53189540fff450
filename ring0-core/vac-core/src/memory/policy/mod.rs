//! Which page leaves when there is no room.
//!
//! A policy knows frames by their numbers and pages by a fingerprint that outlives them. It holds no page,
//! does no I/O and draws no random number: equal sequences of calls give equal choices.
//!
//! | policy | from |
//! |---|---|
//! | [`S3Fifo`] | Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP 2023 |
//! | [`Lru`] | least recently used |
//! | [`Sieve`] | Zhang, Yang, Yue, Vigfusson, Rashmi: SIEVE is simpler than LRU, NSDI 2024 |
//! | [`TinyLfu`] | Einziger, Friedman, Manes: TinyLFU, a highly efficient cache admission policy, TOS 2017 |
//! | [`belady`] | Belady 1966: what leaves is used again last; only for a trace that is known |

mod belady;
mod list;
mod lru;
mod s3_fifo;
mod sieve;
mod simulate;
#[cfg(test)]
mod tests;
mod tiny_lfu;

pub use belady::belady;
pub use lru::Lru;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use simulate::simulate;
pub use tiny_lfu::TinyLfu;

/// Chooses what leaves. Frames are numbers below the capacity that it was made with.
pub trait Policy: Send + Sync {
    /// `frame`, which it did not have, holds the page with this fingerprint now.
    fn insert(&mut self, frame: u32, fingerprint: u64);

    /// [`Self::insert`] of a page that is dear to have again: it may be spared so many times although it was not
    /// used. A policy that knows no credits takes it like any other.
    fn insert_with(&mut self, frame: u32, fingerprint: u64, _credits: u8) {
        self.insert(frame, fingerprint);
    }

    /// `frame` was used. Called on every hit: this must cost next to nothing.
    fn touch(&mut self, frame: u32);

    /// `frame` is empty, or may not leave. Nothing happens if it has no such frame.
    fn remove(&mut self, frame: u32);

    /// The frame that should leave; it is forgotten but for its fingerprint. `None` if it has none.
    fn victim(&mut self) -> Option<u32>;
}

/// What it takes to have a page again, as measured by whoever had it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Microseconds.
    pub cost_us: u32,
    /// For so many bytes.
    pub bytes: u32,
}

/// Nothing is spared more often.
const CREDITS_MAX: u32 = 7;

impl Weight {
    /// Times that a page with this weight is spared, where one of `base_us` for `page_len` bytes is not: one each
    /// time that the cost of a byte doubles. In GreedyDual-Size-Frequency the cost of a byte, times the uses, is
    /// added to the age at which a page left; here a use or a credit is one more round of the queue.
    pub fn credits(self, base_us: u32, page_len: usize) -> u8 {
        let own = u128::from(self.cost_us) * page_len as u128;
        let base = u128::from(base_us.max(1)) * u128::from(self.bytes.max(1));
        own.checked_div(base).and_then(u128::checked_ilog2).map_or(0, |log| log.min(CREDITS_MAX) as u8)
    }
}

/// The policies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyKind {
    /// [`S3Fifo`].
    #[default]
    S3Fifo,
    /// [`Lru`].
    Lru,
    /// [`Sieve`].
    Sieve,
    /// [`TinyLfu`].
    TinyLfu,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::S3Fifo, Self::Lru, Self::Sieve, Self::TinyLfu];

    /// A policy for `capacity` frames.
    pub fn build(self, capacity: usize) -> Box<dyn Policy> {
        match self {
            Self::S3Fifo => Box::new(S3Fifo::new(capacity)),
            Self::Lru => Box::new(Lru::new(capacity)),
            Self::Sieve => Box::new(Sieve::new(capacity)),
            Self::TinyLfu => Box::new(TinyLfu::new(capacity)),
        }
    }

    /// Its name, as commands and tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3Fifo => "s3-fifo",
            Self::Lru => "lru",
            Self::Sieve => "sieve",
            Self::TinyLfu => "w-tinylfu",
        }
    }

    /// The policy with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
