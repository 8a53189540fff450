//! Small programs for WASI 0.1, which every host here runs as they are.

use crate::bench::{Result, text};

/// Reads `big.bin` of its directory in pieces of 64 KiB, and traps unless it has `bytes` bytes.
pub(super) fn reader(bytes: u64) -> Result<Vec<u8>> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "big.bin")
  (data (i32.const 32) "\00\00\01\00\00\00\01\00")
  (func (export "_start") (local $all i64)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))
      (then unreachable))
    (loop $again
      (if (call $read (i32.load (i32.const 16)) (i32.const 32) (i32.const 1) (i32.const 24))
        (then unreachable))
      (local.set $all (i64.add (local.get $all) (i64.load32_u (i32.const 24))))
      (br_if $again (i32.load (i32.const 24))))
    (if (i64.ne (local.get $all) (i64.const {bytes})) (then unreachable))))"#
    );
    wat::parse_str(source).map_err(text)
}

/// Waits `waits` times for a microsecond to pass, and adds numbers in between for about as long.
pub(super) fn poller(waits: u32) -> Result<Vec<u8>> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\01")
  (data (i32.const 24) "\e8\03")
  (func (export "_start") (local $i i32) (local $n i32)
    (loop $again
      (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))
      (local.set $n (i32.const 1000))
      (loop $work
        (i32.store (i32.const 256) (i32.add (i32.load (i32.const 256)) (local.get $n)))
        (br_if $work (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {waits}))))))"#
    );
    wat::parse_str(source).map_err(text)
}
