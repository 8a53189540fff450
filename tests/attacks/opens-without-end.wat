;; Opens the same file again and again, and closes nothing.
;;! give: --grant dir:ro=data --limit files=8
;;! call: f()
;;! code: 4
;;! error: wants 9 open files and directories | limit is 8
;;! log: open-at
(component
  (import "wasi:filesystem/types@0.2.0" (instance $types
    (export "descriptor" (type $d (sub resource)))
    (type $pf0 (flags "symlink-follow")) (export "path-flags" (type $pf (eq $pf0)))
    (type $of0 (flags "create" "directory" "exclusive" "truncate")) (export "open-flags" (type $of (eq $of0)))
    (type $df0 (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync" "mutate-directory"))
    (export "descriptor-flags" (type $df (eq $df0)))
    (type $ec0 (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist" "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop" "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory" "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device" "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $ec (eq $ec0)))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $d)) (param "path-flags" $pf) (param "path" string)
      (param "open-flags" $of) (param "flags" $df) (result (result (own $d) (error $ec)))))))
  (alias export $types "descriptor" (type $d))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (export "descriptor" (type $t (eq $d)))
    (export "get-directories" (func (result (list (tuple (own $t) string)))))))
  (core module $libc
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 32768))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $dirs (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
  (core func $open (canon lower (func $types "[method]descriptor.open-at") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "" "dirs" (func $dirs (param i32)))
    (import "" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
    (data (i32.const 16) "a")
    (func $many (export "many") (param $n i32) (local $dir i32)
      (call $dirs (i32.const 64))
      (local.set $dir (i32.load (i32.load (i32.const 64))))
      (loop $again
        (call $open (local.get $dir) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then unreachable))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "f") (call $many (i32.const 0))))
  (core instance $i (instantiate $m (with "libc" (instance $libc))
    (with "" (instance (export "dirs" (func $dirs)) (export "open" (func $open))))))
  (func (export "many") (param "n" u32) (canon lift (core func $i "many")))
  (func (export "f") (canon lift (core func $i "f"))))
