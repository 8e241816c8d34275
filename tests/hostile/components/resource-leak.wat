;; Asks for events without end, and drops none.
;; must fail: resource table has no free keys
;; limits: deadline-ms 5000
;; uses: poll, subscribe

;;; handle
(loop $again
    (drop (call $subscribe (i64.const 0)))
    (br $again))
(unreachable)
