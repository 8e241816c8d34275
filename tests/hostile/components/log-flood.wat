;; Logs a hundred thousand lines.
;; must go on: lines dropped: more than 100 in a second
;; limits: deadline-ms 30000
;; uses: log

;;; data
loop, again

;;; handle
(loop $again
    (call $log (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 11))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
