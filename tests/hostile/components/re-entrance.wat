;; Calls the host while the host asks it for room for the records.
;; must fail: cannot leave component instance

;;; imports
(import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock (export "now" (func (result u64)))))
(core func $now (canon lower (func $clock "now")))

;;; libc
(core module $libc
    (import "clock" "now" (func $now (result i64)))
    (memory (export "memory") 2)
    (global $calls (mut i32) (i32.const 0))
    ;; `init` gets its room: four calls have come by then.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.gt_u (global.get $calls) (i32.const 4)) (then (drop (call $now))))
        (i32.mul (global.get $calls) (i32.const 4096))))
(core instance $libc (instantiate $libc (with "clock" (instance (export "now" (func $now))))))
