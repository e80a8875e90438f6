"""Every way in which a site or the network was seen to fail, and what a client should make of it.

Each case has its own site on the loopback interface, which serves the fault to the prompt ``FAULT``
and a complete answer to every other one.
"""

from __future__ import annotations

from .before_reply import BEFORE_REPLY
from .framing import FRAMING
from .in_reply import IN_REPLY

CASES = [*BEFORE_REPLY, *FRAMING, *IN_REPLY]
