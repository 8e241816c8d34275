;; Answers, and loops for ever when it is to free the answer.
;; must fail: deadline of 100 ms exceeded

;;; post-return
(loop $again (br $again))
