"""Kraken's archives, as seen from here: where they are, and the bytes in them.

    byte_source.py  what a source is: bytes that can be read at any place
    sources.py      a file, parts that are one file
    web.py          a file on a web server
    parts.py        which files are the parts of one, and whether their sums are right
    zip_reading.py  the directory of a zip, and one of its members unpacked
    catalog.py      which archives a server or a folder has

Nothing in here knows the database.
"""
