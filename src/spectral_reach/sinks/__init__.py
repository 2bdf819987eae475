"""Where measured numbers go besides the Parquet table: one kind of dashboard or file a module."""

from spectral_reach.sinks.json_lines import JsonLines as JsonLines
from spectral_reach.sinks.tensorboard import TensorBoard as TensorBoard
from spectral_reach.sinks.trackio import Trackio as Trackio
from spectral_reach.sinks.wandb import Wandb as Wandb

__all__ = ["JsonLines", "TensorBoard", "Trackio", "Wandb"]
