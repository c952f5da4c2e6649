source [file join [file dirname [info script]] lib stats.tcl]

puts -nonewline [stats::summarise [split [string trim [read stdin]] "\n"]]
