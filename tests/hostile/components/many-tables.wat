;; Has a hundred tables.
;; must not start: table count too high

;;; core
@repeat 100 (table 1 funcref)
