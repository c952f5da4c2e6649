summarise <- function(values) {
  list(count = length(values), sum = as.integer(sum(values)), mean = mean(values))
}
