module list
contains
  integer function length()
    length = 3
  end function length
end module list
