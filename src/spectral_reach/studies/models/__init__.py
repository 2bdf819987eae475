"""Model families, one file each: importing this room registers them, building one imports transformers."""

from spectral_reach.studies.models import llama as llama
from spectral_reach.studies.models import vit as vit
from spectral_reach.studies.models.registry import ModelConfig as ModelConfig
from spectral_reach.studies.models.registry import family as family
from spectral_reach.studies.models.registry import known as known
from spectral_reach.studies.models.registry import model_config as model_config
