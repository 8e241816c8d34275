;; Scans its state without end.
;; must fail: deadline of 100 ms exceeded
;; uses: scan

;;; handle
(loop $again
    (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 64))
    (br $again))
(unreachable)
