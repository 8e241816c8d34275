;; Writes the body of a request that it never sends, and waits for room.
;; must fail: waited too long: a call lasts at most 1200 ms
;; limits: deadline-ms 20
;; uses: write-zeroes, fields, request, request-body, body-stream
;; granted hosts: https://a.test

;;; handle
(call $request-body (call $request (call $fields)) (i32.const 64))
(call $body-stream (i32.load (i32.const 68)) (i32.const 64))
(local.set $i (i32.load (i32.const 68)))
(loop $again
    (call $write-zeroes (local.get $i) (i64.const 4096) (i32.const 64))
    (br $again))
(unreachable)
