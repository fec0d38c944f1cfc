"""``kraken-db serve``: a page to look at, and the same over HTTP for programs.

``app.py`` puts the routes together; each of the others is one thing: what may ask (``security.py``), what a
request says (``parameters.py``), how an answer is sent (``answers.py``, ``rows.py``), and what is answered.
"""
