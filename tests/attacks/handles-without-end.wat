;; Takes handle after handle of the standard output and gives none back.
;;! give: --limit handles=16
;;! call: f()
;;! code: 4
;;! error: wants 17 handles | the limit is 16
;;! log: get-stdout
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type $e (sub resource)))))
  (alias export $errors "error" (type $ioerror))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (export "input-stream" (type $in (sub resource)))
    (export "error" (type $e (eq $ioerror)))
    (type $se (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $error (eq $se)))
    (export "[method]output-stream.write" (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $error)))))
    (export "[method]input-stream.read" (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $error)))))))
  (alias export $streams "output-stream" (type $out))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type $t (eq $out)))
    (export "get-stdout" (func (result (own $t))))))
  (core func $get (canon lower (func $stdout "get-stdout")))
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
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $memory)))
  (core func $read (canon lower (func $streams "[method]input-stream.read") (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $out))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "" "get" (func $get (result i32)))
    (func (export "f") (loop (drop (call $get)) (br 0))))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "" (instance (export "get" (func $get))))))
  (func (export "f") (canon lift (core func $i "f"))))
