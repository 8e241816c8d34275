;; Loops for ever in `handle`.
;; must fail: deadline of 100 ms exceeded

;;; handle
(loop $again (br $again))
(unreachable)
