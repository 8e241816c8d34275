;; Fails with the secret that it was granted.
;; must fail: handler failed: ***
;; uses: secret
;; granted secrets: key

;;; data
key

;;; handle
(call $secret (i32.const 1024) (i32.const 3) (i32.const 64))
(call $answer (i32.const 1) (i32.load (i32.const 68)) (i32.load (i32.const 72)))
