"""Where the runs of a study are executed, one engine a file.

An engine brings run folders to their end: every one of them is executed by ``studies.worker.execute``, wherever that
may be. ``local`` uses processes of this machine.
"""
