"""A scripted chat site on a real loopback socket, for tests of code that talks to one.

>>> import aichatfree
>>> from aichatfree.testing import Answer, FakeSite
>>> busy = Answer(status=429, body="{}", headers={"Retry-After": "0"})
>>> with FakeSite([busy, Answer("Hel", "lo", gap=0.1)]) as site:
...     print(aichatfree.Client(site.url).generate("Greet me"))
Hello
>>> [request.text for request in site.requests]
['Greet me', 'Greet me']

Each ``POST /api/generate`` takes the next item of the script; the last item repeats.
It needs only the standard library, and sends nothing to other machines.
"""

from ._answers import Answer, Raw
from ._fake_site import FakeSite
from ._requests import Request

__all__ = ["Answer", "FakeSite", "Raw", "Request"]
