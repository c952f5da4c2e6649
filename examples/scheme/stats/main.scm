(use-modules (ice-9 rdelim) (lib stats))

(define (read-values)
  (let ((line (read-line)))
    (if (eof-object? line)
        '()
        (cons (string->number line) (read-values)))))

(display (summarise (read-values)))
