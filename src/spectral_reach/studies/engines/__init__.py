"""Where the runs of a study are executed, one engine a file.

An engine brings run folders to their end: every one of them is executed by ``studies.worker.execute``, wherever that
may be. ``local`` uses processes of this machine, ``inline`` this process itself, ``ray`` the workers of a Ray cluster.
All give out the runs of one ``queue``, so that a run begins when those that it needs are finished. ``registry.engine``
makes the one that ``options`` ask for.
"""
