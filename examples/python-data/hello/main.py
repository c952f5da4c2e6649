import pandas as pd

print("Hello from", pd.__name__)
