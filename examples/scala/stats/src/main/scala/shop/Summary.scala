package shop

case class Summary(count: Int, sum: Int):
  def text = String.format(java.util.Locale.ROOT, "count %d%nsum %d%nmean %.2f%n", count, sum, sum.toDouble / count)

object Summary:
  def of(numbers: List[Int]) = Summary(numbers.length, numbers.sum)
