;; Rejects a record for a reason that is no UTF-8.
;; must fail: UTF-8

;;; data
\00\01\04\ff\fe

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 5))
