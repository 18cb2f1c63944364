"""The errors that a user reads, as a small tree.

    BaihuaError          exit status 1
    ├── InputError       exit status 2: a file, row or argument of the user is wrong
    │   └── TooLongError a conversation does not fit into the model's context
    ├── RecipeError      exit status 2: a recipe is wrong; holds every problem that was found
    └── RunError         exit status 1: the work itself failed (disk full, NaN, a check that must hold)
        └── LostPeerError exit status 75: another process of the same run failed first

Each gives what is wrong, where, and what to do.
"""

from dataclasses import dataclass


class BaihuaError(ValueError):
    """An error that the user reads: what is wrong, where it is and how to fix it."""

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class InputError(BaihuaError):
    """A file, row or argument of the user is wrong."""

    exit_status = 2


class TooLongError(InputError):
    """A conversation does not fit into the model's context; a chat may drop its oldest turns and retry."""


class RunError(BaihuaError):
    """The work failed although the input is valid."""


class LostPeerError(RunError):
    """Another process of this run failed first; its own error gives the reason."""

    exit_status = 75


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a recipe: `where` is its dotted path."""

    where: str
    what: str
    fix: str = ""


class RecipeError(BaihuaError):
    """A recipe that cannot run; `problems` holds all its mistakes."""

    exit_status = 2

    def __init__(self, problems: list[Problem], *, source: str = "") -> None:
        assert problems, "a RecipeError needs at least one problem"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"the recipe has {count}", where=source)
        self.problems = problems

    def __str__(self) -> str:
        lines = [self.what + (f" ({self.where})" if self.where else "")]
        for problem in self.problems:
            lines.append(f"  {problem.where}: {problem.what}")
            if problem.fix:
                lines.append(f"    fix: {problem.fix}")
        return "\n".join(lines)
