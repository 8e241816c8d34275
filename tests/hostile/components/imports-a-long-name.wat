;; Wants an interface whose name has 90 KB.
;; must be refused: imports `aaaaaaaa

;;; imports
(import "@(90000 a)" (func))
