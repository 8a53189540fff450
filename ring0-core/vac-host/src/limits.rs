//! Every bound of the host, in one place.

/// The largest module or component that is ever looked at, in bytes, whatever the operator says.
pub const MODULE_MAX_BYTES: u64 = 2 << 30;
/// The largest one unless the operator says otherwise.
pub const MODULE_DEFAULT_BYTES: u64 = 256 << 20;

/// Bytes that one read gives at most.
pub const READ_MAX_BYTES: usize = 1 << 20;

/// Bytes that one write takes at most.
pub const WRITE_MAX_BYTES: usize = 1 << 20;

/// The largest file that `vac:kernel/files` reads or writes whole.
pub const WHOLE_FILE_MAX_BYTES: u64 = 256 << 20;

/// The longest argument, or name or value of a variable, of a program of WASI 0.1: what its adapter has room for.
pub const ADAPTED_TEXT_MAX_BYTES: usize = 59_000;

/// Instances of core modules of one kernel, with room for what the rewriting adds,
pub(crate) const INSTANCES_MAX: usize = 1 << 13;
/// and the memory of the host that all of them may take, not counting their own memories and tables.
pub(crate) const INSTANCES_MAX_BYTES: u64 = 2 << 30;
/// What the engine keeps for one, about, and for each import, function and global of it.
pub(crate) const INSTANCE_BYTES: u64 = 16 << 10;
pub(crate) const INSTANCE_ITEM_BYTES: u64 = 48;

/// Random bytes that one call of WASI 0.2 gives: it cannot give fewer than were wanted.
pub const RANDOM_MAX_BYTES: usize = 64 << 20;
/// Random bytes that one call of WASI 0.3 gives at most, whatever was wanted.
pub const RANDOM_PART_MAX_BYTES: usize = 1 << 20;

/// Nesting of WAVE text.
pub const WAVE_DEPTH_MAX: usize = 200;

/// Pollables that one call waits for at most.
pub const POLL_MAX: usize = 4096;

/// Tasks, streams and futures that the engine keeps for a kernel at a time, both ends counted.
pub const TASKS_MAX: usize = 1 << 17;

/// Instants that a kernel waits for at most at a time.
pub const TIMERS_MAX: usize = 1 << 14;

/// Names and values of all fields of one HTTP message.
pub const FIELDS_MAX_BYTES: usize = 64 << 10;

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

/// Headers of one set, in every version of `wasi:http`.
pub const HTTP_FIELDS_MAX: usize = 1024;

/// Bytes of HTTP bodies that the host holds for one kernel at a time.
pub const HTTP_HELD_MAX_BYTES: usize = 512 << 20;

/// The longest body of an HTTP response.
pub const HTTP_BODY_MAX_BYTES: u64 = 256 << 20;

/// The longest key of a namespace.
pub const KEY_MAX_BYTES: usize = 1 << 10;

/// The longest value of a namespace.
pub const VALUE_MAX_BYTES: usize = 16 << 20;

/// Bytes of values that one call gives at most.
pub const VALUES_MAX_BYTES: usize = 4 * VALUE_MAX_BYTES;

/// Keys that one listing gives at most.
pub const KEYS_PER_LISTING: usize = 1024;

/// Pages of a memory of 128-bit addresses that one call fills or copies.
pub const SHARD_PAGES_MAX: u64 = 1 << 16;

/// Pages that a run may map in each such memory, unless the operator says otherwise.
pub const PAGES_DEFAULT: u64 = 1 << 20;

/// Names that one directory may list.
pub const LISTING_MAX: usize = 1 << 20;

/// Objects of the file system whose identity is remembered.
pub const OBJECTS_MET_MAX: usize = 1 << 20;

/// Objects on which a guest may have set times.
pub const TIMES_SET_MAX: usize = 1 << 20;

/// The guest's stack unless the operator says otherwise.
pub const WASM_STACK_BYTES: usize = 1 << 20;
/// The least stack that a guest can do with, and the most that it is given.
pub const WASM_STACK_MIN_BYTES: usize = 64 << 10;
/// See [`WASM_STACK_MIN_BYTES`].
pub const WASM_STACK_MAX_BYTES: usize = 64 << 20;
/// What a byte of the guest's stack is one unit of depth for, which the program itself counts, and how many
/// bytes of the native stack that may take at most: docs/ticks.md.
pub const DEPTH_UNIT_BYTES: usize = 8;
/// See [`DEPTH_UNIT_BYTES`].
pub const NATIVE_BYTES_PER_DEPTH_BYTE: usize =
    crate::rewrite::meter::cost::NATIVE_BYTES_PER_UNIT as usize / DEPTH_UNIT_BYTES;
/// What the native stack has beyond the guest's, for the host functions that it calls.
pub const HOST_STACK_BYTES: usize = 3 << 20;

/// Ticks of profile `det-1` after which the host looks whether it should stop a kernel: about a millisecond.
pub const TICKS_BETWEEN_CHECKS: u64 = 2_000_000;

/// Linear memory of a run unless the operator says otherwise.
pub const MEMORY_DEFAULT_BYTES: u64 = 4 << 30;

/// Table elements of a run unless the operator says otherwise.
pub const TABLE_ELEMENTS_MAX: u64 = 10_000_000;

/// Bytes that strings and lists of one call may take on the host, unless the operator says otherwise.
pub const HOSTCALL_MAX_BYTES: usize = 256 << 20;

/// Types, functions, imports or exports of a core module: what the engine itself accepts.
pub const CORE_ITEMS_MAX: usize = 1_000_000;

/// Exports of a core module that can be called.
pub const CORE_EXPORTS_MAX: usize = 10_000;

/// Parameters of a core function that is called from outside: what travels in registers.
pub const CORE_PARAMS_MAX: usize = 16;

/// Components that are linked to one program.
pub const LINKS_MAX: usize = 64;

/// Bytes of all files that the calls of one run take: they are in memory from before the first call to the last.
pub const FILES_MAX_BYTES: u64 = 1 << 30;

/// Calls of one instance in one command.
pub const CALLS_MAX: usize = 1000;

/// Bytes that one call moves between a module's memory and its caller.
pub const MEMORY_MOVE_MAX_BYTES: usize = 64 << 20;

/// Handles of any kind that a program's components may hold, those of its own resources with them,
/// unless the operator says otherwise.
pub const RESOURCES_MAX: usize = 100_000;

/// A stack on which kernels may run, unless the operator wants deeper calls than usual.
pub const THREAD_STACK_BYTES: usize = NATIVE_BYTES_PER_DEPTH_BYTE * WASM_STACK_BYTES + 2 * HOST_STACK_BYTES;
/// Calls of a guest that are shown when it was stopped, the innermost.
pub const FRAMES_MAX: usize = 100;
/// Calls of a guest that are shown when it ended itself or came to a limit, the innermost.
pub const ENDED_FRAMES_MAX: usize = 20;

/// Bytes of a guest's memory that are shown at a time.
pub const LOOK_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(WASM_STACK_BYTES <= WASM_STACK_MAX_BYTES && WASM_STACK_MIN_BYTES < WASM_STACK_BYTES);
const _: () = assert!(MODULE_DEFAULT_BYTES <= MODULE_MAX_BYTES);

/// Bytes that an exported run may need to be answered from: they are one part of one module.
pub const EXPORT_MAX_BYTES: usize = 512 << 20;

/// Events of a run that is exported; each takes 48 of those bytes.
pub const EXPORT_EVENTS_MAX: usize = 4 << 20;
