;; Writes a value of 2 MiB, and fails with what it is told.
;; must fail: handler failed: a value of 2097152 bytes, more than 1048576
;; uses: put

;;; handle
(drop (memory.grow (i32.const 64)))
(call $put (i32.const 1024) (i32.const 3) (i32.const 0) (i32.const 2097152) (i32.const 64))
(call $answer (i32.const 1) (i32.load (i32.const 72)) (i32.load (i32.const 76)))
