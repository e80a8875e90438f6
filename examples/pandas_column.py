"""A column of answers: ``pip install aichatfree pandas && python examples/pandas_column.py``.

Interrupt it and run it again: it goes on where it stopped, since the answers are in alphabet.jsonl.
"""

import pandas as pd

import aichatfree

if __name__ == "__main__":
    client = aichatfree.Client()
    frame = pd.DataFrame({"letter": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")})
    prompts = "Name a river that begins with " + frame["letter"] + "."

    # Results come in the order of the rows. A list is looked through before anything is sent, so
    # that a missing prompt is an error at once: take such rows out with dropna() first.
    results = list(client.batch(prompts.tolist(), output="alphabet.jsonl"))
    frame["river"] = [result.text if result.ok else None for result in results]
    frame["error"] = [result.error for result in results]

    print(frame)
    frame.to_csv("alphabet.csv", index=False)
