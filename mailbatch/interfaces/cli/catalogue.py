"""Which commands there are: by what people want, with a line and an example for each. It imports none of them."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command. ``module`` is the one here that holds it, imported when it is called."""

    module: str
    told: str
    example: str


GROUPS: dict[str, dict[str, Entry]] = {
    "Reserve": {
        "reserve": Entry(
            "reserve",
            "Reserve one mail.",
            'reserve --to ann@example.com --subject Hello --text "Dear Ann, …" --tag spring',
        ),
        "import": Entry("importing", "Reserve mails from a CSV or JSON Lines file.", "import spring.csv"),
        "preview": Entry(
            "trial", "Render a mail, and send nothing.", "preview --template order-confirmation --context @ann.json"
        ),
        "send-test": Entry("trial", "Send one mail to yourself, at once.", "send-test --to me@example.com"),
    },
    "Look": {
        "status": Entry("status", "Show how things stand.", "status"),
        "top": Entry("top", "Watch how things stand, live.", "top --interval 5"),
        "list": Entry(
            "listing", "List reservations, newest first.", "list --status failed --reply 4xx --since 1h --limit 100"
        ),
        "show": Entry("listing", "Show all that is known of one reservation.", "show ID"),
        "explain": Entry(
            "explain",
            "Say why one has not gone yet, or what became of it.",
            "explain --to ann@example.com",
        ),
        "plan": Entry("plan", "Render what the next run would send, and send nothing.", "plan --limit 100"),
        "duplicates": Entry("duplicates", "List who may have got a mail twice.", "duplicates --since 1w"),
        "runs": Entry("runs", "List the last runs.", "runs --limit 5"),
        "run": Entry(
            "runs",
            "Show one run and its errors, in full.",
            "run ID --csv >errors.csv",
        ),
        "actions": Entry("actions", "List who did what.", "actions --limit 50"),
    },
    "Act": {
        "cancel": Entry("intervene", "Take reservations back before they are sent.", "cancel --tag spring"),
        "requeue": Entry(
            "intervene",
            "Send failed, doubtful or cancelled reservations again.",
            "requeue --status failed --reply 4xx --since 1h",
        ),
        "restore": Entry("intervene", "Undo a cancellation.", "restore --tag spring"),
        "resolve": Entry("intervene", "Settle what is in doubt.", "resolve ID --sent"),
        "delete": Entry("intervene", "Delete finished reservations.", "delete --status cancelled --tag spring"),
        "purge": Entry("purge", "Delete finished reservations that are old.", "purge --older-than 90"),
    },
    "Run": {
        "send-all": Entry("send_all", "Send what is due, now.", "send-all"),
        "pause": Entry("pause", "Suspend the sending.", "pause --all"),
        "resume": Entry("pause", "Let the sending go on.", "resume"),
        "stop": Entry("pause", "Stop one run.", "stop RUN_ID"),
    },
    "Set up": {
        "demo": Entry("demo", "See it all at work, with nothing to set up.", "demo --keep-running"),
        "migrate": Entry("migrate", "Make the tables, or bring them up to date.", "migrate"),
        "grants": Entry("grants", "Print what each role of PostgreSQL needs.", "grants send --to mailbatch_worker"),
        "doctor": Entry("doctor", "Check everything, and say what to do.", "doctor"),
        "config": Entry("settings", "Show the settings, or check them.", "config show"),
        "serve": Entry("serve", "Serve the HTTP API and the console.", "serve --port 8000"),
        "healthcheck": Entry(
            "healthcheck", "Say whether the worker beside lives (for probes).", "healthcheck --within 30"
        ),
        "completion": Entry("completion", "Print what lets your shell complete commands.", "completion bash"),
    },
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
RENAMED = {"twice": "duplicates"}
"""Earlier names of commands. They still work, with a warning on stderr."""
