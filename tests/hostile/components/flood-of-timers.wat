;; Sets a timer without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: set-timer

;;; data
key

;;; handle
(loop $again
    (call $set-timer (i32.const 0) (i32.const 1024) (i32.const 3) (i64.const 0) (i32.const 64))
    (br $again))
(unreachable)

;;; exports
(type $fired (record (field "clock" $clock) (field "key" (list u8)) (field "at-ms" s64)))
(func $fire (param "timers" (list $fired)) (result (result (list u8) (error string)))
    (canon lift (core func $guest "handle")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
(component $timed
    (type $clock' (enum "record-time" "wall-time"))
    (import "clock" (type $clock (eq $clock')))
    (type $fired' (record (field "clock" $clock) (field "key" (list u8)) (field "at-ms" s64)))
    (import "fired" (type $fired (eq $fired')))
    (import "handle" (func $handle (param "timers" (list $fired)) (result (result (list u8) (error string)))))
    (export $f "fired" (type $fired'))
    (export "handle" (func $handle) (func (param "timers" (list $f)) (result (result (list u8) (error string))))))
(instance $timer-handler (instantiate $timed
    (with "clock" (type $clock)) (with "fired" (type $fired)) (with "handle" (func $fire))))
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
(export "millstream:plugin/timer-handler@0.1.0" (instance $timer-handler))
