;; Counts under ten thousand names.
;; must go on: dropped: 
;; limits: deadline-ms 5000
;; uses: count

;;; data
a

;;; handle
(loop $again
    (i32.store8 (i32.const 1025) (i32.add (i32.const 97) (i32.rem_u (local.get $i) (i32.const 26))))
    (i32.store8 (i32.const 1026) (i32.add (i32.const 97) (i32.rem_u (i32.div_u (local.get $i) (i32.const 26)) (i32.const 26))))
    (i32.store8 (i32.const 1027) (i32.add (i32.const 97) (i32.div_u (local.get $i) (i32.const 676))))
    (call $count (i32.const 1024) (i32.const 4) (i64.const 1))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $i) (i32.const 10000))))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
