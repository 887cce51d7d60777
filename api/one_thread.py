"""Imported before NumPy: a matrix product of a server's size is no work for a team of threads.

A team spins while it waits: on 2 cores a slate took 19 ms of CPU instead of 10, and no less time.
OPENBLAS_NUM_THREADS set outside is obeyed.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
