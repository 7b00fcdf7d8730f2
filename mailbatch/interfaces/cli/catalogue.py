"""The list of commands, in groups, with a line and an example for each. It imports none of them."""

from __future__ import annotations

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """A command. ``module``: its module in this package, imported when the command is called."""

    module: str
    summary: str
    example: str


GROUPS: dict[str, dict[str, CommandEntry]] = {
    "Reserve": {
        "reserve": CommandEntry(
            "reserve",
            "Reserve one mail.",
            'reserve --to ann@example.com --subject Hello --text "Dear Ann, …" --tag spring',
        ),
        "import": CommandEntry(
            "importing", "Reserve mails from a file: CSV, JSON Lines, mbox or .eml.", "import spring.csv"
        ),
        "preview": CommandEntry(
            "trial", "Render a mail, and send nothing.", "preview --template order-confirmation --context @ann.json"
        ),
        "send-test": CommandEntry("trial", "Send one mail to yourself, at once.", "send-test --to me@example.com"),
    },
    "Look": {
        "status": CommandEntry("status", "Show the current status.", "status"),
        "top": CommandEntry("top", "Show the status, live.", "top --interval 5"),
        "list": CommandEntry(
            "listing", "List reservations, newest first.", "list --status failed --reply 4xx --since 1h --limit 100"
        ),
        "show": CommandEntry("listing", "Show one reservation with all its attempts.", "show ID"),
        "explain": CommandEntry(
            "explain",
            "Explain why a reservation was not sent yet, or how it ended.",
            "explain --to ann@example.com",
        ),
        "plan": CommandEntry("plan", "Render what the next run would send, and send nothing.", "plan --limit 100"),
        "relays": CommandEntry("relays", "Show which relays get mails.", "relays"),
        "duplicates": CommandEntry("duplicates", "List who may have got a mail twice.", "duplicates --since 1w"),
        "runs": CommandEntry("runs", "List the last runs.", "runs --limit 5"),
        "run": CommandEntry(
            "runs",
            "Show one run and its errors, in full.",
            "run ID --csv >errors.csv",
        ),
        "actions": CommandEntry("actions", "List who did what.", "actions --limit 50"),
    },
    "Act": {
        "cancel": CommandEntry("intervene", "Cancel reservations before they are sent.", "cancel --tag spring"),
        "requeue": CommandEntry(
            "intervene",
            "Send failed, in-doubt or cancelled reservations again.",
            "requeue --status failed --reply 4xx --since 1h",
        ),
        "restore": CommandEntry("intervene", "Undo a cancellation.", "restore --tag spring"),
        "resolve": CommandEntry("intervene", "Mark reservations in doubt as sent.", "resolve ID --sent"),
        "delete": CommandEntry("intervene", "Delete finished reservations.", "delete --status cancelled --tag spring"),
        "purge": CommandEntry("purge", "Delete old finished reservations.", "purge --older-than 90"),
    },
    "Run": {
        "send-all": CommandEntry("send_all", "Send what is due, now.", "send-all"),
        "pause": CommandEntry("pause", "Pause the sending.", "pause --all"),
        "resume": CommandEntry("pause", "Resume the sending.", "resume"),
        "stop": CommandEntry("pause", "Stop one run.", "stop RUN_ID"),
        "block": CommandEntry("block", "Hold back the mails of a tag, or list the blocked tags.", "block newsletter"),
        "unblock": CommandEntry("block", "Let the mails of a tag go again.", "unblock newsletter"),
    },
    "Set up": {
        "demo": CommandEntry("demo", "Try everything, without any setup.", "demo --keep-running"),
        "migrate": CommandEntry("migrate", "Create the tables, or update them.", "migrate"),
        "grants": CommandEntry(
            "grants", "Print the GRANTs that each PostgreSQL role needs.", "grants send --to mailbatch_worker"
        ),
        "doctor": CommandEntry("doctor", "Check everything, and say what to do.", "doctor"),
        "template": CommandEntry("template", "Check the templates.", "template check order-confirmation"),
        "config": CommandEntry("settings", "Show the settings, or check them.", "config show"),
        "serve": CommandEntry("serve", "Serve the HTTP API and the console.", "serve --port 8000"),
        "healthcheck": CommandEntry(
            "healthcheck", "Check whether the worker beside it is alive (for probes).", "healthcheck --within 30"
        ),
        "completion": CommandEntry("completion", "Print the completion script for your shell.", "completion bash"),
    },
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
RENAMED = {"twice": "duplicates"}
"""Earlier names of commands. They still work, with a warning on stderr."""
