;; Says that random numbers are strings.
;; must be refused: imports `wasi:random/random@0.2.0`, which differs from what this broker serves

;;; imports
(import "wasi:random/random@0.2.0" (instance
    (export "get-random-u64" (func (result string)))))
