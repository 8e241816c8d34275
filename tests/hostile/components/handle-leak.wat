;; Makes resources of its own without end, and drops none.
;; must fail: store handle limit exceeded
;; limits: deadline-ms 30000

;;; imports
(type $own (resource (rep i32)))
(core func $new (canon resource.new $own))

;;; host
(export "new" (func $new))

;;; takes
(import "host" "new" (func $new (param i32) (result i32)))

;;; handle
(loop $again
    (drop (call $new (i32.const 0)))
    (br $again))
(unreachable)
