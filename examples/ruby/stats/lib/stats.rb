# What a list of numbers is like.
class Stats
  def initialize(values)
    @values = values
  end

  def to_s
    sum = @values.sum
    format("count %d\nsum %d\nmean %.2f", @values.size, sum, sum / @values.size)
  end
end
