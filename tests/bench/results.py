# SPDX-License-Identifier: Apache-2.0
"""What a section's rounds have measured, and the ratios the tables and the budgets are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from tests.bench.model import Better, Budget, Role, Section


@dataclass
class Results:
    """Values by contender and key; why contenders failed; how busy others kept the machine."""

    section: Section
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    others_busy: list[float] = field(default_factory=list)

    def add(self, name: str, key: str, value: float, unit: str) -> None:
        """Note one measured value."""
        self.values.setdefault(name, {}).setdefault(key, []).append(value)
        self.units[key] = unit

    def median(self, name: str, key: str) -> float | None:
        """A contender's median, or None when it never measured this."""
        values = self.values.get(name, {}).get(key)
        return median(values) if values else None

    def quality(self, name: str, other: str, key: str) -> float | None:
        """How good ``name`` is against ``other``: 1 is equal, 2 is twice as good, whichever way the key goes."""
        mine, theirs = self.median(name, key), self.median(other, key)
        if mine is None or theirs is None:
            return None
        above, below = (mine, theirs) if self.section.keys[key] is Better.HIGHER else (theirs, mine)
        return above / below if below else None

    def failed_of_ours(self) -> list[str]:
        """Names of our own contenders that failed."""
        return [c.name for c in self.section.contenders if c.role is Role.OURS and c.name in self.failures]


@dataclass(frozen=True)
class Verdict:
    """One budget held against one run. ``word``: PASS, MISS, or UNKNOWN when somebody it needs was not there."""

    word: str
    budget: Budget
    section: str
    text: str

    @property
    def line(self) -> str:
        """What is printed."""
        return f"{self.word:7} {'must' if self.budget.must else 'aim ':4}  {self.section}: {self.text}"


def judge(results: Results, budget: Budget) -> Verdict:
    """Hold one budget against the medians of this run."""
    key, higher = budget.key, results.section.keys[budget.key] is Better.HIGHER
    unit, sign = results.units.get(key, ""), ">=" if higher else "<="
    mine = results.median(budget.ours, key)
    theirs = results.median(budget.reference, key) if budget.reference else 1.0
    wanted = f"{budget.factor:.3g} x {budget.reference}" if budget.reference else f"{budget.factor:g} {unit}"
    if mine is None or theirs is None:
        absent = budget.ours if mine is None else budget.reference
        return Verdict("UNKNOWN", budget, results.section.title, f"{key} {sign} {wanted}: nothing measured by {absent}")
    bound = budget.factor * theirs
    held = mine >= bound if higher else mine <= bound
    reached = f", here {mine / theirs:.2f} x" if budget.reference and theirs else ""
    text = f"{key} of {budget.ours} {mine:.4g} {unit} {sign} {wanted}{f' = {bound:.4g}' if budget.reference else ''}{reached}"
    if not held and (limit := _limit_beside(results, budget, theirs)):
        text += limit
    return Verdict("PASS" if held else "MISS", budget, results.section.title, text)


def _limit_beside(results: Results, budget: Budget, theirs: float) -> str:
    """How far the limit itself went, where it would have missed this budget too."""
    name = results.section.first(Role.LIMIT)
    best = results.median(name, budget.key)
    if not budget.reference or name == budget.reference or best is None or not theirs:
        return ""
    short = best < budget.factor * theirs if results.section.keys[budget.key] is Better.HIGHER else best > budget.factor * theirs
    return f" (the limit, {name}: {best / theirs:.2f} x)" if short else ""


def judge_all(results: Results) -> list[Verdict]:
    """Every budget of a section."""
    return [judge(results, budget) for budget in results.section.budgets]
