(display "Hello from Scheme")
(newline)
