source("lib/stats.R")

values <- as.numeric(readLines("stdin"))
summary <- summarise(values)
cat(sprintf("count %d\nsum %d\nmean %.2f\n", summary$count, summary$sum, summary$mean))

writeLines(jsonlite::toJSON(summary, auto_unbox = TRUE), "summary.json")
png("plot.png")
plot(values, type = "b")
invisible(dev.off())
