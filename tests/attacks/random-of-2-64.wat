;; Asks for more random bytes than any machine has memory for.
;;! call: f()
;;! code: 4
;;! error: 18446744073709551615
;;! log: get-random-bytes
(component
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $bytes (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "" "bytes" (func $bytes (param i64 i32)))
    (func (export "f") (call $bytes (i64.const -1) (i32.const 64))))
  (core instance $i (instantiate $m (with "" (instance (export "bytes" (func $bytes))))))
  (func (export "f") (canon lift (core func $i "f"))))
