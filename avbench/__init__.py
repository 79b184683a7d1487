"""avbench: evaluate sounding-video generators with numbers a careful researcher can trust."""

from avbench import _checkout

_checkout.install()

__version__ = "0.1.0"
