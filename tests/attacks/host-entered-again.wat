;; Calls the host while the host is about to answer it.
;;! give: --grant dir:ro=data
;;! call: f()
;;! code: 4
;;! error: trap
(component
  (import "vac:kernel/files@0.1.0" (instance $files
    (type $v (variant (case "denied") (case "not-found") (case "wrong-kind") (case "too-large") (case "other" string)))
    (export "error" (type $error (eq $v)))
    (export "read" (func (param "path" string) (result (result (list u8) (error $error)))))))
  (core module $table (table (export "t") 1 funcref))
  (core instance $table (instantiate $table))
  (core module $libc
    (import "table" "t" (table 1 funcref))
    (type $read (func (param i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "data/a")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call_indirect (type $read) (i32.const 16) (i32.const 6) (i32.const 128) (i32.const 0))
      (i32.const 4096)))
  (core instance $libc (instantiate $libc (with "table" (instance $table))))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $read (canon lower (func $files "read") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "table" "t" (table 1 funcref))
    (import "" "read" (func $read (param i32 i32 i32)))
    (elem (i32.const 0) func $read)
    (func (export "f") (call $read (i32.const 16) (i32.const 6) (i32.const 64))))
  (core instance $i (instantiate $m (with "table" (instance $table)) (with "" (instance (export "read" (func $read))))))
  (func (export "f") (canon lift (core func $i "f"))))
