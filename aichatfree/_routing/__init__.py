"""One prompt, several sites: which of them is asked, and when one that failed is asked again."""

from .requester import RoutingRequester, requester_from_dict

__all__ = ["RoutingRequester", "requester_from_dict"]
