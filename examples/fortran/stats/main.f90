program numbers
  use stats, only: summarise
  implicit none
  real(8) :: values(100)
  integer :: count, status

  count = 0
  do
    read (*, *, iostat=status) values(count + 1)
    if (status /= 0) exit
    count = count + 1
  end do
  call summarise(values(:count))
end program numbers
