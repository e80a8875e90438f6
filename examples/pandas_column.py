"""Add a column of answers: ``pip install aichatfree pandas``, ``python examples/pandas_column.py``.

After an interruption, run it again: it continues where it stopped, with the answers from
alphabet.jsonl.
"""

import pandas as pd

import aichatfree

if __name__ == "__main__":
    client = aichatfree.Client()
    frame = pd.DataFrame({"letter": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")})
    prompts = "Name a river that begins with " + frame["letter"] + "."

    # Results come in the order of the rows. All prompts of a list are checked before anything is
    # sent, and a missing one is an error: remove such rows with dropna() first.
    results = list(client.batch(prompts.tolist(), output="alphabet.jsonl"))
    frame["river"] = [result.text if result.ok else None for result in results]
    frame["error"] = [result.error for result in results]

    print(frame)
    frame.to_csv("alphabet.csv", index=False)
