;; What a user of `arcjet-redact` writes in its own language: words that begin with `#` are tickets, and
;; are replaced by `<ticket>`. Everything else is left to the program.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "ticket<ticket>")
    (global $free (mut i32) (i32.const 1024))

    ;; Room that is never given back: a call is short.
    (func $room (param $len i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $len)))
      (block $enough
        (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.const 16))))
      (local.get $at))
    (func (export "realloc") (param i32 i32 i32) (param $len i32) (result i32) (call $room (local.get $len)))

    ;; Tokens, each an address and a length, to optional entities of 16 bytes:
    ;; 0: is there one   4: its kind, 4 is `custom`   8: address and length of the kind's name
    (func (export "detect") (param $tokens i32) (param $count i32) (result i32)
      (local $all i32) (local $one i32) (local $i i32) (local $token i32) (local $answer i32)
      (local.set $all (call $room (i32.mul (local.get $count) (i32.const 16))))
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
        (local.set $one (i32.add (local.get $all) (i32.mul (local.get $i) (i32.const 16))))
        (local.set $token (i32.add (local.get $tokens) (i32.mul (local.get $i) (i32.const 8))))
        (memory.fill (local.get $one) (i32.const 0) (i32.const 16))
        (if (i32.and
              (i32.gt_u (i32.load offset=4 (local.get $token)) (i32.const 1))
              (i32.eq (i32.load8_u (i32.load (local.get $token))) (i32.const 35)))
          (then
            (i32.store8 (local.get $one) (i32.const 1))
            (i32.store8 offset=4 (local.get $one) (i32.const 4))
            (i32.store offset=8 (local.get $one) (i32.const 16))
            (i32.store offset=12 (local.get $one) (i32.const 6))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
      (local.set $answer (call $room (i32.const 8)))
      (i32.store (local.get $answer) (local.get $all))
      (i32.store offset=4 (local.get $answer) (local.get $count))
      (local.get $answer))

    ;; An entity and its text to what stands in for it, if anything.
    (func (export "redact") (param $kind i32) (param i32 i32 i32 i32) (result i32) (local $answer i32)
      (local.set $answer (call $room (i32.const 12)))
      (memory.fill (local.get $answer) (i32.const 0) (i32.const 12))
      (if (i32.eq (local.get $kind) (i32.const 4))
        (then
          (i32.store8 (local.get $answer) (i32.const 1))
          (i32.store offset=4 (local.get $answer) (i32.const 22))
          (i32.store offset=8 (local.get $answer) (i32.const 8))))
      (local.get $answer)))

  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (alias core export $i "detect" (core func $find))
  (alias core export $i "redact" (core func $replace))
  (type $entity (variant
    (case "email") (case "phone-number") (case "ip-address") (case "credit-card-number") (case "custom" string)))
  (type $detect (func (param "tokens" (list string)) (result (list (option $entity)))))
  (type $redact (func (param "entity-type" $entity) (param "plaintext" string) (result (option string))))
  (func $detect (type $detect) (canon lift (core func $find) (memory $memory) (realloc $realloc)))
  (func $redact (type $redact) (canon lift (core func $replace) (memory $memory) (realloc $realloc)))

  ;; An exported function may name only types that are exported with it.
  (component $named
    (type $entity-of (variant
      (case "email") (case "phone-number") (case "ip-address") (case "credit-card-number") (case "custom" string)))
    (import "entity" (type $entity (eq $entity-of)))
    (import "detect" (func $detect (param "tokens" (list string)) (result (list (option $entity)))))
    (import "redact" (func $redact
      (param "entity-type" $entity) (param "plaintext" string) (result (option string))))
    (export $shown "sensitive-info-entity" (type $entity))
    (export "detect-sensitive-info" (func $detect)
      (func (param "tokens" (list string)) (result (list (option $shown)))))
    (export "redact-sensitive-info" (func $redact)
      (func (param "entity-type" $shown) (param "plaintext" string) (result (option string)))))
  (instance $all (instantiate $named
    (with "entity" (type $entity)) (with "detect" (func $detect)) (with "redact" (func $redact))))
  (export "arcjet:redact/custom-redact" (instance $all)))
