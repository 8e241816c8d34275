;; Allocates objects that a collector of the host would have to keep.
;; must be refused: not a valid component

;;; core
(type $pair (struct (field i32) (field i32)))

;;; handle
(loop $again (drop (struct.new_default $pair)) (br $again))
(unreachable)
