"""``/api/blocks``: the tags whose mails are held back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from mailbatch.interfaces.documents import of_block
from mailbatch.interfaces.http import status_schemas as schemas
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import shape

router = APIRouter(prefix="/api/blocks", tags=["operating"])
Tag = Annotated[str, Query(description="Exactly this tag.", examples=["newsletter"])]


class BlockIn(BaseModel):
    """Why a tag is blocked."""

    model_config = shape({"note": "wrong prices"})
    note: str | None = Field(None, description="One line for other operators.")


@router.get("", summary="List the blocked tags", **tells(schemas.BlockList))
def blocks(request: Request, _caller: Reader) -> Response:
    """By tag: since when, by whom, why, and how many mails wait."""
    return json_response({"items": [of_block(row) for row in parts_of(request).stores.blocks.all()]})


@router.put("", summary="Block a tag", **tells(schemas.BlockList, *ACTING))
def block(request: Request, caller: Operator, tag: Tag, body: BlockIn | None = None) -> Response:
    """Its mails are held back until the block is lifted, also those that are reserved later.

    A run in progress holds them back within a second. A second call changes nothing. The response has this block.
    """
    parts = parts_of(request)
    parts.acting.block_tag.block(caller.actor, tag, body.note if body else None)
    return json_response({"items": [of_block(row) for row in parts.stores.blocks.all() if row.tag == tag]})


@router.delete("", summary="Lift the block of a tag", **tells(schemas.Unblocked, *ACTING[:1]))
def unblock(request: Request, caller: Operator, tag: Tag) -> Response:
    """Its mails go with the run in progress or the next one. `unblocked` is false if it was not blocked."""
    return json_response({"tag": tag, "unblocked": parts_of(request).acting.block_tag.lift(caller.actor, tag)})
