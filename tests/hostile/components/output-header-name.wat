;; Emits a header whose name is no UTF-8.
;; must fail: UTF-8

;;; data
\00\00\00\14\00\00\00\01\01\02\04\ff\fe\01

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 14))
