;; Is made of a hundred core instances.
;; must not start: instance count too high

;;; imports
(core module $small)
@repeat 100 (core instance (instantiate $small))
