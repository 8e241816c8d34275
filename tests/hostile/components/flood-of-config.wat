;; Reads its whole configuration without end.
;; must fail: deadline of 100 ms exceeded
;; uses: config

;;; handle
(loop $again
    (call $config (i32.const 64))
    (br $again))
(unreachable)
