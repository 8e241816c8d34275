;; Wants a function that nobody has.
;; must be refused: imports `help`, which is not granted

;;; imports
(import "help" (func))
