;; Writes a hundred values of 128 KiB in one call, whatever it is told.
;; must go on:
;; limits: deadline-ms 5000
;; uses: put

;;; handle
(loop $again
    (i32.store8 (i32.const 1024) (local.get $i))
    (call $put (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 131072) (i32.const 64))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
