"""Every operation of an API is asked in every way that schemathesis knows, by everybody whom its description lets in, and each answer held against that.

A description cannot say which ids, codes and passwords there are, nor how the parts of a message depend on each other: `known` puts such values into
requests that are to be as they should be. Whoever asks has only just signed in, so that no request is refused for what one before it has ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.core import NOT_SET
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test

# Random requests of one kind; the limits that are described, and what lies just beyond them, are all tried besides.
EXAMPLES = 3
_EVERY_WAY = [HypothesisTestMode.EXAMPLES, HypothesisTestMode.COVERAGE, HypothesisTestMode.FUZZING]
_BOUNDED = settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

# What a request is sent with: options of `Case.call`.
Credential = Callable[[], Mapping[str, Any]]
# Puts into a request what no description can say.
Known = Callable[[Case[Any]], None]


def bearer(token: str) -> Mapping[str, Any]:
    """The options of a request with this token."""
    return {"headers": {"Authorization": f"Bearer {token}"}}


@dataclass
class Asked:
    """What was wrong with answers, told once for each operation, asker and kind of mistake; and how often who was answered with which status."""

    wrong: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def never_done(self) -> set[str]:
        """Operations that were never done for somebody who may ask for them: then nothing is known of their answers."""
        return {asked for asked, statuses in self.statuses.items() if not any(200 <= status < 300 for status in statuses)}

    def told(self) -> str:
        """What was wrong, for people."""
        return "\n\n".join(f"{asked}: {wrong}" for asked, wrong in self.wrong.items())


def ask_everything(
    schema: Any, askers: Mapping[str, Credential], who: Callable[[Any], Sequence[str]], known: Callable[[str], Known]
) -> Asked:
    """Asks for each operation of `schema` in turn. `who` names those of `askers` whom it is for: the first asks in every way, the others at random.
    `known` is by operation.
    """
    asked = Asked()
    schema.config.generation.update(with_security_parameters=False)  # who asks is not left to chance
    for result in schema.get_all_operations():
        operation = result.ok()
        for place, name in enumerate(who(operation)):
            modes = _EVERY_WAY if place == 0 else [HypothesisTestMode.FUZZING]
            _ask(asked, operation, name, askers[name], known(operation.label), modes)
    return asked


def _ask(asked: Asked, operation: Any, name: str, credential: Credential, fill: Known, modes: list[HypothesisTestMode]) -> None:
    label = f"{operation.label} by {name}"

    def answers_as_described(case: Case[Any]) -> None:
        if _is_right_after_all(case):
            return
        if is_good(case):
            _have_parsers_agree(case)
        if is_good(case) or ParameterLocation.PATH not in _wrong_at(case):
            fill(case)
        options = dict(credential())
        case._has_explicit_auth = bool(options)  # what is sent as a cookie passes for made up otherwise
        response = case.call(**options)
        asked.statuses[label][response.status_code] += 1
        try:
            case.validate_response(response, headers=options.get("headers"), transport_kwargs=options)
        except FailureGroup as failures:
            for failure in failures.exceptions:
                asked.wrong.setdefault(f"{label}: {type(failure).__name__}", f"{response.status_code} {str(failures)[:2_000]}")

    test = create_test(
        operation=operation,
        test_func=answers_as_described,
        config=HypothesisTestConfig(
            project=operation.schema.config,
            modes=modes,
            explicit_settings=_BOUNDED,
            settings=_BOUNDED,
            feedback=FeedbackSources(),
        ),
    )
    test()


def is_good(case: Case[Any]) -> bool:
    """Whether the whole request is to be as it should be; else something about it is to be refused."""
    return case.meta is None or case.meta.generation.mode.is_positive


def _wrong_at(case: Case[Any]) -> set[ParameterLocation]:
    """The parts of a request that are meant to be wrong."""
    return set() if case.meta is None else {place for place, part in case.meta.components.items() if part.mode.is_negative}


def _is_right_after_all(case: Case[Any]) -> bool:
    """Whether a request is meant to be wrong by having no body, where none is needed, or in headers and cookies of which nothing is described."""
    if is_good(case) or case.method != case.operation.method.upper():
        return False
    nowhere = {ParameterLocation.HEADER, ParameterLocation.COOKIE}
    needs_body = any(body.is_required for body in case.operation.body)
    return _wrong_at(case) <= nowhere | (set() if needs_body or case.body is not NOT_SET else {ParameterLocation.BODY})


def body(**fields: Any) -> Known:
    """These fields, in a body that is to be as it should be, and in the place of one that may be left out. Callables give a value each time."""

    def fill(case: Case[Any]) -> None:
        if is_good(case):
            given = case.body if isinstance(case.body, dict) else {}
            case.body = given | {name: value() if callable(value) else value for name, value in fields.items()}
            case.media_type = case.media_type or "application/json"

    return fill


def path(**parameters: Any) -> Known:
    """These parameters of the path, unless it is the path that is to be wrong. Callables give a value each time."""

    def fill(case: Case[Any]) -> None:
        # Schemathesis looks anew at what is changed: a parameter that the path does not have would make the request a wrong one.
        case.path_parameters = {
            name: value() if callable(value) else value for name, value in parameters.items() if name in case.path_parameters
        }

    return fill


def query(**parameters: str | None) -> Known:
    """These parameters where there are any of the name, in a query that is to be as it should be; None takes one away."""

    def fill(case: Case[Any]) -> None:
        if is_good(case):
            for name in case.query.keys() & parameters.keys():
                case.query[name] = parameters[name]
                if case.query[name] is None:
                    del case.query[name]

    return fill


def all_of(*every: Known) -> Known:
    """One after the other."""

    def fill(case: Case[Any]) -> None:
        for known in every:
            known(case)

    return fill


def _have_parsers_agree(case: Case[Any]) -> None:
    agreed = _as_parsers_agree(case.body)
    if agreed != case.body or str(agreed) != str(case.body):  # 2.0 equals 2
        case.body = agreed


def _as_parsers_agree(value: Any) -> Any:
    """To JSON Schema 2.0 is a whole number, and whole numbers have no end; our APIs take neither, because parsers differ about them."""
    if isinstance(value, dict):
        return {name: _as_parsers_agree(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_as_parsers_agree(held) for held in value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else 0
    return value
