"""The list of models that some sites have."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .responses import error_from_response, web_page_error
from .sites import Site


def read_models(status: int, headers: Mapping[str, str], body: bytes, site: Site) -> list[str]:
    """The names for ``model=`` in a site's list of models.

    Raises:
        APIStatusError: the response is an error.
        ProtocolError: it is not such a list.
    """
    if not 200 <= status < 300:
        raise error_from_response(status, headers, body, site)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    items = value.get("models", value.get("data")) if isinstance(value, dict) else value
    if isinstance(items, list):
        names = [item.get("id") if isinstance(item, dict) else item for item in items]
        return [name for name in names if isinstance(name, str)]
    text = body.decode("utf-8", "replace")
    raise web_page_error(text, "something else than a list of models", status)
