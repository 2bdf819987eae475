"""Work of a study that is no training, one kind a file: importing this room registers them all."""

from spectral_reach.studies.tasks import coordinate_sizes as coordinate_sizes
from spectral_reach.studies.tasks import random_features as random_features
from spectral_reach.studies.tasks import rate_sweep as rate_sweep
from spectral_reach.studies.tasks import snapshot_spectrum as snapshot_spectrum
from spectral_reach.studies.tasks import trace_draws as trace_draws
from spectral_reach.studies.tasks.registry import TaskKind as TaskKind
from spectral_reach.studies.tasks.registry import known as known
from spectral_reach.studies.tasks.registry import register as register
from spectral_reach.studies.tasks.task import Task as Task
