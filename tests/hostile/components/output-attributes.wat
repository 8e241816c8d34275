;; Emits a record with attributes.
;; must fail: attributes

;;; data
\00\00\00\0c\01\00\00\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 10))
