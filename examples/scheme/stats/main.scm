(use-modules (ice-9 rdelim) (lib stats))

(define (read-values)
  (let ((line (read-line)))
    (if (eof-object? line)
        '()
        (cons (string->number line) (read-values)))))

(let ((summary (summarise (read-values))))
  (display summary)
  (call-with-output-file "summary.txt" (lambda (file) (display summary file))))
