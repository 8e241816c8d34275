;; Loops for ever in a start function, before `init`.
;; must not start: init failed: deadline of 100 ms exceeded

;;; core
(func $forever (loop $again (br $again)))
(start $forever)
