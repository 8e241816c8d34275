;; Answers with 33 MiB.
;; must fail: more than 33554432
;; limits: deadline-ms 5000

;;; handle
(drop (memory.grow (i32.const 800)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 34603008))
