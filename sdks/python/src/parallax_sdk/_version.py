"""The one place that names the version; the package is built with it."""

__version__ = "0.1.0"
