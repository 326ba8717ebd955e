"""The version, for those who cannot import the package itself."""

VERSION = "0.1.0"
