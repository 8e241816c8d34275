;; Wants to look up where there is no table.
;; must be refused: imports `millstream:plugin/tables@0.1.0`, but the deployment names no table
;; uses: find
