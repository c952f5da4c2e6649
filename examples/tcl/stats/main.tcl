source [file join [file dirname [info script]] lib stats.tcl]

set summary [stats::summarise [split [string trim [read stdin]] "\n"]]
puts -nonewline $summary
set file [open summary.txt w]
puts -nonewline $file $summary
close $file
