module stats
  implicit none
contains
  subroutine summarise(values)
    real(8), intent(in) :: values(:)
    print "(a, i0)", "count ", size(values)
    print "(a, i0)", "sum ", nint(sum(values))
    print "(a, f0.2)", "mean ", sum(values) / size(values)
  end subroutine summarise
end module stats
