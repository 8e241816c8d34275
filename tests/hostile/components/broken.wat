;; Is a component with garbage behind its end.
;; must be refused: not a valid component

;;; pad
3
