"""The runner of the migrations, on files written for it."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from counterfoil.storage import migrations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (n int);\nINSERT INTO first VALUES (1);\n")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second (n int);\n")
    return tmp_path


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


async def test_the_program_s_own_migrations_have_run(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await migrations.check(connection)
    assert await migrations.pending(connection) == []
    await connection.close()
    assert await migrations.migrate(database_url) == []


async def test_pending_files_run_in_order_and_once(empty_database_url: str, folder: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    assert await migrations.pending(connection, folder) == ["0001_first", "0002_second"]
    with pytest.raises(migrations.SchemaBehind, match="0001_first, 0002_second: run `counterfoil migrate`"):
        await migrations.check(connection, folder)
    assert await migrations.migrate(empty_database_url, folder) == ["0001_first", "0002_second"]
    assert await migrations.migrate(empty_database_url, folder) == []
    (folder / "0003_third.sql").write_text("DROP TABLE first;")
    assert await migrations.pending(connection, folder) == ["0003_third"]
    assert await migrations.migrate(empty_database_url, folder) == ["0003_third"]
    await migrations.check(connection, folder)
    await connection.close()
    assert await tables(empty_database_url) == {"second", "schema_migration"}


async def test_a_failing_file_leaves_what_the_one_before_it_left(empty_database_url: str, folder: Path) -> None:
    (folder / "0002_second.sql").write_text("CREATE TABLE second (n int);\n\nSELECT nonsense;\n")
    with pytest.raises(migrations.MigrationError, match=r"0002_second failed at line 3.*nonsense"):
        await migrations.migrate(empty_database_url, folder)
    assert await tables(empty_database_url) == {"first", "schema_migration"}
    (folder / "0002_second.sql").write_text("CREATE TABLE second (n int);\n")
    assert await migrations.migrate(empty_database_url, folder) == ["0002_second"]


async def test_a_changed_file_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrations.migrate(empty_database_url, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE first (n bigint);")
    (folder / "0003_third.sql").write_text("CREATE TABLE third ();")
    with pytest.raises(migrations.MigrationError, match="0001_first is not the file that was applied"):
        await migrations.migrate(empty_database_url, folder)
    assert "third" not in await tables(empty_database_url)


async def test_line_endings_do_not_change_a_file(empty_database_url: str, folder: Path) -> None:
    await migrations.migrate(empty_database_url, folder)
    first = folder / "0001_first.sql"
    first.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrations.migrate(empty_database_url, folder) == []


async def test_a_database_that_is_ahead_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrations.migrate(empty_database_url, folder)
    (folder / "0002_second.sql").unlink()
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(migrations.DatabaseNewer, match="the database is newer than this program: it has 0002_second"):
        await migrations.check(connection, folder)
    await connection.close()
    with pytest.raises(migrations.DatabaseNewer):
        await migrations.migrate(empty_database_url, folder)


async def test_runners_that_meet_take_turns(empty_database_url: str, folder: Path) -> None:
    (folder / "0001_first.sql").write_text("SELECT pg_sleep(0.2);\nCREATE TABLE first (n int);\n")
    applied = await asyncio.gather(*(migrations.migrate(empty_database_url, folder) for _ in range(5)))
    assert sorted(name for names in applied for name in names) == ["0001_first", "0002_second"]


async def test_a_table_in_use_is_not_waited_for_long(empty_database_url: str, folder: Path) -> None:
    await migrations.migrate(empty_database_url, folder)
    (folder / "0003_third.sql").write_text("CREATE TABLE third ();\nALTER TABLE first ADD m int;")
    user = await asyncpg.connect(empty_database_url)
    async with user.transaction():
        await user.execute("LOCK TABLE first IN ACCESS SHARE MODE")
        with pytest.raises(migrations.MigrationError, match=r"0003_third waited 0\.2 s for a table and left nothing"):
            await migrations.migrate(empty_database_url, folder, lock_seconds_max=0.2)
        assert "third" not in await tables(empty_database_url)
    await user.close()
    assert await migrations.migrate(empty_database_url, folder) == ["0003_third"]


@pytest.mark.parametrize(
    ("name", "sql", "message"),
    [
        ("2_short.sql", "SELECT 1;", "is not named like"),
        ("0004_gap.sql", "SELECT 1;", "without a gap"),
        ("0002_twice.sql", "SELECT 1;", "without a gap"),
        ("0003_commits.sql", "SELECT 1;\n  commit ;", "the runner holds the transaction; take out commit ;"),
    ],
)
def test_a_misnamed_or_unruly_file_is_refused(folder: Path, name: str, sql: str, message: str) -> None:
    (folder / name).write_text(sql)
    with pytest.raises(migrations.MigrationError, match=message):
        migrations.available(folder)


def test_a_function_body_may_begin_and_end(folder: Path) -> None:
    body = "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1;\nEND;\n$$;"
    (folder / "0003_function.sql").write_text(body)
    assert len(migrations.available(folder)) == 3
