"""Data sets, one file each: importing this room registers them all, loading one imports what it needs."""

from spectral_reach.studies.data import cifar5m as cifar5m
from spectral_reach.studies.data import digits as digits
from spectral_reach.studies.data import simplestories as simplestories
from spectral_reach.studies.data import stdlib as stdlib
from spectral_reach.studies.data import text as text
from spectral_reach.studies.data.dataset import Dataset as Dataset
from spectral_reach.studies.data.registry import known as known
from spectral_reach.studies.data.registry import load as load
from spectral_reach.studies.data.registry import outline as outline
from spectral_reach.studies.data.registry import parse_name as parse_name
from spectral_reach.studies.data.registry import resolved as resolved
from spectral_reach.studies.data.tokens import TokenData as TokenData
