"""Training: one loop for every network, on a DeepSpeed engine."""

from camshaft.engine.training.checkpoints import remove_checkpoints
from camshaft.engine.training.loop import train
from camshaft.engine.training.result import TrainingResult
from camshaft.engine.training.settings import TrainingSettings

__all__ = ["TrainingResult", "TrainingSettings", "remove_checkpoints", "train"]
