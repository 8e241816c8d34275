;; Says that its answer has 1 GiB.
;; must fail: list pointer/length out of bounds of memory

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 1073741824))
