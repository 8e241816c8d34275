;; Wants a record again after more than a day.
;; must fail: retry time 86400001 is not within 0 to 86400000

;;; data
\00\02\82\f0\b2\52\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 7))
