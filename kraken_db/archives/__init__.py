"""Kraken's archives, as seen from here: where they are, the bytes in them, and what these mean.

    byte_source.py  what a source is: bytes that can be read at any place
    sources.py      a file, parts that are one file
    web.py          a file on a web server
    parts.py        which files are the parts of one, and whether their sums are right
    zip_reading.py  the directory of a zip, and one of its members unpacked
    catalog.py      which archives a server or a folder has
    names.py        the names of an archive's pairs, all at once
    pairs.py        which pairs the archives at a place have
    manifest.py     what an archive's MANIFEST.json says of it
    layouts.py      what the columns of a file are
    fields.py       what a field of a trade can be

Nothing in here knows the database.
"""
