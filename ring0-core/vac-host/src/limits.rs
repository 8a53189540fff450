//! Every bound of the host, in one place.

/// The largest module or component that is looked at, in bytes.
pub const MODULE_MAX_BYTES: u64 = 256 << 20;

/// Bytes that one read gives at most.
pub const READ_MAX_BYTES: usize = 1 << 20;

/// Bytes that one write takes at most.
pub const WRITE_MAX_BYTES: usize = 1 << 20;

/// The largest file that `vac:kernel/files` reads or writes whole.
pub const WHOLE_FILE_MAX_BYTES: u64 = 256 << 20;

/// Random bytes that one call gives at most.
pub const RANDOM_MAX_BYTES: usize = 1 << 20;

/// Nesting of WAVE text.
pub const WAVE_DEPTH_MAX: usize = 200;

/// Pollables that one call waits for at most.
pub const POLL_MAX: usize = 4096;

/// The longest host name (RFC 1035, section 2.3.4).
pub const HOST_NAME_MAX_BYTES: usize = 253;

/// Addresses of resolved names that one kernel may hold.
pub const RESOLVED_MAX: usize = 4096;

/// The longest datagram.
pub const DATAGRAM_MAX_BYTES: usize = 65_535;

/// Datagrams that one call gives or takes at most.
pub const DATAGRAMS_MAX: usize = 64;

/// Names and values of one set of HTTP headers together.
pub const HTTP_FIELDS_MAX_BYTES: usize = 128 << 10;

/// The longest body of an HTTP response.
pub const HTTP_BODY_MAX_BYTES: u64 = 256 << 20;

/// The longest key of a namespace.
pub const KEY_MAX_BYTES: usize = 1 << 10;

/// The longest value of a namespace.
pub const VALUE_MAX_BYTES: usize = 16 << 20;

/// Keys that one listing gives at most.
pub const KEYS_PER_LISTING: usize = 1024;

/// Names that one directory may list.
pub const LISTING_MAX: usize = 1 << 20;

/// Objects of the file system whose identity is remembered.
pub const OBJECTS_MET_MAX: usize = 1 << 20;

/// Objects on which a guest may have set times.
pub const TIMES_SET_MAX: usize = 1 << 20;

/// The guest's stack, well inside the native one that it runs on.
pub const WASM_STACK_BYTES: usize = 1 << 20;
/// The native stack that a guest and the host functions it calls run on.
pub const NATIVE_STACK_BYTES: usize = 4 << 20;

/// Ticks after which the host looks whether it should stop a kernel: about a millisecond.
pub const TICKS_BETWEEN_CHECKS: u64 = 2_000_000;

/// Linear memory of a run unless the operator says otherwise.
pub const MEMORY_DEFAULT_BYTES: u64 = 4 << 30;

/// Table elements of a run.
pub const TABLE_ELEMENTS_MAX: u64 = 10_000_000;

/// Bytes that strings and lists of one call may take on the host.
pub const HOSTCALL_MAX_BYTES: usize = 256 << 20;

const _: () = assert!(2 * WASM_STACK_BYTES <= NATIVE_STACK_BYTES);
