;; Writes to its state in `init`, and refuses to start if it may not.
;; must not start: init refused: ro
;; uses: put

;;; data
ro

;;; init
(call $put (i32.const 1024) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 64))
(call $answer (i32.load8_u (i32.const 64)) (i32.const 1024) (i32.const 2))
