"""What becomes of texts that nobody tuned the classifier on: ``python -m benchmarks.refusals``.

``texts.json`` has refusals and failures that a site might send with status 200, and answers of
models that resemble them. Both were written without a look at the words that are searched for, and
are not among the cases of the tests. Printed is each text that is misjudged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aichatfree import APIError, Site
from aichatfree._protocol.decoding import ReplyDecoder


def failure_in(chunks: Sequence[str]) -> APIError | None:
    """What a client finds in a complete body with status 200."""
    decoder = ReplyDecoder(framed=True, site=Site(), headers={"Content-Type": "text/plain"})
    try:
        for chunk in chunks:
            decoder.feed(chunk.encode())
    except APIError as error:
        return error
    return decoder.finish()[1]


def main() -> None:
    texts = json.loads(Path(__file__).with_name("texts.json").read_text("utf-8"))
    for name, is_refusal in (("refusals", True), ("answers", False)):
        wrong = [each for each in texts[name] if bool(failure_in(each["chunks"])) != is_refusal]
        for each in wrong:
            print(f"{name}, {each['language']}, {each['kind']}: {''.join(each['chunks'])!r}")
        total = len(texts[name])
        print(f"{total - len(wrong)} of {total} {name} are recognised as such\n")


if __name__ == "__main__":
    main()
