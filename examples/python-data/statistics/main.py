# Runs with "script": true: the names input_data, load_file and save_result need no import.
import numpy as np
import pandas as pd

df = pd.DataFrame(input_data) if input_data else load_file("data.csv")

statistics = {}
for column in df.select_dtypes("number"):
    values = df[column].to_numpy()
    statistics[column] = {
        "count": df[column].count(),
        "mean": np.mean(values),
        "std": np.std(values),
        "range": {"min": values.min(), "max": values.max()},
        "quartiles": np.percentile(values, [25, 50, 75]),
        "above_mean": values > np.mean(values),
    }

save_result("rows", np.int64(len(df)))
save_result("statistics", statistics)
save_result("by_city", df.groupby("city")["sunny"].sum().to_dict())
print(f"{len(df)} rows, {len(statistics)} columns of numbers")
