;; Reads a secret that it was not granted, and fails with what it is told.
;; must go on:
;; uses: secret
;; granted secrets: key

;;; data
anothers-key

;;; handle
(call $secret (i32.const 1024) (i32.const 12) (i32.const 64))
(call $answer (i32.load8_u (i32.const 64)) (i32.load (i32.const 68)) (i32.load (i32.const 72)))
