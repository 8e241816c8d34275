;; Reads a key of its state without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: get

;;; handle
(loop $again
    (call $get (i32.const 1024) (i32.const 3) (i32.const 64))
    (br $again))
(unreachable)

;;; data
key
