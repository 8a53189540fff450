//! Every bound of ring 0, in one place, tied together where they depend on each other.

/// A request or response of at most this many bytes stays inline in its event.
pub const EVENT_INLINE_MAX_BYTES: usize = 64;

/// Nesting that the canonical decoder follows before it refuses.
pub const CANON_DEPTH_MAX: usize = 64;

/// The largest payload of one ledger frame. Bodies live in the store, so frames are small.
pub const FRAME_PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Objects below this are packed; from here on each has a file of its own.
pub const STORE_LARGE_MIN_BYTES: usize = 1 << 20;

/// A pack is closed to new objects once it is this long.
pub const STORE_PACK_MAX_BYTES: u64 = 256 << 20;

/// The largest object the store keeps.
pub const STORE_OBJECT_MAX_BYTES: u64 = 64 << 30;

/// Handles that one run may hold at a time.
pub const HANDLES_MAX: usize = 4096;

const _: () = assert!(EVENT_INLINE_MAX_BYTES < FRAME_PAYLOAD_MAX_BYTES);
const _: () = assert!(STORE_LARGE_MIN_BYTES as u64 <= STORE_PACK_MAX_BYTES);

/// A ledger starts a new segment once the current one is this long.
pub const LEDGER_SEGMENT_MAX_BYTES: u64 = 64 << 20;

/// Events that may be open inside each other: calls of kernels by kernels.
pub const EVENT_OPEN_MAX: usize = 256;
