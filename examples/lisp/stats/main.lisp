(load "lib/stats.lisp")

(let* ((values (loop for line = (read-line *standard-input* nil)
                     while line
                     collect (parse-integer line)))
       (summary (stats:summarise values)))
  (write-string summary)
  (with-open-file (file "summary.txt" :direction :output)
    (write-string summary file)))
