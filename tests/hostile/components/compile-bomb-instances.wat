;; Is a component of two components of two components, thirty times.
;; must not compile:

;;; component
(component
    (component $c0 (core module $m (func (export "f"))) (core instance (instantiate $m)))
    @repeat 30 (component $c{n+1} (alias outer 1 $c{n} (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))
    (instance (instantiate $c30))
)
