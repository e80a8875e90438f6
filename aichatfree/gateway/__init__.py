"""A chat site on this machine: the signed protocol, and OpenAI's API, in front of any model.

>>> from aichatfree.gateway import Gateway
>>> with Gateway() as gateway:
...     client = aichatfree.Client(gateway.url)

Needs the extra ``local``: ``pip install ".[local]"`` in a checkout.
"""

from ._engines.engine import Engine, EngineError, TokenLimitError, Usage
from ._engines.openai_upstream import OpenAIUpstream
from ._engines.site import SiteEngine
from ._engines.smollm2 import SmolLM2
from ._gateway import Gateway

__all__ = [
    "Engine",
    "EngineError",
    "Gateway",
    "OpenAIUpstream",
    "SiteEngine",
    "SmolLM2",
    "TokenLimitError",
    "Usage",
]
