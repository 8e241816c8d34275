;; Writes a key of 2000 bytes, and fails with what it is told.
;; must fail: handler failed: a key of 2000 bytes, more than 1024
;; uses: put

;;; handle
(call $put (i32.const 1024) (i32.const 2000) (i32.const 0) (i32.const 0) (i32.const 64))
(call $answer (i32.const 1) (i32.load (i32.const 72)) (i32.load (i32.const 76)))
