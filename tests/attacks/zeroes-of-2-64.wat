;; Writes 2^64 - 1 zeroes, for which it needs no memory of its own; the host would.
;;! call: f()
;;! code: 4
;;! error: a write of 18446744073709551615 bytes
;;! log: write-zeroes
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type $e (sub resource)))))
  (alias export $errors "error" (type $ioerror))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (export "error" (type $e (eq $ioerror)))
    (type $se (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $error (eq $se)))
    (export "[method]output-stream.write-zeroes" (func (param "self" (borrow $out)) (param "len" u64) (result (result (error $error)))))))
  (alias export $streams "output-stream" (type $out))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type $t (eq $out)))
    (export "get-stdout" (func (result (own $t))))))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $zeroes (canon lower (func $streams "[method]output-stream.write-zeroes") (memory $memory)))
  (core module $m
    (import "" "get" (func $get (result i32))) (import "" "zeroes" (func $zeroes (param i32 i64 i32)))
    (func (export "f") (call $zeroes (call $get) (i64.const -1) (i32.const 64))))
  (core instance $i (instantiate $m (with "" (instance (export "get" (func $get)) (export "zeroes" (func $zeroes))))))
  (func (export "f") (canon lift (core func $i "f"))))
