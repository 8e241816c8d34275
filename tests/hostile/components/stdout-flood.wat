;; Writes to standard output without end, and never ends a line.
;; must fail: deadline of 100 ms exceeded
;; uses: write, stdout

;;; handle
(local.set $i (call $stdout))
(loop $again
    (call $write (local.get $i) (i32.const 0) (i32.const 4096) (i32.const 64))
    (br $again))
(unreachable)
