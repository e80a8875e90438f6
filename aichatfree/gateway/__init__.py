"""A chat site on this machine: the signed protocol in front of a model of your own.

>>> from aichatfree.gateway import Gateway
>>> with Gateway() as gateway:
...     client = aichatfree.Client(gateway.url)

Needs ``pip install "aichatfree[local]"``.
"""

from .engine import Engine, EngineError
from .server import Gateway
from .smollm2 import SmolLM2
from .upstream import OpenAIUpstream

__all__ = ["Engine", "EngineError", "Gateway", "OpenAIUpstream", "SmolLM2"]
