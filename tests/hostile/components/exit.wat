;; Asks the host to end the process.
;; must fail: exited with status 1
;; uses: exit

;;; handle
(call $exit (i32.const 1))
(unreachable)
