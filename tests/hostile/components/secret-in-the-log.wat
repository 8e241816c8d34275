;; Logs the secret that it was granted.
;; must go on: ***
;; uses: log, secret
;; granted secrets: key

;;; data
key

;;; handle
(call $secret (i32.const 1024) (i32.const 3) (i32.const 64))
(call $log (i32.const 2) (i32.const 1024) (i32.const 3) (i32.load (i32.const 68)) (i32.load (i32.const 72)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
