;; Asks for sockets, TCP and UDP, and looks up a name; logs that each call was refused by its error, or traps.
;; must go on: TCP and UDP: access-denied; names: permanent-resolver-failure
;; uses: log, network, tcp, udp, look-up

;;; data
TCP and UDP: access-denied; names: permanent-resolver-failure

;;; core
;; An error, and which: a byte each.
(func $refused (param $code i32)
    (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 1)) (then (unreachable)))
    (if (i32.ne (i32.load8_u (i32.const 68)) (local.get $code)) (then (unreachable))))

;;; handle
(loop $family
    (call $tcp (local.get $i) (i32.const 64))
    (call $refused (i32.const 1))
    (call $udp (local.get $i) (i32.const 64))
    (call $refused (i32.const 1))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $family (i32.lt_u (local.get $i) (i32.const 2))))
;; "names", of the text below.
(call $look-up (call $network) (i32.const 1052) (i32.const 5) (i32.const 64))
(call $refused (i32.const 20))
(call $log (i32.const 2) (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 61))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
