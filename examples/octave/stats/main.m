values = fscanf(stdin, "%f");
summary = summarise(values);
printf("count %d\nsum %d\nmean %.2f\n", summary.count, summary.sum, summary.mean);
csvwrite("values.csv", values);
