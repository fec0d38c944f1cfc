"""Numbers for Prometheus: what a running process and its store tell, and where they are fetched.

``families`` turns what we know anyway into metrics, ``endpoint`` answers with them at ``/metrics``. Next to
nothing is counted for this alone: a process without the endpoint pays nothing.
"""
