package numbers

import java.io.File
import numbers.stats.Summary

fun main() {
    val values = generateSequence(::readLine).map { it.toDouble() }.toList()
    val summary = Summary(values).toString()
    print(summary)
    File("summary.txt").writeText(summary)
}
