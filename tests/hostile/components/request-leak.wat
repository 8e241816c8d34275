;; Makes requests without end, and sends and drops none.
;; must fail: resource table has no free keys
;; limits: deadline-ms 5000
;; uses: write-zeroes, fields, request
;; granted hosts: https://a.test

;;; handle
(loop $again
    (drop (call $request (call $fields)))
    (br $again))
(unreachable)
