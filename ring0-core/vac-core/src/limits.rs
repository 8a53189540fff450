//! Every bound of ring 0, in one place, tied together where they depend on each other.

/// A request or response of at most this many bytes stays inline in its event: 64 bytes of a
/// guest's, and what their canonical form and a handle beside them take.
pub const EVENT_INLINE_MAX_BYTES: usize = 80;

/// Text in an event that a guest or a script may have chosen: a refused path, a message.
pub const EVENT_TEXT_MAX_BYTES: usize = 4096;

/// A link of a ledger's hash chain ends with the entry that brings it to this length. Long enough
/// for BLAKE3 to hash at its full speed, which for single entries it does not reach by far.
pub const CHAIN_LINK_MIN_BYTES: usize = 16 << 10;

/// Nesting that the canonical decoder follows before it refuses.
pub const CANON_DEPTH_MAX: usize = 64;

/// The largest payload of one ledger frame. Bodies live in the store, so frames are small.
pub const FRAME_PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Objects below this are packed; from here on each has a file of its own.
pub const STORE_LARGE_MIN_BYTES: usize = 1 << 20;

/// What a disk reads at once. Objects of at least the second length that are whole blocks begin at one in their pack: a page of
/// 64 KiB is then 16 blocks and not 17, at the price of at most one block of the disk.
pub const STORE_BLOCK_BYTES: usize = 4096;
/// See [`STORE_BLOCK_BYTES`].
pub const STORE_ALIGNED_MIN_BYTES: usize = 16 << 10;

/// A pack is closed to new objects once it is this long.
pub const STORE_PACK_MAX_BYTES: u64 = 256 << 20;

/// The largest object the store keeps.
pub const STORE_OBJECT_MAX_BYTES: u64 = 64 << 30;

/// Shorter objects are not compressed: their frame would be most of it.
pub const STORE_COMPRESS_MIN_BYTES: usize = 128;
/// The highest level of zstd. Further ones take far more memory, for objects that are larger than any that is compressed.
pub const STORE_COMPRESS_LEVEL_MAX: i32 = 19;

/// Packed objects wait in memory until this many bytes are worth one write.
pub const STORE_BUFFER_BYTES: usize = 1 << 20;

/// A write of so many bytes to a pack asks for room on the disk ahead of its end.
pub const STORE_RESERVE_FROM_BYTES: u64 = 512 << 10;
/// How much it asks for: at first, and at most. It doubles in between.
pub const STORE_RESERVE_MIN_BYTES: u64 = 1 << 20;
/// See [`STORE_RESERVE_MIN_BYTES`].
pub const STORE_RESERVE_MAX_BYTES: u64 = 16 << 20;

/// Objects whose places are in memory before they are written to a run of the index. With those that wait for a commit
/// (below) they are a little less than what the table takes without growing: 14,336 of 16,384 places of some 56 bytes.
pub const STORE_INDEX_TABLE_ENTRIES: usize = 10_000;

/// Objects that are put without a commit before the store makes one.
pub const STORE_PENDING_ENTRIES: usize = 4_000;

/// A collection rewrites a pack below this length for any garbage in it; a longer one once half of it is.
pub const STORE_REWRITE_MAX_BYTES: u64 = 16 << 20;

/// The list of an index: twelve bytes for each of more packs than a disk holds.
pub const STORE_INDEX_LIST_MAX_BYTES: u64 = 16 << 20;

const _: () = assert!(STORE_PENDING_ENTRIES + STORE_INDEX_TABLE_ENTRIES <= 14_336);

/// Packs of one store that are kept open at a time.
pub const STORE_OPEN_PACKS_MAX: usize = 128;

/// Bytes of a large object in memory while it is written, read or hashed.
pub const STORE_CHUNK_BYTES: usize = 256 << 10;

/// Chunks of an object that is kept in chunks: the shortest, what they are about, and the longest. Shorter ones share
/// more between versions and cost more: an entry of 44 bytes and a record of 56 each.
pub const STORE_CDC_MIN_BYTES: usize = 16 << 10;
/// See [`STORE_CDC_MIN_BYTES`].
pub const STORE_CDC_AVERAGE_BYTES: usize = 64 << 10;
/// See [`STORE_CDC_MIN_BYTES`].
pub const STORE_CDC_MAX_BYTES: usize = 256 << 10;

/// A part of an object in chunks that can be checked against its CID alone: what a read of one byte costs.
pub const STORE_GROUP_BYTES: usize = 64 << 10;

/// The smallest and the largest group that a list of chunks may name.
pub const STORE_GROUP_MIN_BYTES: u32 = 1 << 10;
/// See [`STORE_GROUP_MIN_BYTES`].
pub const STORE_GROUP_MAX_BYTES: u32 = 1 << 20;

// Chunks are packed, so a list never names another list.
const _: () = assert!(STORE_CDC_MAX_BYTES < STORE_LARGE_MIN_BYTES);
const _: () = assert!(STORE_OBJECT_MAX_BYTES / (STORE_CDC_MIN_BYTES as u64) < u32::MAX as u64);

/// The longest name of a pin.
pub const STORE_PIN_NAME_MAX_BYTES: usize = 1024;

/// Children of a node of a memory's map: one for each value of a byte.
pub const MEMORY_FAN_OUT: usize = 256;

/// A node of a memory's map in canonical form: two heads, and for each child a head, a number and a link.
pub const MEMORY_NODE_MAX_BYTES: usize = 16 + MEMORY_FAN_OUT * 51;

/// The page of a memory, if nothing else is asked for.
pub const MEMORY_PAGE_BYTES: usize = 64 << 10;

/// The smallest and the largest page.
pub const MEMORY_PAGE_MIN_BYTES: usize = 4 << 10;
/// See [`MEMORY_PAGE_MIN_BYTES`].
pub const MEMORY_PAGE_MAX_BYTES: usize = 512 << 10;

/// Shards of one memory.
pub const MEMORY_SHARDS_MAX: usize = 1 << 16;

/// The root of a memory in canonical form: for each shard two numbers, a backing with a seed and a name, and a link.
pub const MEMORY_ROOT_MAX_BYTES: usize = 64 + MEMORY_SHARDS_MAX * 224;

/// Nodes of maps in memory, changed and unchanged ones together.
pub const MEMORY_NODES_BYTES: usize = 8 << 20;

/// The longest name of a generator.
pub const MEMORY_GENERATOR_NAME_MAX_BYTES: usize = 64;

/// The longest object behind a shard.
pub const MEMORY_BACKING_MAX_BYTES: usize = 256 << 20;

/// Objects that a tier may lack of what was put, until nothing more is put.
pub const MEMORY_BEHIND_MAX: usize = 1 << 16;

/// Bytes that are copied from tier to tier at a time.
pub const MEMORY_COPY_BYTES: usize = 8 << 20;

/// The latest events of a chain of tiers that are kept.
pub const MEMORY_EVENTS_MAX: usize = 256;

const _: () = assert!(MEMORY_PAGE_MAX_BYTES < STORE_LARGE_MIN_BYTES);

/// Handles that one run may hold at a time.
pub const HANDLES_MAX: usize = 4096;

const _: () = assert!(EVENT_INLINE_MAX_BYTES < FRAME_PAYLOAD_MAX_BYTES);
const _: () = assert!(STORE_LARGE_MIN_BYTES as u64 <= STORE_PACK_MAX_BYTES);

/// A ledger starts a new segment once the current one is this long.
pub const LEDGER_SEGMENT_MAX_BYTES: u64 = 64 << 20;

/// Most bytes of a segment that are read: it may pass its limit by the last group.
pub const SEGMENT_READ_MAX_BYTES: u64 = 16 * LEDGER_SEGMENT_MAX_BYTES;

/// A block of a ledger ends with the entry that brings it to this length, before it is compressed. Beyond it
/// entries hardly get shorter.
pub const LEDGER_BLOCK_BYTES: usize = 256 << 10;

/// No block of a ledger is longer than this once it is unpacked, whatever it says.
pub const LEDGER_BLOCK_MAX_BYTES: usize = LEDGER_BLOCK_BYTES + FRAME_PAYLOAD_MAX_BYTES + 4;

/// Events that may be open inside each other: calls of kernels by kernels.
pub const EVENT_OPEN_MAX: usize = 256;
// A record's place in its pack is kept as a u32, and the last one may be an object with its header and a block of filler longer.
const _: () = assert!(STORE_BLOCK_BYTES < STORE_LARGE_MIN_BYTES);
const _: () = assert!(STORE_PACK_MAX_BYTES + (STORE_LARGE_MIN_BYTES as u64) * 2 < u32::MAX as u64);
const _: () = assert!(STORE_CHUNK_BYTES <= STORE_LARGE_MIN_BYTES);
