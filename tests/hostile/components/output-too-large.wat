;; Emits a record of 5 MiB.
;; must fail: a record of 5242880 bytes, more than 4194304
;; limits: deadline-ms 5000

;;; data
\00\00\00\92\80\80\05\00\00\00\01\80\80\80\05

;;; handle
(drop (memory.grow (i32.const 100)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 5242896))
