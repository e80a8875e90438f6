"""How answers are shown: on a terminal and in a notebook."""
