(defpackage :stats
  (:use :cl)
  (:export #:summarise))

(in-package :stats)

(defun summarise (values)
  (let ((sum (reduce #'+ values)) (count (length values)))
    (format nil "count ~d~%sum ~d~%mean ~,2f~%" count sum (/ sum count))))
