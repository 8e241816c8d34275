;; Says that a record has -5 bytes.
;; must fail: record length -5 is not within 0 to 33554432

;;; data
\00\00\00\09

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 4))
