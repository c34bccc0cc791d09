"""The optional judge of ``charforge eval``: asked last, so that whatever becomes of it costs no other figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from charforge.cli.output import say
from charforge.errors import InputError, MachineError
from charforge.evaluate.benchmark import Benchmarked
from charforge.evaluate.intervals import Series
from charforge.evaluate.judging import Case, JudgeOptions, cases_of, judged_series, spent_of
from charforge.evaluate.whole import Measured
from charforge.expand.authors import planned_of
from charforge.progress import counting


@dataclass
class Asked:
    """One judge over a whole command: ``spent`` by what was judged, and the first failure."""

    options: JudgeOptions
    spent: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: InputError | MachineError | None = None

    def judge(self, what: str, kept: Path, cases: Mapping[str, Sequence[Case]]) -> dict[str, dict[str, Series]]:
        """Measures by state. Where the judge fails there are none, the failure is told of, and what it has answered is
        kept in the file ``kept``."""
        endpoint = self.options.endpoint(kept)
        every = [case for some in cases.values() for case in some]
        say(f"the judge {self.options.model} about {what}: {planned_of([case.request() for case in every]).line()}")
        found, error = {}, None
        try:
            with counting(f"asking the judge about {what}") as report:
                endpoint.on_done = report
                found = {state: judged_series(endpoint, some) for state, some in cases.items()}
        except (InputError, MachineError) as failed:
            error = self.failure = self.failure or failed
            say(f"the judge failed, all other figures stand: {failed}")
        self.spent[what] = spent_of(endpoint, error)
        say(f"the judge has taken {endpoint.spent.line(endpoint.settings)}; its answers are kept in {kept}")
        return found

    def run(self, run: Path, measured: Measured) -> Measured:
        """A measured run with what the judge says of its replies. Raises InputError for one whose bundle is gone."""
        if measured.character is None:
            raise InputError(f"{run} has no bundle in it any more, which says who the judge judges: put it back")
        states = {"after": measured.after} | ({"before": measured.before} if measured.before is not None else {})
        cases = {name: cases_of(state, measured.character) for name, state in states.items()}
        found = self.judge(measured.name, run / "judged.jsonl", cases)
        told = {name: replace(state, series=state.series | found.get(name, {})) for name, state in states.items()}
        return replace(measured, after=told["after"], before=told.get("before"))

    def benchmark(self, path: Path, one: Benchmarked) -> Benchmarked:
        """The tables of a character with what the judge says of its replies to the prompts that need a judge."""
        cases = {state: some for state, some in one.cases.items() if some}
        kept = path / "judged.jsonl" if path.is_dir() else path.with_suffix(".judged.jsonl")
        found = self.judge(one.name, kept, cases) if cases else {}
        tables = {state: table | found.get(state, {}) for state, table in one.tables.items()}
        return replace(one, tables=tables)
