"""Kraken, as seen from here: what it is asked, how fast, and what its answers mean.

``rest.KrakenRestClient`` asks; ``messages`` and ``records`` are what it returns; ``limiter`` and ``retry``
hold its pace and try again; ``failures`` tells what a refusal means; ``directory`` knows all pairs.
"""
