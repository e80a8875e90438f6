"""Add a column of answers: ``pip install . pandas && python examples/pandas_column.py``.

Run it in a checkout, with the site in AICHATFREE_BASE_URL. After an interruption, run it again: it
continues where it stopped, with the answers from alphabet.jsonl.
"""

import pandas as pd

import aichatfree

if __name__ == "__main__":
    client = aichatfree.Client()
    frame = pd.DataFrame({"letter": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")})

    # All rows are checked before anything is sent. An empty cell is an error, or skip_empty=True
    # skips such rows.
    batch = client.batch(
        frame, template="Name a river that begins with {letter}.", output="alphabet.jsonl"
    )
    frame = batch.to_pandas().rename(columns={"answer": "river"})

    print(frame)
    frame.to_csv("alphabet.csv", index=False)
