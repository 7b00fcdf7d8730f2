"""docs/how-to/own-alembic.md, done: an application with an Alembic of its own, in one database with mailbatch."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic.config
import pytest
import sqlalchemy as sa
from support.databases import contents, fill, in_common, make_older

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import downgrade, ensure_migrated, upgrade
from mailbatch.infrastructure.db.revision import head
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-alembic.md"
TEXT = PAGE.read_text(encoding="utf-8")
ENV, MODEL, RESERVE = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
VALIDATE = re.findall(r"^ALTER TABLE .*$", TEXT, re.MULTILINE)

# The page says so, and how it ends.
IGNORED = "ignore:Can't validate argument 'dialect_options'"

MODELS = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int | None] = mapped_column(index=True)
"""
REVISIONS = {
    "0001": """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("total", sa.Integer))
def downgrade():
    op.drop_table("orders")
""",
    "0002": """
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.create_index("ix_orders_total", "orders", ["total"])
def downgrade():
    op.drop_index("ix_orders_total")
""",
}
"""They bear the names that ours bore once."""


@dataclass
class Shop:
    """The application: its folder, and its ``alembic``, run in this process as in one of its own."""

    url: str
    schema: str | None
    folder: Path
    capfd: pytest.CaptureFixture[str]

    def set_up(self) -> None:
        folder = self.folder
        (folder / "shop").mkdir(parents=True)
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "models.py").write_text(MODELS)
        (folder / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s/alembic\nprepend_sys_path = %(here)s\npath_separator = os\n"
            f"sqlalchemy.url = {self.url.replace('%', '%%')}\n"
        )
        versions = folder / "alembic" / "versions"
        versions.mkdir(parents=True)
        (folder / "alembic" / "script.py.mako").write_text(
            '"""${message}"""\nrevision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n'
            "def upgrade():\n    ${upgrades if upgrades else 'pass'}\n"
            "def downgrade():\n    ${downgrades if downgrades else 'pass'}\n"
        )
        everywhere = ENV.replace("target_metadata=", "include_schemas=True, target_metadata=")
        (folder / "alembic" / "env.py").write_text(everywhere if self.schema else ENV)
        for name, text in REVISIONS.items():
            (versions / f"{name}.py").write_text(text)

    def alembic(self, *arguments: str) -> None:
        path = sys.path[:]
        try:
            alembic.config.main(["--raiseerr", "-c", str(self.folder / "alembic.ini"), *arguments])
        finally:
            sys.path[:] = path
            for name in ("shop", "shop.models"):
                sys.modules.pop(name, None)
            self.capfd.readouterr()

    def migrate(self) -> str:
        assert main.run(["migrate"]) == 0
        return self.capfd.readouterr().out

    def sees_nothing_to_change(self) -> None:
        self.alembic("check")
        self.alembic("revision", "--autogenerate", "-m", "nothing", "--rev-id", "nothing")
        [made] = (self.folder / "alembic" / "versions").glob("nothing*.py")
        assert made.read_text().count("    pass\n") == 2, made.read_text()
        made.unlink()


@pytest.fixture(params=["sqlite", "postgresql", "in a schema"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shop:
    url = f"sqlite:///{tmp_path}/shop.db"
    if request.param != "sqlite":
        url = request.getfixturevalue("empty_postgres_url")
    schema = "mail" if request.param == "in a schema" else None
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", url)
    if schema:
        monkeypatch.setenv("MAILBATCH_DATABASE_SCHEMA", schema)
    shop = Shop(url, schema, tmp_path / "shop", capfd)
    shop.set_up()
    return shop


@pytest.fixture
def engine(shop: Shop) -> Iterator[Engine]:
    engine = connect(shop.url, shop.schema)
    yield engine
    engine.dispose()


def version(shop: Shop) -> list[Any]:
    engine = sa.create_engine(shop.url)
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
    engine.dispose()
    return found


@pytest.mark.filterwarnings(IGNORED)
def test_both_migrate_whoever_comes_first(shop, engine):
    for first in (shop.migrate, lambda: shop.alembic("upgrade", "head")):
        first()
        shop.alembic("upgrade", "head")
        shop.migrate()
        ensure_migrated(engine)
        assert version(shop) == ["0002"]
        fill(engine)
        before = contents(engine)
        shop.sees_nothing_to_change()
        shop.alembic("downgrade", "base")
        shop.alembic("upgrade", "head")
        assert contents(engine) == before
        downgrade(shop.url, schema=shop.schema)
        shop.sees_nothing_to_change()
        shop.alembic("downgrade", "base")


@pytest.mark.filterwarnings(IGNORED)
def test_an_application_can_deploy_once_the_version_before_was_upgraded(shop, engine):
    make_older(shop.url, schema=shop.schema)
    fill(engine)
    before = contents(engine)
    assert f"from 0002 to revision {head()}" in shop.migrate()
    shop.alembic("upgrade", "head")
    shop.sees_nothing_to_change()
    kept, found = in_common(before, contents(engine))
    assert found == kept
    assert version(shop) == ["0002"]


@pytest.mark.filterwarnings(IGNORED)
@pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)
def test_an_application_that_migrated_before_between_and_after_loses_nothing(shop, engine):
    # Between: the version before made its tables; the application could not deploy, and set its own revision by hand.
    make_older(shop.url)
    fill(engine)
    before = contents(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    shop.alembic("upgrade", "head")
    assert version(shop) == ["0002"]
    note = shop.migrate()
    assert "DELETE FROM alembic_version WHERE version_num = '0002'" in note
    shop.alembic("upgrade", "head")
    shop.sees_nothing_to_change()
    ensure_migrated(engine)
    kept, found = in_common(before, contents(engine))
    assert found == kept
    assert version(shop) == ["0002"]


@pytest.mark.filterwarnings(IGNORED)
def test_a_model_that_stands_for_one_of_our_tables_is_left_out(shop, engine):
    folder = shop.folder
    target, named = ("mail.mail_reservations", ', schema="mail"') if shop.schema else ("mail_reservations", "")
    model = MODEL.replace('"id", sa.Uuid, primary_key=True)', f'"id", sa.Uuid, primary_key=True){named}')
    key = f'    mail: Mapped[sa.Uuid | None] = mapped_column(sa.Uuid, sa.ForeignKey("{target}.id", name="fk_mail"))\n'
    (folder / "shop" / "models.py").write_text(MODELS + key + model)
    shop.migrate()
    shop.alembic("upgrade", "head")
    shop.alembic("revision", "--autogenerate", "-m", "its own", "--rev-id", "own")
    [made] = (folder / "alembic" / "versions").glob("own*.py")
    assert "fk_mail" in made.read_text()
    for name in contents(engine):
        assert not re.search(rf"(table|index|column)\('{name}", made.read_text())


@pytest.mark.filterwarnings(IGNORED)
def test_our_own_tables_as_a_second_metadata_are_left_out(shop):
    env = ENV.replace("from shop.models", "from mailbatch.infrastructure.db.tables import metadata\nfrom shop.models")
    env = env.replace(
        "target_metadata=Base.metadata", "target_metadata=[Base.metadata, metadata], include_schemas=True"
    )
    (shop.folder / "alembic" / "env.py").write_text(env)
    shop.alembic("upgrade", "head")
    shop.sees_nothing_to_change()
    shop.migrate()
    shop.sees_nothing_to_change()


@pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)
def test_a_table_of_the_application_with_our_name_in_its_own_database_is_its_own(shop):
    own = '\nclass Run(Base):\n    __tablename__ = "batch_runs"\n    n: Mapped[int] = mapped_column(primary_key=True)\n'
    (shop.folder / "shop" / "models.py").write_text(MODELS + own)
    shop.alembic("upgrade", "head")
    shop.alembic("revision", "--autogenerate", "-m", "its own", "--rev-id", "own")
    [made] = (shop.folder / "alembic" / "versions").glob("own*.py")
    assert "create_table('batch_runs'" in made.read_text()


@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)
def test_a_check_that_was_validated_causes_no_warning(shop, engine):
    shop.migrate()
    shop.alembic("upgrade", "head")
    with engine.begin() as connection:
        for statement in VALIDATE:
            connection.exec_driver_sql(statement)
    shop.sees_nothing_to_change()


def test_the_page_reserves_in_a_schema(empty_postgres_url):
    upgrade(empty_postgres_url, schema="mail")
    engine = sa.create_engine(empty_postgres_url)
    with engine.begin() as connection:
        import mailbatch.client

        exec(RESERVE, {"mailbatch": mailbatch, "session": connection})  # noqa: S102 - the page's own line
        assert connection.exec_driver_sql("SELECT recipients FROM mail.mail_reservations").scalar() == "ann@example.com"
    engine.dispose()
