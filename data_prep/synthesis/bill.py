"""What answers cost, within a budget: counts of requests and tokens, and when to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from commonspace.errors import ConfigError, DataError
from data_prep.synthesis.cache import Answer


@dataclass(frozen=True)
class Price:
    """Of a million tokens that go in and come out, in any one currency; None: not known."""

    input: float | None = None
    output: float | None = None

    def __post_init__(self) -> None:
        if (self.input is None) != (self.output is None) or min(self.input or 0, self.output or 0) < 0:
            raise ConfigError("price: give input and output, both at least 0, or neither")

    def of(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of so many tokens; None where it is not known."""
        if self.input is None or self.output is None:
            return None
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass
class Tally:
    """Of one purpose: answers used, those of them that were asked for now rather than found in the cache, requests that
    failed, answers without usage, and tokens, of all and of those asked for now.
    """

    price: Price
    answers: int = 0
    new: int = 0
    failed: int = 0
    without_usage: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    new_input_tokens: int = 0
    new_output_tokens: int = 0

    @property
    def cost(self) -> float | None:
        return self.price.of(self.input_tokens, self.output_tokens)

    @property
    def new_cost(self) -> float | None:
        return self.price.of(self.new_input_tokens, self.new_output_tokens)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "cost": self.cost, "new_cost": self.new_cost}


@dataclass
class Bill:
    """Tallies by purpose, and the most that they may come to.

    Answers that the cache had count like those asked for now: a call that was interrupted and goes on ends where one
    that was not ends. Requests that are on their way when the cost is reached still come in: at most as many as are
    on their way together.
    """

    requests: int | None = None
    cost: float | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    stopped: str | None = None  # why no more is asked for
    unanswered: str | None = None  # what an endpoint that is gone said last
    _reserved: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if any(limit is not None and limit <= 0 for limit in (self.requests, self.cost)):
            raise ConfigError("budget: requests and cost are above 0, or null")

    def open(self, purpose: str, price: Price) -> None:
        """Begin a purpose's tally; ConfigError where a budget of cost has no price to go by."""
        if self.cost is not None and price.input is None:
            raise ConfigError(f"budget.cost: the price of {purpose} is not known; give price.input and price.output")
        self.tallies[purpose] = Tally(price)

    def reserve(self) -> bool:
        """Take one request out of the budget; False where there is none left."""
        with self._lock:
            if self.requests is not None and self._reserved >= self.requests:
                self.stopped = self.stopped or "budget.requests"
                return False
            self._reserved += 1
            return True

    def affordable(self) -> bool:
        """Whether the cost so far is below the budget."""
        with self._lock:
            if self.cost is not None and self.total() >= self.cost:
                self.stopped = self.stopped or "budget.cost"
                return False
            return True

    def charge(self, purpose: str, answer: Answer, *, new: bool) -> None:
        """Count an answer.

        Raises:
            DataError: there is a budget of cost, and the endpoint does not say how many tokens it took.
        """
        with self._lock:
            tally = self.tallies[purpose]
            tally.answers += 1
            tally.new += new
            if answer.input_tokens is None or answer.output_tokens is None:
                tally.without_usage += 1
                if self.cost is not None:
                    raise DataError(
                        "budget.cost: the endpoint does not say how many tokens an answer took; use budget.requests"
                    )
                return
            tally.input_tokens += answer.input_tokens
            tally.output_tokens += answer.output_tokens
            if new:
                tally.new_input_tokens += answer.input_tokens
                tally.new_output_tokens += answer.output_tokens

    def fail(self, purpose: str) -> None:
        self.tallies[purpose].failed += 1

    def total(self) -> float:
        """The cost so far of what has a price."""
        return sum(tally.cost or 0.0 for tally in self.tallies.values())
