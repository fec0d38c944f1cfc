"""Kraken, as seen from here: what it is asked, how fast, and what its answers mean.

``rest.KrakenRestClient`` asks, over ``transport`` and at the pace of ``limiter``; ``messages`` says what an
answer or a refusal means. ``page_walk`` goes through a pair's trades so that none is skipped, with
``prefetch``. ``websocket`` is the feed. ``directory`` knows all pairs; ``exchange`` is all that a download
needs.
"""
