"""Environments as packages of somebody else would offer them to verifiers, chosen by the argument `kind`."""

from typing import Any

import verifiers as vf
from datasets import Dataset

SYSTEM = "Open the right door. Write <door>left</door> or <door>right</door>."


class Doors(vf.MultiTurnEnv):  # type: ignore[misc]
    """Of two doors the row's own has to be opened `needed` times."""

    def __init__(self, needed: int = 2, **options: Any) -> None:
        rows = [{"question": f"Room {n}, two doors.", "answer": ("left", "right")[n % 2]} for n in range(16)]
        parser = vf.XMLParser(fields=["door"], answer_field="door")
        settings = {"dataset": Dataset.from_list(rows), "system_prompt": SYSTEM, "rubric": rubric(parser)} | options
        super().__init__(parser=parser, max_turns=6, **settings)
        self.needed, self.freed = needed, 0

    async def setup_state(self, state: Any) -> Any:
        state["opened"] = 0
        return state

    async def env_response(self, messages: Any, state: Any, **options: Any) -> Any:
        door = self.parser.parse_answer(messages)
        if door == "trap":
            raise RuntimeError("the trap snapped")
        state["opened"] += door == state["answer"]
        text = f"{door}: {state['opened']} open."
        if state["opened"] == self.needed:
            state["final_env_response"] = [vf.UserMessage(content=text)]
        return [vf.UserMessage(content=text)]

    @vf.cleanup  # type: ignore[untyped-decorator]
    async def free(self, state: Any) -> None:
        self.freed += 1


def rubric(parser: Any) -> Any:
    async def opened(state: Any) -> float:
        return float(state.get("opened", 0))

    async def answered(completion: Any) -> float:
        return float(parser.parse_answer(completion) is not None)

    return vf.Rubric(funcs=[opened, answered], weights=[1.0, 0.0])


class Rewriting(Doors):
    async def get_prompt_messages(self, state: Any) -> Any:
        messages = await super().get_prompt_messages(state)
        return messages if len(messages) < 4 else messages[-1:]


def single(**options: Any) -> Any:
    rows = [{"question": f"{n} + 1 = ?", "answer": str(n + 1)} for n in range(16)]

    async def correct(completion: Any, answer: str) -> float:
        return float(completion[-1].content == answer)

    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[correct]), **options)


def group() -> Any:
    async def best(states: Any) -> list[float]:
        return [1.0 for _ in states]

    return Doors(rubric=vf.Rubric(funcs=[best]))


def mixed() -> Any:
    rows = [
        {"prompt": [{"role": "system", "content": f"Room {n}"}, {"role": "user", "content": "Go."}], "answer": "left"}
        for n in range(4)
    ]
    return Doors(dataset=Dataset.from_list(rows), system_prompt=None)


def tools() -> Any:
    async def look(room: int) -> str:
        """Looks into a room."""
        return f"Room {room} is empty."

    rows = [{"question": "What is in room 1?", "answer": "nothing"}]
    return vf.ToolEnv(tools=[look], dataset=Dataset.from_list(rows))


KINDS = {"doors": Doors, "rewriting": Rewriting, "single": single, "group": group, "mixed": mixed, "tools": tools}


def load_environment(kind: str = "doors", **options: Any) -> Any:
    return KINDS[kind](**options)
