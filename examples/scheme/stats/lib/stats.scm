(define-module (lib stats)
  #:use-module (ice-9 format)
  #:export (summarise))

(define (summarise values)
  (let ((sum (apply + values)) (count (length values)))
    (format #f "count ~d~%sum ~d~%mean ~,2f~%" count sum (/ sum count 1.0))))
