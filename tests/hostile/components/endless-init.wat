;; Loops for ever in `init`.
;; must not start: init failed: deadline of 100 ms exceeded

;;; init
(loop $again (br $again))
(unreachable)
