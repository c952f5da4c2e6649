import sys

import matplotlib.pyplot as plt
from sklearn.linear_model import LinearRegression

from stats.table import read, summary

table = read(sys.stdin)
for name, value in summary(table["value"]).items():
    print(name, value)

LinearRegression().fit(table[["position"]], table["value"])
table.plot(x="position", y="value")
plt.savefig("plot.png")
