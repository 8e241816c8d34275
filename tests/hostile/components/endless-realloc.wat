;; Loops for ever when the host asks for room for the records.
;; must fail: deadline of 100 ms exceeded

;;; libc
(core module $libc
    (memory (export "memory") 2)
    (global $calls (mut i32) (i32.const 0))
    ;; `init` gets its room: four calls have come by then.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.gt_u (global.get $calls) (i32.const 4)) (then (loop $again (br $again))))
        (i32.mul (global.get $calls) (i32.const 4096))))
(core instance $libc (instantiate $libc))
