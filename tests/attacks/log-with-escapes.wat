;; Logs what would clear the terminal, set its title, and end the line to begin one of its own.
;;! call: f()
;;! log: wasi:logging/logging#log
(component
  (import "wasi:logging/logging" (instance $logging
    (type $l0 (enum "trace" "debug" "info" "warn" "error" "critical")) (export "level" (type $l (eq $l0)))
    (export "log" (func (param "level" $l) (param "context" string) (param "message" string)))))
  (core module $libc (memory (export "memory") 1)
    (data (i32.const 16) "\1b[2J\1b]0;title\07\0d\nerror: forged\c2\9b31m\e2\80\ae"))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $log (canon lower (func $logging "log") (memory $memory)))
  (core module $m
    (import "" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "f")
      (call $log (i32.const 4) (i32.const 16) (i32.const 38) (i32.const 16) (i32.const 38))))
  (core instance $i (instantiate $m (with "" (instance (export "log" (func $log))))))
  (func (export "f") (canon lift (core func $i "f"))))
