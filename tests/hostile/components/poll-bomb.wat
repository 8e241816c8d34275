;; Waits for the first of four million events, which are all the same.
;; must fail: store handle limit exceeded
;; limits: deadline-ms 5000
;; uses: poll, subscribe

;;; handle
(drop (memory.grow (i32.const 300)))
(local.set $j (call $subscribe (i64.const 0)))
(loop $again
    (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $i) (i32.const 4))) (local.get $j))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $i) (i32.const 4000000))))
(call $poll (i32.const 131072) (i32.const 4000000) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
