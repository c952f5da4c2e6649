namespace eval stats {
    proc summarise {values} {
        set sum [tcl::mathop::+ {*}$values]
        set count [llength $values]
        format "count %d\nsum %d\nmean %.2f\n" $count $sum [expr {double($sum) / $count}]
    }
}
