program two
  use list
  print '(a, i0)', 'two of ', length()
end program two
