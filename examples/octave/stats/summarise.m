function summary = summarise(values)
  summary = struct("count", numel(values), "sum", sum(values), "mean", mean(values));
end
