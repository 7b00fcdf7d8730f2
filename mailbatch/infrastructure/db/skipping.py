"""Which due reservations a claim leaves out: the conditions of ``Without``, and their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import Guid, Text, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.domain.claimed import Without

_r = mail_reservations.c
_TAGS, _TEMPLATES, _BACK_BY = "without_tags", "without_templates", "back_by"


def parameters(without: Without) -> dict[str, Any]:
    """Return the values of the parameters of ``is_left``."""
    tags, templates = list(without.tags), list(without.templates)
    return {_TAGS: tags, _TEMPLATES: templates, _BACK_BY: -without.returned_within}


def is_in(bound: Mapping[str, Any]) -> bool:
    """Return whether the parameters of a claim have those of ``is_left``."""
    return _TAGS in bound


def is_left(run: str) -> sa.ColumnElement[bool]:
    """Return the condition that a claim does not leave a mail out. ``run``: the parameter with the id of its run."""
    return sa.and_(_is_of_no_group(), _is_not_just_back(run))


def _is_of_no_group() -> sa.ColumnElement[bool]:
    """Return the condition that a mail is of no skipped group: its group is its tag or, without a tag, its template."""
    tag, template = sa.func.coalesce(_r.tag, ""), sa.func.coalesce(_r.template, "")
    tags: sa.BindParameter[Any] = sa.bindparam(_TAGS, expanding=True, type_=Text)
    templates: sa.BindParameter[Any] = sa.bindparam(_TEMPLATES, expanding=True, type_=Text)
    return sa.and_(tag.not_in(tags), sa.or_(tag != "", template.not_in(templates)))


def _is_not_just_back(run: str) -> sa.ColumnElement[bool]:
    """Return the condition that the run has not claimed a mail before, or that it was due again before a time."""
    is_new = sa.or_(_r.run_id.is_(None), _r.run_id != sa.bindparam(run, type_=Guid), _r.retry_at.is_(None))
    return sa.or_(is_new, _r.retry_at < now(sa.bindparam(_BACK_BY, type_=sa.Float)))
