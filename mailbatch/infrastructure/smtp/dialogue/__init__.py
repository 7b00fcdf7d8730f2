"""The dialogue over one connection: one module for each mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.dialogue.bdat import BdatDialogue
from mailbatch.infrastructure.smtp.dialogue.data import DataDialogue
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.dialogue.pipelining import PipeliningDialogue

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue

DIALOGUES: dict[DialogueMode, type[Dialogue]] = {
    DialogueMode.DATA: DataDialogue,
    DialogueMode.PIPELINING: PipeliningDialogue,
    DialogueMode.BDAT: BdatDialogue,
}
