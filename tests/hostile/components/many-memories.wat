;; Has eight memories.
;; must not start: memory count too high

;;; core
@repeat 8 (memory 1)
