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

    /// `frame` was used. Called on every hit: this must cost next to nothing.
    fn touch(&mut self, frame: u32);

    /// `frame` is empty, or may not leave. Nothing happens if it has no such frame.
    fn remove(&mut self, frame: u32);

    /// The frame that should leave; it is forgotten but for its fingerprint. `None` if it has none.
    fn victim(&mut self) -> Option<u32>;
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
