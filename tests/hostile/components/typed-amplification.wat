;; Answers with 100,000 typed outcomes, of which each emits the same 18,000 records.
;; must fail: fuel allocated for hostcalls has been exhausted
;; limits: deadline-ms 5000

;;; handle
(drop (memory.grow (i32.const 48)))
(loop $again
    (i32.store (i32.add (i32.const 1179652) (i32.mul (local.get $i) (i32.const 16))) (i32.const 131072))
    (i32.store (i32.add (i32.const 1179656) (i32.mul (local.get $i) (i32.const 16))) (i32.const 18000))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))
(call $answer (i32.const 0) (i32.const 1179648) (i32.const 100000))

;;; exports
(type $header' (record (field "name" string) (field "value" (option (list u8)))))
(type $input' (record (field "offset" u64) (field "timestamp-ms" s64) (field "key" (option (list u8)))
    (field "value" (option (list u8))) (field "headers" (list $header'))))
(type $output' (record (field "output" u32) (field "timestamp-ms" (option s64)) (field "key" (option (list u8)))
    (field "value" (option (list u8))) (field "headers" (list $header'))))
(type $retry' (record (field "after-ms" u32) (field "reason" string)))
(type $outcome' (variant (case "emit" (list $output')) (case "drop") (case "reject" string) (case "retry" $retry')))
(func $handle-records (param "records" (list $input')) (result (result (list $outcome') (error string)))
    (canon lift (core func $guest "handle")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
(component $typed
    (type $header' (record (field "name" string) (field "value" (option (list u8)))))
    (import "header" (type $header (eq $header')))
    (type $input' (record (field "offset" u64) (field "timestamp-ms" s64) (field "key" (option (list u8)))
        (field "value" (option (list u8))) (field "headers" (list $header))))
    (import "input-record" (type $input (eq $input')))
    (type $output' (record (field "output" u32) (field "timestamp-ms" (option s64)) (field "key" (option (list u8)))
        (field "value" (option (list u8))) (field "headers" (list $header))))
    (import "output-record" (type $output (eq $output')))
    (type $retry' (record (field "after-ms" u32) (field "reason" string)))
    (import "retry" (type $retry (eq $retry')))
    (type $outcome' (variant (case "emit" (list $output)) (case "drop") (case "reject" string) (case "retry" $retry)))
    (import "outcome" (type $outcome (eq $outcome')))
    (import "handle" (func $handle (param "records" (list $input)) (result (result (list $outcome) (error string)))))
    (export $h "header" (type $header'))
    (type $input'' (record (field "offset" u64) (field "timestamp-ms" s64) (field "key" (option (list u8)))
        (field "value" (option (list u8))) (field "headers" (list $h))))
    (export $i "input-record" (type $input''))
    (type $output'' (record (field "output" u32) (field "timestamp-ms" (option s64)) (field "key" (option (list u8)))
        (field "value" (option (list u8))) (field "headers" (list $h))))
    (export $o "output-record" (type $output''))
    (export $r "retry" (type $retry'))
    (type $outcome'' (variant (case "emit" (list $o)) (case "drop") (case "reject" string) (case "retry" $r)))
    (export $u "outcome" (type $outcome''))
    (export "handle" (func $handle) (func (param "records" (list $i)) (result (result (list $u) (error string))))))
(instance $record-handler (instantiate $typed
    (with "header" (type $header')) (with "input-record" (type $input')) (with "output-record" (type $output'))
    (with "retry" (type $retry')) (with "outcome" (type $outcome')) (with "handle" (func $handle-records))))
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/record-handler@0.1.0" (instance $record-handler))
