"""The functions of an account, and the names by which they are found."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from dask_root_lambda.emulator.errors import (
    AccessDeniedError,
    InvalidParameterError,
    ResourceNotFoundError,
    ValidationError,
)
from dask_root_lambda.emulator.functions import LATEST, FunctionVersion

_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)


@dataclass(frozen=True)
class Reference:
    """A function as the parameter FunctionName names it."""

    name: str
    """Without anything else."""
    qualifier: str | None = None
    """Version or alias; None if it names none."""
    region: str | None = None
    """Of an ARN."""
    account: str | None = None
    """Of an ARN, also of a partial one."""


@dataclass(frozen=True)
class Alias:
    """A name for a version, or for two of them in proportion."""

    name: str
    """Without the function's."""
    version: str
    """Where most events go."""
    description: str
    """For people."""
    weights: dict[str, float]
    """Other versions, and the share of events that go there."""
    revision: str
    """Changes whenever the alias does."""


@dataclass
class Function:
    """A function with everything that belongs to it."""

    latest: FunctionVersion
    """``$LATEST``."""
    versions: dict[str, FunctionVersion] = field(default_factory=dict)
    """Published versions by number, oldest first."""
    published: FunctionVersion | None = None
    """``$LATEST`` when the newest version was published."""
    publish_count: int = 0
    """Number of the newest version: numbers of deleted ones are not given again."""
    aliases: dict[str, Alias] = field(default_factory=dict)
    """By name."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags."""
    event_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """AWS's FunctionEventInvokeConfig by qualifier."""
    policies: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Statements by id, by qualifier; the empty one is the function itself."""
    policy_revisions: dict[str, str] = field(default_factory=dict)
    """Revision of each policy."""


def parse_name(text: str, qualifier: str | None = None) -> Reference:
    """Read a name, partial ARN or ARN, with or without a qualifier.

    Raises
    ------
    ValidationError
        If it is none of them.
    InvalidParameterError
        If two qualifiers contradict each other.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ValidationError(
            f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: "
            "Member must be a function name, a partial ARN or an ARN"
        )
    inner = found["qualifier"]
    if inner and qualifier and inner != qualifier:
        raise InvalidParameterError(
            "The derived qualifier from the function name does not match the specified qualifier: "
            f"{inner} and {qualifier}."
        )
    return Reference(found["name"], qualifier or inner, found["region"], found["account"])


class Registry:
    """The functions of one account and region.

    Parameters
    ----------
    region
        Of their ARNs.
    account_id
        Of their ARNs.
    chance
        Decides which version gets an event of an alias with two.
    """

    def __init__(self, region: str, account_id: str, chance: random.Random) -> None:
        self._region = region
        self._account_id = account_id
        self._prefix = f"arn:aws:lambda:{region}:{account_id}:function:"
        self._chance = chance
        self.functions: dict[str, Function] = {}
        """By name."""
        self.publish_counts: dict[str, int] = {}
        """How many versions functions had that were deleted, by name."""

    def arn(self, reference: Reference) -> str:
        """ARN of a function, with the qualifier that it was named by."""
        return self._prefix + reference.name + (f":{reference.qualifier}" if reference.qualifier else "")

    def check_place(self, reference: Reference) -> None:
        """Refuse the ARN of a function that cannot be here.

        Raises
        ------
        ResourceNotFoundError
            If it is of another region.
        AccessDeniedError
            If it is of another account.
        """
        if reference.region not in (None, self._region):
            raise ResourceNotFoundError(
                f"Functions from '{reference.region}' are not reachable in this region ('{self._region}')"
            )
        if reference.account not in (None, self._account_id):
            raise AccessDeniedError(
                f"not authorized to access the function {reference.name} of the account {reference.account}: "
                f"this account is {self._account_id}"
            )

    def get(self, reference: Reference) -> Function:
        """Find a function.

        Raises
        ------
        ResourceNotFoundError
            If there is none of that name.
        AccessDeniedError
            If it is another account's.
        """
        self.check_place(reference)
        function = self.functions.get(reference.name)
        if function is None:
            raise ResourceNotFoundError(f"Function not found: {self.arn(reference)}")
        return function

    def resolve(self, reference: Reference) -> FunctionVersion:
        """Find the version that a name, with or without qualifier, stands for.

        Raises
        ------
        ResourceNotFoundError
            If there is no such function, version or alias.
        """
        function = self.get(reference)
        if reference.qualifier is None or reference.qualifier == LATEST:
            return function.latest
        alias = function.aliases.get(reference.qualifier)
        number = reference.qualifier if alias is None else self._choose(alias)
        version = function.latest if number == LATEST else function.versions.get(number)
        if version is None:
            raise ResourceNotFoundError(f"Function not found: {self.arn(reference)}")
        return version

    def alias(self, reference: Reference) -> Alias:
        """Find the alias that a qualifier names.

        Raises
        ------
        ResourceNotFoundError
            If the function has no such alias.
        """
        alias = self.get(reference).aliases.get(reference.qualifier or "")
        if alias is None:
            raise ResourceNotFoundError(f"Cannot find alias arn: {self.arn(reference)}")
        return alias

    def _choose(self, alias: Alias) -> str:
        if not alias.weights:
            return alias.version
        rest = 1.0 - sum(alias.weights.values())
        (number,) = self._chance.choices([alias.version, *alias.weights], [rest, *alias.weights.values()])
        return number
