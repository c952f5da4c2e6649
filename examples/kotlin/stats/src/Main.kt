package numbers

import numbers.stats.Summary

fun main() {
    val values = generateSequence(::readLine).map { it.toDouble() }.toList()
    print(Summary(values))
}
