local stats = {}

function stats.summarise(values)
  local sum = 0
  for _, value in ipairs(values) do
    sum = sum + value
  end
  return string.format("count %d\nsum %d\nmean %.2f\n", #values, sum, sum / #values)
end

return stats
