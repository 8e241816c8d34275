;; Rejects a record twice.
;; must fail: input 0 has outcomes that exclude each other

;;; data
\00\01\00\00\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 6))
