//! The memory that a player starts with: what the record answered, as the canonical ABI has it in memory.

use vac_core::fault::{Result, Usage};

use crate::limits::EXPORT_MAX_BYTES;

/// Where the image begins. Below it nothing is ever put, so that no address in it is 0.
pub(super) const BASE: u32 = 64;

/// Bytes at fixed addresses.
#[derive(Debug, Default)]
pub(super) struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Room for `len` bytes, all 0, at the next address that `align` divides.
    pub(super) fn room(&mut self, len: usize, align: usize) -> Result<u32> {
        let start = self.bytes.len().next_multiple_of(align.max(1));
        let end = start.checked_add(len).filter(|end| *end <= EXPORT_MAX_BYTES);
        let Some(end) = end else { return Err(too_large()) };
        self.bytes.resize(end, 0);
        u32::try_from(start).ok().and_then(|start| start.checked_add(BASE)).ok_or_else(too_large)
    }

    /// Puts `bytes` at an address inside of some room.
    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) {
        let start = at.saturating_sub(BASE) as usize;
        let room = self.bytes.get_mut(start..start.saturating_add(bytes.len()));
        debug_assert!(room.is_some(), "{} bytes at {at} are outside of the image", bytes.len());
        if let Some(room) = room {
            room.copy_from_slice(bytes);
        }
    }

    /// Puts a number.
    pub(super) fn put_u32(&mut self, at: u32, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Puts `bytes` where there is room; their address.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<u32> {
        let at = self.room(bytes.len(), 1)?;
        self.put(at, bytes);
        Ok(at)
    }

    /// At most eight bytes as a number, the first being the lowest.
    pub(super) fn number(&self, at: u32, len: usize) -> u64 {
        let start = at.saturating_sub(BASE) as usize;
        let bytes = self.bytes.get(start..start.saturating_add(len.min(8))).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The address behind the last byte.
    pub(super) fn end(&self) -> u32 {
        BASE.saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    /// All of it, from [`BASE`] on.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn too_large() -> vac_core::fault::Error {
    let message = format!("the answers of the record take more than {EXPORT_MAX_BYTES} bytes");
    Usage::new(message).hint("a component cannot carry so much; `vac replay` does not need one").into()
}
