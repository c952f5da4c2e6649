"""Runs as `python3 -m app` does."""

import sys

import app.parts
from app.core import name

from . import core
from .parts import __name__ as parts

print(name, core.name, parts, __package__, __spec__.name, sys.argv[1:])
print(__file__)
