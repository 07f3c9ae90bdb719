"""Lightning's CSV and TensorBoard loggers as backends."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskbench.runs.loggers.fail_safe import columns, plain, safe

FLUSH_SECONDS = 1.0  # what a kill -9 may cost


class CSV:
    """Lightning's CSVLogger; the summary and tables are files beside its metrics.csv."""

    def __init__(self, run_dir: Path, about: dict[str, Any], config: dict[str, Any]) -> None:
        from pytorch_lightning.loggers import CSVLogger

        self.about = about
        (run_dir / "csv").mkdir(parents=True, exist_ok=True)  # a missing one costs a warning
        self._logger = CSVLogger(run_dir, name="csv", flush_logs_every_n_steps=1)
        self._folder = Path(self._logger.log_dir)
        about["files"] = self._folder.relative_to(run_dir).as_posix()
        self._summary: dict[str, Any] = {}
        self._logger.log_hyperparams(config)
        self._logger.save()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._logger.log_metrics(dict(metrics), step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(plain(values))
        (self._folder / "summary.json").write_text(json.dumps(self._summary, indent=2) + "\n")

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with open(self._folder / f"{safe(name)}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, columns(rows))
            writer.writeheader()
            writer.writerows(rows)

    def image(self, name: str, path: Path) -> None:
        """The file is in the run directory already."""

    def artifact(self, path: Path, kind: str) -> None:
        """The file is in the run directory already."""

    def finish(self, exit_code: int) -> None:
        self._logger.finalize("success" if exit_code == 0 else "failed")


class TensorBoard:
    """Lightning's TensorBoardLogger, opened at the first row: TensorBoard then drops the steps a resumed run redoes."""

    def __init__(self, run_dir: Path, about: dict[str, Any], config: dict[str, Any]) -> None:
        self.about = about
        about["files"] = "tensorboard"
        self._run_dir = run_dir
        self._config = config
        self._logger: Any = None
        self._step = 0
        self._summary: dict[str, Any] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._step = step
        self._lightning(purge_step=step).log_metrics(dict(metrics), step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(plain(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        head = columns(rows)
        lines = [head, ["---"] * len(head), *([row.get(column, "") for column in head] for row in rows)]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        self._lightning().experiment.add_text(name, text, self._step)

    def image(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # [height, width, 3]
        self._lightning().experiment.add_image(name, pixels, self._step, dataformats="HWC")

    def artifact(self, path: Path, kind: str) -> None:
        """The file is in the run directory already."""

    def finish(self, exit_code: int) -> None:
        numbers = {name: value for name, value in self._summary.items() if isinstance(value, int | float)}
        logger = self._lightning()
        logger.log_hyperparams(self._config, numbers)
        logger.finalize("success" if exit_code == 0 else "failed")

    def _lightning(self, **writer: Any) -> Any:
        if self._logger is None:
            from pytorch_lightning.loggers import TensorBoardLogger

            options = {"default_hp_metric": False, "flush_secs": FLUSH_SECONDS, **writer}
            self._logger = TensorBoardLogger(self._run_dir, name="tensorboard", version="", **options)
        return self._logger
