;; Is made of 300,000 functions.
;; must not compile:

;;; component
(component (core module
    @repeat 300000 (func (param i64) (result i64) (i64.div_s (i64.mul (local.get 0) (i64.const {n})) (i64.add (local.get 0) (i64.const {n+1}))))
))
