;; Lets the host wait for a place for ever.
;;! give: --grant dir:ro=data --limit ticks=1000000
;;! call: f()
;;! code: 4
;;! error: 1000000 ticks
(component
  (import "vac:kernel/files@0.1.0" (instance $files
    (type $v (variant (case "denied") (case "not-found") (case "wrong-kind") (case "too-large") (case "other" string)))
    (export "error" (type $error (eq $v)))
    (export "read" (func (param "path" string) (result (result (list u8) (error $error)))))))
  (core module $libc 
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) (i32.const 0)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $read (canon lower (func $files "read") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "" "read" (func $read (param i32 i32 i32)))
    (data (i32.const 16) "data/a")
    (func (export "f") (result i64) (call $read (i32.const 16) (i32.const 6) (i32.const 64))(i64.load8_u (i32.load (i32.const 68)))))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "" (instance (export "read" (func $read))))))
  (func (export "f") (result u64) (canon lift (core func $i "f"))))
