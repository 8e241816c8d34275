;; Emits three records for one, where two are allowed.
;; must fail: more than 2 outputs
;; limits: outputs-per-record 2

;;; data
\00\00\00\0c\00\00\00\01\01\00\00\00\00\0c\00\00\00\01\01\00\00\00\00\0c\00\00\00\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 30))
