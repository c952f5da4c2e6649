program one
  print '(a)', 'one'
end program one
