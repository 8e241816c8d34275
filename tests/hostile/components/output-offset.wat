;; Emits a record that chooses its own offset.
;; must fail: offset

;;; data
\00\00\00\0c\00\00\02\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 10))
