;; Is one function of 1,500 blocks within each other, and 1,500 jumps to many of them.
;; must not compile:

;;; component
(component (core module (func (param i32)
    @repeat 1500 block
    @repeat 1500 block local.get 0 br_table @(750 0 )@(750 1400 )0 end
    @repeat 1500 end
)))
