"""Measures twenty revisions and tells each measurement on stdout, for a test that kills it in the middle.

Arguments: the model, a file of text, the file of results.
"""

import sys

import spectral_reach as sr
from spectral_reach.checkpoints.measure_checkpoints import Progress


def tell(progress: Progress) -> None:
    if progress.phase == "measured":
        print(progress.revision, progress.batch, progress.done, progress.total, flush=True)


if __name__ == "__main__":
    model, text, out = sys.argv[1:]
    sr.measure_checkpoints(model, revisions="step*", data={"prose": text}, units=4, out=out, progress=tell)
    print("finished", flush=True)
