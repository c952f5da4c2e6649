program numbers
  use stats, only: summarise
  implicit none
  real(8) :: values(100)
  integer :: count, status, file

  count = 0
  do
    read (*, *, iostat=status) values(count + 1)
    if (status /= 0) exit
    count = count + 1
  end do
  call summarise(values(:count))
  open (newunit=file, file="summary.txt")
  write (file, "(f0.2)") sum(values(:count))
  close (file)
end program numbers
