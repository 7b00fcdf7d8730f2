"""Two installations in two schemas of one database, each with a worker and a beat of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from support.stack import Stack
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.sink import Sink


def test_each_sends_its_own_mails_and_leaves_those_of_the_other(
    empty_postgres_url: str, redis_url: str, smtp_sink: Sink, tmp_path: Path
):
    def stack(name: str) -> Stack:
        settings = {"DATABASE_SCHEMA": name, "NAMESPACE": name.lower(), "LANES": 2, "SCHEDULE": 1}
        return Stack(empty_postgres_url, redis_url, smtp_sink.url, tmp_path / name, settings)

    with stack("Production") as production, stack("Staging") as staging:
        for one in (production, staging):
            one.folder.mkdir(exist_ok=True)
            assert one.cli("migrate").returncode == 0
            rows = "".join(f"{one.folder.name}{i}@example.com,Hello,Text\n" for i in range(20))
            (one.folder / "m.csv").write_text(f"recipients,subject,body_text\n{rows}")
            assert one.cli("import", "m.csv").returncode == 0
        production.worker("-B", "-c", "2")

        engine = sa.create_engine(empty_postgres_url)

        def states(schema: str) -> dict[str, int]:
            with engine.connect() as connection:
                question = f'SELECT status, count(*) FROM "{schema}".mail_reservations GROUP BY 1'  # noqa: S608
                return {row[0]: row[1] for row in connection.execute(sa.text(question))}

        wait_until(lambda: states("Production") == {"sent": 20}, 60, "one installation to send")
        assert states("Staging") == {"pending": 20}
        staging.worker("-B", "-c", "2")
        wait_until(lambda: states("Staging") == {"sent": 20}, 60, "the other to send")
        assert states("Production") == {"sent": 20}
        assert len(smtp_sink.accepted()) == 40
        engine.dispose()
