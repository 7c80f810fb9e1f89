"""What writes with and without idempotency keys lead to, said in a hundred lines that know no lock and no database."""

from dataclasses import dataclass, replace

from tests.support.tables import COMMANDS, RIGHTS, TARGETS

# Refusals that the state decided: kept, as successes are.
KEPT_REFUSALS = (404, 409, 412)


@dataclass
class Event:
    author: str
    title: str
    status: str = "DRAFT"
    version: int = 1
    deleted: bool = False

    @property
    def entries(self) -> int:
        """In its history: one for each version, and one for its end."""
        return self.version + self.deleted


@dataclass(frozen=True)
class Request:
    """`event` is a place in the model's list; `version` is that of an If-Match."""

    member: str
    action: str
    event: int | None = None
    title: str = ""
    version: int | None = None
    key: str | None = None

    @property
    def operation(self) -> str:
        return self.action

    @property
    def target(self) -> int | None:
        return self.event

    @property
    def payload(self) -> tuple[object, ...]:
        kind = self.action if self.action in ("create", "update") else "command"
        return kind, self.title, self.action == "reject", self.version


@dataclass(frozen=True)
class Answer:
    """`event` is as it was then. `differs` is what a refused key was used for something else with."""

    status: int
    key_status: str | None = None
    event: Event | None = None
    differs: tuple[str, ...] = ()


class Model:
    def __init__(self, roles: dict[str, str]) -> None:
        self.roles = roles
        self.events: list[Event] = []
        self.keys: dict[tuple[str, str], tuple[Request, Answer]] = {}

    def expect(self, request: Request) -> Answer:
        """What it would be answered now; nothing happens."""
        known = self.keys.get((request.member, request.key or ""))
        if known is not None:
            first, answer = known
            parts = {"operation": "operation", "target": "event", "payload": "body or If-Match"}
            differs = tuple(word for part, word in parts.items() if getattr(first, part) != getattr(request, part))
            if differs:
                return Answer(422, differs=differs)
            return replace(answer, key_status="replayed") if self._may(request) else Answer(403)
        status = self._status(request)
        kept = request.key is not None and self._may(request) and (status < 300 or status in KEPT_REFUSALS)
        event = self._changed(request) if status < 300 else None
        return Answer(status, "executed" if kept else None, event)

    def happen(self, request: Request) -> Answer:
        answer = self.expect(request)
        if answer.event is not None and answer.key_status != "replayed":
            if request.event is None:
                self.events.append(answer.event)
            else:
                self.events[request.event] = answer.event
        if answer.key_status == "executed":
            self.keys[request.member, request.key or ""] = (request, answer)
        return answer

    def writes(self, request: Request) -> bool:
        """Whether it would add to a history."""
        answer = self.expect(request)
        before = self.events[request.event].entries if request.event is not None else 0
        return answer.key_status != "replayed" and answer.event is not None and answer.event.entries > before

    def _may(self, request: Request) -> bool:
        """Whether the role allows such a thing, with some event."""
        return self.roles[request.member] != "USER" or request.action not in ("approve", "reject")

    def _status(self, request: Request) -> int:
        if request.event is None:
            return 201
        event = self.events[request.event]
        if event.deleted:
            return 404
        table = {"update": RIGHTS["edits"], "delete": RIGHTS["deletes"]}.get(request.action)
        status = (table or COMMANDS[request.action])[self._caller(request.member, event), event.status]
        if status in (403, 404):
            return status
        return 412 if request.version not in (None, event.version) else status

    def _caller(self, member: str, event: Event) -> str:
        role = self.roles[member]
        if member != event.author:
            return "other USER" if role == "USER" else role
        return "author" if role == "USER" else f"{role}, author"

    def _changed(self, request: Request) -> Event:
        if request.event is None:
            return Event(request.member, request.title)
        event = self.events[request.event]
        match request.action:
            case "delete":
                return replace(event, deleted=True)
            case "update":
                changed = event.title != request.title
                return replace(event, title=request.title, version=event.version + changed)
            case command:
                return replace(event, status=TARGETS[command], version=event.version + 1)
