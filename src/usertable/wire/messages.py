"""The text of a problem in a language, from the templates in :mod:`usertable.wire.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.wire.catalogue import en, zh

Language = Literal["zh", "en"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The templates of a language. Parameters are in braces: `"one of {choices}"`."""

    problems: Mapping[ProblemKind, str]
    phrases: Mapping[PhraseKind, str]
    separator: str
    """Separator of a list's members."""
    singulars: Mapping[ProblemKind | PhraseKind, tuple[str, str]] = field(default_factory=dict)
    """Other templates for one of something: the parameter that counts it, and the template."""

    def template(self, kind: ProblemKind | PhraseKind, params: Mapping[str, Param]) -> str:
        """Return the template of a problem or a phrase with these parameters."""
        counted, singular = self.singulars.get(kind, ("", ""))
        if counted and params.get(counted) == "1":
            return singular
        return self.problems[kind] if isinstance(kind, ProblemKind) else self.phrases[kind]


CATALOGUES: Mapping[Language, Catalogue] = {
    "en": Catalogue(en.PROBLEMS, en.PHRASES, en.SEPARATOR, en.SINGULARS),
    "zh": Catalogue(zh.PROBLEMS, zh.PHRASES, zh.SEPARATOR),
}


def text(problem: Problem, language: Language) -> str:
    """Return the problem's text. Values from the request are quoted as excerpts only."""
    catalogue = CATALOGUES[language]
    attribute = excerpt(problem.attribute or "", 120)
    return catalogue.template(problem.kind, problem.params).format(attribute=attribute, **_filled(problem.params, catalogue))


def parameters(problem: Problem, language: Language) -> dict[str, str]:
    """Return the parameters of a problem's text, in that language."""
    return _filled(problem.params, CATALOGUES[language])


def param_text(param: Param, language: Language) -> str:
    """Return a parameter of a problem as text, such as a phrase."""
    return _shown(param, CATALOGUES[language])


def _filled(params: Mapping[str, Param], catalogue: Catalogue) -> dict[str, str]:
    return {name: value if type(value) is str else _shown(value, catalogue) for name, value in params.items()}


def _shown(value: Param, catalogue: Catalogue) -> str:
    if isinstance(value, Phrase):
        template = catalogue.template(value.kind, value.params)
        return template.format(**_filled(value.params, catalogue)) if value.params else template
    if isinstance(value, tuple):
        return catalogue.separator.join([_shown(each, catalogue) for each in value])
    return value


def negotiate(accept_language: str | None, default: Language) -> Language:
    """Return the language that an `Accept-Language` header prefers of the two, or the default."""
    best: tuple[float, Language] = (0.0, default)
    for part in (accept_language or "").lower().split(","):
        tag, _, parameters = part.strip().partition(";")
        quality = 1.0
        if parameters.strip().startswith("q="):
            try:
                quality = float(parameters.strip()[2:])
            except ValueError:
                quality = 0.0
        primary = tag.strip().split("-")[0]
        if quality > best[0] and primary in ("zh", "en"):
            best = (quality, "zh" if primary == "zh" else "en")
    return best[1]
