# Runs with "capture_plots": true: the figures that are open at the end come back as plot_1.png and so on.
import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
plt.figure(figsize=(7, 4))
plt.plot(x, np.sin(x), label="sin(x)")
plt.plot(x, np.exp(-x / 8) * np.cos(2 * x), label="damped cos(2x)")
plt.title("Two waves")
plt.xlabel("x")
plt.legend()
plt.show()

plt.figure()
plt.bar(["north", "east", "south"], [3, 7, 5], color="tab:orange")
plt.title("Sales by region")
