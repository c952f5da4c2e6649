(load "lib/stats.lisp")

(let ((values (loop for line = (read-line *standard-input* nil)
                    while line
                    collect (parse-integer line))))
  (write-string (stats:summarise values)))
