"""What a contract's operations are read from, and what is refused."""

from typing import Protocol

import pytest
from msgspec import Struct

from eventboard.core.contract import Budget, operation, operations
from eventboard.modules.auth.contract import Auth
from eventboard.modules.events.contract import Events


class Question(Struct, frozen=True):
    text: str


class Answer(Struct, frozen=True):
    text: str


class Oracle(Protocol):
    @operation("oracle.ask", budget=Budget.READ, repeatable=True)
    async def ask(self, query: Question) -> Answer: ...

    @operation("oracle.tell", budget=Budget.WRITE, repeatable=False)
    async def tell(self, command: Answer) -> Answer: ...


class Unmarked(Protocol):
    @operation("oracle.ask", budget=Budget.READ, repeatable=True)
    async def ask(self, query: Question) -> Answer: ...

    async def forgotten(self, query: Question) -> Answer: ...


class TwoStructs(Protocol):
    @operation("oracle.ask", budget=Budget.READ, repeatable=True)
    async def ask(self, query: Question, more: Question) -> Answer: ...


def test_operations() -> None:
    """Each method's, in the order the contract states them, with all that adapters need."""
    ask, tell = operations(Oracle)
    assert (ask.name, ask.method, ask.budget, ask.repeatable) == ("oracle.ask", "ask", Budget.READ, True)
    assert (tell.name, tell.method, tell.budget, tell.repeatable) == ("oracle.tell", "tell", Budget.WRITE, False)
    assert (ask.request, ask.result, tell.request) == (Question, Answer, Answer)


def test_method_without_operation() -> None:
    """It could be called by no adapter: the name tells which it is."""
    with pytest.raises(TypeError, match=r"Unmarked\.forgotten has no @operation"):
        operations(Unmarked)


def test_two_structs() -> None:
    """A method takes one."""
    with pytest.raises(ValueError, match="too many values"):
        operations(TwoStructs)


@pytest.mark.parametrize("contract", [Auth, Events])
def test_our_contracts(contract: type) -> None:
    """Names are unique and begin with the module's; requests and results are frozen structs."""
    found = operations(contract)
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert each.name.split(".")[0] == contract.__name__.lower()
        for struct in (each.request, each.result):
            assert issubclass(struct, Struct)
            assert struct.__struct_config__.frozen, struct
