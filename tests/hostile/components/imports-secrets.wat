;; Wants the secrets of others, and is granted none.
;; must be refused: imports `millstream:plugin/secrets@0.1.0`, but the deployment is granted no secret
;; uses: secret
