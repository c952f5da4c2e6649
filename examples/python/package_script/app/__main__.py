import app

from .core import VALUE

save_result("value", VALUE)
print(__package__, app.__name__)
