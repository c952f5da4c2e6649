# Runs with "script": true: input_data, uploaded_files and save_result are there without a library.
df <- if (is.null(input_data)) read.csv(uploaded_files[1]) else data.frame(input_data)

numbers <- df[sapply(df, is.numeric)]
correlation <- round(cor(numbers), 6)
save_result("rows", nrow(df))
save_result("correlation", correlation)
print(correlation)

plot(numbers, main = "Each against each")
