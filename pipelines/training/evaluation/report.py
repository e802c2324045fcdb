"""An evaluation's figures as JSON and as a Markdown table."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.training.evaluation.evaluate import Counts, Results
from pipelines.training.evaluation.painting import Manner


@dataclass(frozen=True)
class Report:
    """What was measured, of which model, when and how; `date` is ISO 8601 in UTC.

    `classifier` is the file that the dual encoder sees through, if it does.
    """

    model: str
    revision: str
    date: str
    device: str
    manner: Manner
    counts: Counts
    classifier: str | None
    results: Results

    def write(self, path: Path) -> None:
        """Write it as JSON; a figure that could not be measured is null."""
        fields = asdict(self)
        fields["results"] = {
            section: {name: value if math.isfinite(value) else None for name, value in figures.items()}
            for section, figures in self.results.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields, indent=2) + "\n")

    def markdown(self) -> str:
        """A table with a row for each figure, under a line that says what was measured."""
        manner = self.manner
        lines = [
            f"{self.model}, revision {self.revision[:8]}, {self.date}, {self.device}: {manner.sampler}, "
            f"{manner.num_inference_steps} steps, guidance {manner.guidance_scale:g}"
            + (f"; the dual encoder sees through {self.classifier}" if self.classifier else ""),
            "",
            "| what | figure | value |",
            "| --- | --- | --- |",
        ]
        for section, figures in self.results.items():
            for name, value in figures.items():
                shown = f"{value:.4g}" if math.isfinite(value) else "not measured"
                lines.append(f"| {section} | {name} | {shown} |")
        return "\n".join(lines)
