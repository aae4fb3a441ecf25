"""Training: the loop (`fit`, `evaluate`), exact checkpoints, metrics, progress, and whole jobs for the command."""

from pyengine.train.checkpoint import Checkpoint, load_checkpoint
from pyengine.train.config import TrainConfig
from pyengine.train.curve import draw_curve
from pyengine.train.errors import DivergedError, Interrupted, UserError
from pyengine.train.interrupt import StopSignals
from pyengine.train.job import Job, evaluate_checkpoint, new_job, resumed_job, run_job
from pyengine.train.loop import evaluate, fit
from pyengine.train.metrics import RunningMetrics, write_metrics
from pyengine.train.progress import Bar, EpochLines, Progress, Silent, choose_progress
from pyengine.train.state import RunState

__all__ = [
    "Bar",
    "Checkpoint",
    "DivergedError",
    "EpochLines",
    "Interrupted",
    "Job",
    "Progress",
    "RunState",
    "RunningMetrics",
    "Silent",
    "StopSignals",
    "TrainConfig",
    "UserError",
    "choose_progress",
    "draw_curve",
    "evaluate",
    "evaluate_checkpoint",
    "fit",
    "load_checkpoint",
    "new_job",
    "resumed_job",
    "run_job",
    "write_metrics",
]
