;; Has 33 MiB.
;; must be refused: more than the limit of

;;; pad
34603008
