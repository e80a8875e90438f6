"""A chat site on this machine: the signed protocol in front of a model of your own.

>>> from aichatfree.gateway import Gateway
>>> with Gateway() as gateway:
...     client = aichatfree.Client(gateway.url)

Needs ``pip install "aichatfree[local]"``.
"""

from ._engines.engine import Engine, EngineError
from ._engines.smollm2 import SmolLM2
from ._engines.upstream import OpenAIUpstream
from ._gateway import Gateway

__all__ = ["Engine", "EngineError", "Gateway", "OpenAIUpstream", "SmolLM2"]
