;; Asks for a secret whose name has 60 KB.
;; must go on:
;; uses: secret
;; granted secrets: key

;;; handle
(call $secret (i32.const 1024) (i32.const 60000) (i32.const 64))
(call $answer (i32.load8_u (i32.const 64)) (i32.const 1024) (i32.const 0))
