;; Opens a namespace whose name a terminal would obey. It is denied, and what was denied is shown.
;;! call: f()
;;! log: wasi:keyvalue/store#open
(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (export "bucket" (type $b (sub resource)))
    (type $e0 (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $e (eq $e0)))
    (export "open" (func (param "identifier" string) (result (result (own $b) (error $e)))))))
  (core module $libc (memory (export "memory") 1)
    (data (i32.const 16) "\1b[2J\0d\nhint: forged\e2\80\ae")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "" "open" (func $open (param i32 i32 i32)))
    (func (export "f")
      (call $open (i32.const 16) (i32.const 21) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64))) (then unreachable))))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "" (instance (export "open" (func $open))))))
  (func (export "f") (canon lift (core func $i "f"))))
