"""Where a run stands: counters, the sums of the epoch under way, and the rows of the epochs done."""

import dataclasses
from typing import Any

from pyengine.train.metrics import Row, RunningMetrics


@dataclasses.dataclass
class RunState:
    """Position and measurements of a run; with the weights and the generators it is all that a checkpoint needs."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the epoch under way
    trained: bool = False  # all batches of the epoch are done, its evaluation is not
    step: int = 0  # optimizer steps done
    lr: float = 0.0  # learning rate of the last step
    running: RunningMetrics = dataclasses.field(default_factory=RunningMetrics)
    history: list[Row] = dataclasses.field(default_factory=list)

    def finish_epoch(self, row: Row) -> None:
        """Notes the epoch's row and starts the next epoch."""
        self.history.append(row)
        self.epoch += 1
        self.batch = 0
        self.trained = False
        self.running = RunningMetrics()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunState":
        return cls(**{**values, "running": RunningMetrics(**values["running"])})
