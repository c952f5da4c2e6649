defmodule Stats do
  @doc "What a list of numbers is like."
  def summarise(values) do
    sum = Enum.sum(values)
    mean = :erlang.float_to_binary(sum / length(values), decimals: 2)
    "count #{length(values)}\nsum #{sum}\nmean #{mean}\n"
  end
end
