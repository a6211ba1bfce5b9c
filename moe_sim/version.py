"""The version of this package, also that of its distribution."""

__version__ = "0.1.0"
