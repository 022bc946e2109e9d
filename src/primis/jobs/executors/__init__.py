"""Where tasks are worked on: in this process, in processes of this machine, on a Dask cluster.

A coordinator hands an executor tasks and gets outcomes; it alone writes files and the journal.
"""
