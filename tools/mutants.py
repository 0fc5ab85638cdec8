"""A mutation pass: does a test fail when an operator, number, condition or loop of a function is changed?

    python tools/mutants.py --seed 11 --count 110 --tests tests/distillation -- oel_core/distillation

Places are drawn at random, each with one of cosmic-ray's operators that fit it (`pip install -e '.[dev,mutation]'`).
pytest collects the tests once; every mutant then has a fork in which its function gets the new code in memory, and
which runs the tests, those of `test_<module>.py` first, until one fails. No file is changed. What a module does at
import is not mutated, and what a test starts as another program does not see the mutant.
"""

import argparse
import difflib
import gc
import importlib
import inspect
import os
import random
import re
import resource
import signal
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

OPERATORS = re.compile(
    r"core/(\w+_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul|BitOr_BitAnd|BitAnd_BitOr|USub_UAdd"
    r"|Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Delete_\w+)|AddNot"
    r"|Replace(True|False|And|Or|Break|Continue)With\w+|ExceptionReplacer|NumberReplacer|ZeroIterationForLoop)"
)
"""Small changes of meaning. Others that cosmic-ray has, like `a << b` for `a + b`, fail wherever they are executed."""
SECONDS = 600
"""CPU time of a mutant's tests: more is a loop that does not end, and counts as killed."""


def places(source: str) -> list[list[tuple[str, int]]]:
    """For each place that can be changed the operators that fit, each with its number of occurrence."""
    found, tree = defaultdict(list), get_ast(source)
    for name in filter(OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        spots = (spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node))
        for occurrence, spot in enumerate(spots):
            found[spot].append((name, occurrence))
    return [found[spot] for spot in sorted(found)]


def functions(source: str, file: Path) -> dict[tuple[str, int], CodeType]:
    """Name and first line of every function → its code."""
    pending = [compile(source, str(file), "exec")]
    for code in pending:
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {(code.co_qualname, code.co_firstlineno): code for code in pending if code.co_flags & inspect.CO_OPTIMIZED}


class MutationPass:
    """pytest's plugin that takes the place of its loop over the tests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.failed = options, ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        draw, outcomes = random.Random(self.options.seed), list[str]()
        files = [file.resolve() for target in self.options.targets for file in sorted([target, *target.rglob("*.py")])]
        every = [(file, each) for file in files if file.is_file() for each in places(file.read_text())]
        for file, choices in draw.sample(every, len(every)):
            source, (operator, occurrence) = file.read_text(), draw.choice(choices)
            try:
                mutated = mutate_code(source, get_operator(operator)(), occurrence)
                new = functions(mutated, file)
            except (AttributeError, SyntaxError):  # what cosmic-ray cannot write: `if not found := ...`, a `not in`
                continue
            if new == functions(source, file) or len(outcomes) == self.options.count:
                continue
            own = f"/test_{file.stem}.py"
            outcomes.append(self.outcome(file, new, sorted(session.items, key=lambda item: own not in item.nodeid)))
            print(f"{outcomes[-1]}: {file.relative_to(Path.cwd())} {operator}", flush=True)
            changed = difflib.ndiff(source.splitlines(), mutated.splitlines())
            print(*(line for line in changed if line[0] in "+-"), sep="\n", flush=True)
        survived = outcomes.count("survived")
        print(f"{len(outcomes) - survived} of {len(outcomes)} mutants killed, seed {self.options.seed}")
        return True

    def outcome(self, file: Path, new: dict[tuple[str, int], CodeType], items: list[pytest.Item]) -> str:
        importlib.import_module(".".join(file.relative_to(Path.cwd()).with_suffix("").parts))
        if not (child := os.fork()):
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            for one in [one for one in gc.get_objects() if type(one) is FunctionType]:
                code = one.__code__
                if code.co_filename == str(file):
                    one.__code__ = new.get((code.co_qualname, code.co_firstlineno), code)
            for item in items:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if self.failed:
                    os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have left running
        return "killed" if status else "survived"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--tests", nargs="+", required=True, help="files and folders")
    parser.add_argument("targets", nargs="+", type=Path, help="files and folders of oel_core")
    options = parser.parse_args()
    arguments = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout", "--hypothesis-seed=0"]
    sys.exit(pytest.main([*arguments, *options.tests], plugins=[MutationPass(options)]))


if __name__ == "__main__":
    main()
