//! Bytes that the host holds for a guest: bodies of requests and responses. All of one kernel have one limit,
//! because nothing else bounds what they take: they are in no memory of the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vac_core::fault::{AbortKind, HostAbort, Result};

use crate::limits::HTTP_HELD_MAX_BYTES;

/// How many bytes are held for one kernel, over everything of it that holds some.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holding(Arc<AtomicUsize>);

/// Bytes that count as held until they are dropped or taken.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    all: Holding,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(all: &Holding) -> Self {
        Self { bytes: Vec::new(), all: all.clone() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Holds `more` as well. Past the limit the kernel ends.
    pub(crate) fn extend(&mut self, more: &[u8]) -> Result<()> {
        let held = self.all.0.load(Ordering::Relaxed).saturating_add(more.len());
        if held > HTTP_HELD_MAX_BYTES {
            let message = format!(
                "the guest has the host hold {held} bytes of HTTP bodies; the limit is {HTTP_HELD_MAX_BYTES}"
            );
            let hint = "this limit is fixed: a guest that drops what it has read or sent stays below it";
            return Err(HostAbort::new(AbortKind::Quota, message).hint(hint).into());
        }
        self.all.0.store(held, Ordering::Relaxed);
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// The bytes, which are not held any more.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.all.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_together_and_until_it_goes() {
        let all = Holding::default();
        let (mut a, mut b) = (Held::new(&all), Held::new(&all));
        a.extend(&vec![0; HTTP_HELD_MAX_BYTES - 1]).unwrap();
        b.extend(&[0]).unwrap();
        assert!(b.extend(&[0]).unwrap_err().to_string().contains("HTTP bodies"));
        assert_eq!(a.take().len(), HTTP_HELD_MAX_BYTES - 1);
        b.extend(&[0]).unwrap();
        drop(b);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
