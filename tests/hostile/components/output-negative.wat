;; Emits to output -1.
;; must fail: output

;;; data
\00\00\01\0c\00\00\00\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 10))
