;; Says that an emitted record has -1 headers.
;; must fail: header count -1 is not within 0 to 256

;;; data
\00\00\00\0c\00\00\00\01\01\01

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 10))
