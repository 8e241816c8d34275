;; Waits in `init` for room that nobody makes.
;; must not start: init failed: deadline of 100 ms exceeded
;; uses: write-zeroes, fields, request, request-body, body-stream
;; granted hosts: https://a.test

;;; init
(call $request-body (call $request (call $fields)) (i32.const 64))
(call $body-stream (i32.load (i32.const 68)) (i32.const 64))
(local.set $i (i32.load (i32.const 68)))
(loop $again
    (call $write-zeroes (local.get $i) (i64.const 4096) (i32.const 64))
    (br $again))
(unreachable)
