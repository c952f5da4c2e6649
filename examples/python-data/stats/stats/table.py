import numpy as np
import pandas as pd
from scipy import stats


def read(lines):
    values = pd.Series([float(line) for line in lines])
    return pd.DataFrame({"position": np.arange(len(values)), "value": values})


def summary(values):
    described = stats.describe(values)
    return {"count": described.nobs, "sum": int(values.sum()), "mean": f"{described.mean:.2f}"}
