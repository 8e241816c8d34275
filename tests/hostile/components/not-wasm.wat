;; Is no WebAssembly at all.
;; must be refused: not a WebAssembly component

;;; bytes
#!/bin/sh
rm -rf /
