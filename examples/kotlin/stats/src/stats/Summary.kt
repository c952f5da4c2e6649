package numbers.stats

class Summary(private val values: List<Double>) {
    override fun toString(): String =
        "count %d\nsum %.0f\nmean %.2f\n".format(values.size, values.sum(), values.average())
}
