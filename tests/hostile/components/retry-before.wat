;; Wants a record again a millisecond ago.
;; must fail: retry time -1 is not within 0 to 86400000

;;; data
\00\02\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 4))
