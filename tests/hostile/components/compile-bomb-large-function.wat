;; Is one function of a million additions.
;; must not compile:

;;; component
(component (core module (func (param i64) (result i64)
    local.get 0
    @repeat 1000000 local.get 0 i64.add
)))
