;; Emits for a record, and rejects it as well.
;; must fail: input 0 has outcomes that exclude each other

;;; data
\00\00\00\0c\00\00\00\01\01\00\00\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 13))
