"""CSV and NDJSON files as other programs write them: read, or refused with a helpful message."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.cli_runner import CliRunner
from usertable.files import reader
from usertable.files.readers import open_source

DECLARED = {"level": "NUMBER overwrite", "spent": "NUMBER accumulate", "name": "STRING overwrite", "tags": "LIST append"}


@pytest.fixture(params=["with pyarrow", "without pyarrow"])
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> CliRunner:
    """Create a store with the project `p`, some attributes and the identifier `phone`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    commands: list[Sequence[str]] = [("project", "create", "demo", "--id", "p")]
    for name, form in DECLARED.items():
        data_type, rule = form.split()
        commands.append(("attribute", "create", name, "--project", "p", "--type", data_type, "--rule", rule))
    commands.append(("identifier", "create", "phone", "--project", "p"))
    cli = CliRunner.after(commands, tmp_path / "users.db", {})
    if request.param == "with pyarrow":
        # As in the process that reads a large file.
        monkeypatch.setattr(reader, "open_source", lambda *arguments, arrow: open_source(*arguments, arrow=True))
    return cli


def load(cli: CliRunner, content: bytes | str, *options: str, name: str = "crm.csv") -> dict[str, Any]:
    """Import a file with this content, as a job of its own. Return the command's answer."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    rejects = Path(name).with_suffix("").name + ".rejects." + name.rpartition(".")[2]
    Path(rejects).unlink(missing_ok=True)
    command = ("import", name, "--project", "p", "--register", "--json", *options)
    if "--dry-run" not in options:
        command = (*command, "--restart")
    result = cli.invoke(*command)
    found: dict[str, Any] = json.loads(result.stdout) if result.stdout else {"told": result.stderr}
    return found


def told(cli: CliRunner, content: bytes | str, *options: str, name: str = "crm.csv") -> str:
    """Return why the file is refused, before anything of it is stored."""
    before = users(cli)
    found = load(cli, content, *options, name=name)
    assert users(cli) == before
    answer: str = found["told"]
    assert "Traceback" not in answer
    return answer


def users(cli: CliRunner) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli.out("export", "--project", "p", "--format", "ndjson").splitlines()]


def names(cli: CliRunner) -> dict[int, str]:
    return {user["cuid"]: user["name"] for user in users(cli) if "name" in user}


def rejects(name: str = "crm.rejects.csv", encoding: str = "utf-8") -> list[dict[str, str]]:
    with Path(name).open(newline="", encoding=encoding) as stream:
        return list(csv.DictReader(stream))


# encodings


def test_a_file_that_is_not_utf8_is_refused_and_shown_as_likely_encodings_read_it(cli: CliRunner) -> None:
    content = "cuid,name\n1,ok\n2,Müller\n".encode("cp1252")
    found = told(cli, content)
    assert "line 3 is not UTF-8" in found
    assert "`2,Müller` as cp1252" in found
    assert "`2,M黮ler` as gb18030" in found
    # Even if the byte is far from the beginning, and in NDJSON.
    late = b"cuid,name\n" + b"".join(b"%d,plain\n" % n for n in range(1, 90_000)) + b"200000,M\xfcller\n"
    assert "line 90001 is not UTF-8" in told(cli, late)
    assert 'Müller"}` as cp1252' in told(cli, '{"cuid":1,"name":"Müller"}\n'.encode("cp1252"), name="crm.ndjson")


def test_an_encoding_that_is_named_is_honoured(cli: CliRunner) -> None:
    texts = {
        "cp1252": "Müller €",
        "latin-1": "Müller",
        "gb18030": "黮ler 𠮷",
        "GBK": "张伟",
        "big5": "許功蓋",
        "shift_jis": "ソース表",
        "euc-kr": "서울",
        "utf-16le": "张😀",
        "utf-16be": "张😀",
        "utf-32le": "张😀",
        "cp1251": "Москва",
    }
    for number, (encoding, text) in enumerate(texts.items(), start=1):
        table = f'cuid,name\n{number},"{text}|,"\n'.encode(encoding)
        assert load(cli, table, "--encoding", encoding)["created"] == 1
        assert names(cli)[number] == f"{text}|,"
        line = json.dumps({"cuid": number, "name": text}, ensure_ascii=False).encode(encoding)
        assert load(cli, line, "--encoding", encoding, name="crm.ndjson")["changed"] == 1
        assert names(cli)[number] == text


def test_utf16_and_utf32_are_known_by_their_mark_and_named_without_one(cli: CliRunner) -> None:
    text = "cuid,name\n1,杭州😀\n"
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        assert load(cli, text.encode(encoding))["refused"] == 0
        assert names(cli) == {1: "杭州😀"}
    assert "it looks like utf-16le without a byte order mark; use --encoding utf-16le" in told(cli, text.encode("utf-16le"))
    assert "use one of utf-16le, utf-16be" in told(cli, text.encode("utf-16be"), "--encoding", "utf-16")
    assert "omit --encoding" in told(cli, text.encode("utf-16"), "--encoding", "gb18030")
    assert "expected auto or an encoding such as utf-8" in told(cli, text, "--encoding", "rot13")


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_half_a_pair_or_an_odd_byte_costs_its_row_and_shifts_nothing(cli: CliRunner, order: str, end: str) -> None:
    encoding = f"utf-16-{order}"
    mark = "\ufeff".encode(encoding)
    half = "\ud83d".encode(encoding, "surrogatepass")

    def rows(*parts: str | bytes) -> bytes:
        return mark + b"".join(part.replace("\n", end).encode(encoding) if isinstance(part, str) else part for part in parts)

    for content in (
        rows("cuid,name\n1,a", half, "b\n2,杭州\n3,ok\n"),
        rows("cuid,name\n1,a", b"\x4e", "b\n2,杭州\n3,ok\n"),
        rows("cuid,name\n1,", b"\x00", "\n2,杭州\n3,ok\n"),
    ):
        found = load(cli, content)
        assert (found["rows"], found["refused"]) == (3, 1)
        assert names(cli) == {2: "杭州", 3: "ok"}
        again = load(cli, Path("crm.rejects.csv").read_bytes(), name="again.csv")
        assert (again["rows"], again["refused"]) == (1, 1)
    # A file that was truncated in the middle of a character.
    found = load(cli, rows("cuid,name\n2,杭州\n4,ok", b"\x4e"))
    assert (found["refused"], names(cli)) == (1, {2: "杭州", 3: "ok"})
    # Characters whose bytes contain a line end at an odd offset.
    assert load(cli, rows("cuid,name\n5,\u0a05一\u0d0a\u0100\n6,x\n"))["refused"] == 0
    assert names(cli)[5] == "\u0a05一\u0d0a\u0100"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_refused_row_keeps_the_characters_whose_bytes_hold_a_quote_at_an_odd_place(cli: CliRunner, encoding: str) -> None:
    # The bytes of a quote occur across two of these, in one byte order or the other.
    for odd in ("x≤一Ā∀一y", '∀"一', "\ud83d\ude00≤一"):
        name = odd.encode("utf-16", "surrogatepass").decode("utf-16")
        cell = '"' + name.replace('"', '""') + '"' if '"' in name else name
        content = f"\ufeffcuid,name\n2,{cell},extra\n".encode(encoding)
        assert load(cli, content)["refused"] == 1
        (row,) = rejects(encoding=encoding)
        assert row["#line"] == f"2,{cell},extra"
        mended = Path("crm.rejects.csv").read_bytes().replace(",extra".encode(encoding), b"")
        assert load(cli, mended, name="mended.csv")["refused"] == 0
        assert names(cli)[2] == name


def test_rows_behind_a_refused_one_with_a_byte_too_many_keep_their_numbers(cli: CliRunner) -> None:
    content = "\ufeffcuid,name,level\n1,ok,1\n2,x".encode("utf-16-le") + b"A" + ",1\n3,short\nx,杭州,1\n".encode("utf-16-le")
    assert load(cli, content)["refused"] == 3
    for name in ("second", "third"):
        kept = Path("crm.rejects.csv" if name == "second" else "second.rejects.csv").read_bytes()
        found = load(cli, kept, name=f"{name}.csv")
        assert (found["rows"], found["refused"]) == (3, 3)
        text = Path(f"{name}.rejects.csv").read_bytes().decode("utf-16-le", "surrogatepass").removeprefix("\ufeff")
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
        assert [row["#row"] for row in rows] == ["2", "3", "4"]
        assert [row["#line"] for row in rows[1:]] == ["3,short", ""]
        assert rows[2]["name"] == "杭州"


def test_a_byte_order_mark_inside_the_file_refuses_its_row(cli: CliRunner) -> None:
    part = "\ufeffphone,name\n{},x\n"
    joined = part.format("138") + part.format("139") + "\ufeff140,y\n"
    for encoding in ("utf-8", "utf-16-le"):
        found = load(cli, joined.encode(encoding))
        assert found["refused"] == 2
        assert "it has a byte order mark inside" in Path("crm.rejects.csv").read_text(encoding)
    assert [user["phone"] for user in users(cli)] == ["138", "139"]
    found = load(cli, '{"cuid":1}\n\ufeff{"cuid":2}\n', name="crm.ndjson")
    assert (found["created"], found["refused"]) == (1, 1)


# rows and their rejects

BROKEN = [
    ('k,name\n"\n"x\nq,r\nz,w\n', ["1"]),
    ('k,name\n1,a\n2,short,7\n3\n4,"b""\n5,c\n6,d"\n7,"e"f\n8,g\n', ["2", "3", "5"]),
    ('k,name\n1,"a\nb\n\nc"\n2, "x"\n"3","4","5"\n6,"d\n', ["2", "3", "4"]),
]


@pytest.mark.parametrize(("content", "numbers"), BROKEN)
def test_rejects_are_the_same_at_every_batch_size_and_refused_again(
    cli: CliRunner, content: str, numbers: list[str]
) -> None:
    options = ("--map", "k=phone")
    kept = set()
    for batch in ("1", "2", "3", "5000"):
        load(cli, content, *options, "--batch", batch)
        kept.add(Path("crm.rejects.csv").read_bytes())
        assert [row["#row"] for row in rejects()] == numbers
    assert len(kept) == 1
    before = users(cli)
    for turn in ("second.csv", "third.csv"):
        # Unchanged, it is refused again, and the rows keep their numbers.
        again = load(
            cli,
            Path("crm.rejects.csv" if turn == "second.csv" else "second.rejects.csv").read_bytes(),
            *options,
            name=turn,
        )
        assert (again["rows"], again["refused"]) == (len(numbers), len(numbers))
        assert [row["#row"] for row in rejects(turn.replace(".", ".rejects."))] == numbers
    assert users(cli) == before


def test_a_short_row_is_mended_where_it_stands(cli: CliRunner) -> None:
    load(cli, "cuid,level,name,spent\n2,short,7\n3,1,a,1\n")
    (row,) = rejects()
    assert (row["#row"], row["#line"], row["cuid"]) == ("1", "2,short,7", "")
    text = Path("crm.rejects.csv").read_text()
    assert load(cli, text.replace('"2,short,7"', '"2,5,short,7"'), name="mended.csv")["created"] == 1
    # Or in the columns, as in a spreadsheet.
    line = text.splitlines()[1]
    assert load(cli, text.replace(line, f"4,6,x,1,{line.lstrip(',')}"), name="mended.csv")["created"] == 1
    assert [(user["cuid"], user["level"], user["spent"]) for user in users(cli)] == [(2, 5, 7), (3, 1, 1), (4, 6, 1)]


def test_what_is_refused_stands_byte_for_byte_in_the_rejects(cli: CliRunner) -> None:
    lines = [b"x,\xff,1", b'0,"a ""b""",', "0,杭州, ".encode(), b'="x",a,']
    load(cli, b"cuid,name,level\r\n" + b"".join(line + b"\r\n" for line in lines), "--encoding", "utf-8")
    kept = Path("crm.rejects.csv").read_bytes().splitlines()
    assert kept[0] == b"cuid,name,level,#row,#reason,#line"
    assert [line[: len(own) + 2] for line, own in zip(kept[1:], lines, strict=True)] == [
        own + b",%d" % number for number, own in enumerate(lines, start=1)
    ]
    load(cli, "cuid,name\n0,张伟\n".encode("gbk"), "--encoding", "gb18030")
    assert b"0,\xd5\xc5\xce\xb0,1," in Path("crm.rejects.csv").read_bytes()
    nd = [b'{"cuid":4,"cuid":5}', b'{ "cuid" : 0, "level" : 1.000 }', b'{"cuid":0,"name":"\xff"}']
    load(cli, b"\n".join(nd), "--encoding", "utf-8", name="crm.ndjson")
    again = Path("crm.rejects.ndjson").read_bytes()
    assert all(line[1:] in again for line in nd)
    found = load(cli, again, "--encoding", "utf-8", name="again.ndjson")
    assert (found["rows"], found["refused"]) == (3, 3)
    assert [line[:9] for line in Path("again.rejects.ndjson").read_bytes().splitlines()] == [
        b'{"#row":1',
        b'{"#row":2',
        b'{"#row":3',
    ]


def test_unclosed_quotes_cost_seconds_and_a_few_rows(cli: CliRunner) -> None:
    lines = [f'"{n}","a b c"\n' for n in range(1, 60_001)]
    for place in (4_999, 9_999, 30_000):
        lines[place] = lines[place].replace('c"', "c")
    found = load(cli, '"cuid","name"\n' + "".join(lines))
    # Each includes the line that its quote continues on.
    assert (found["rows"], found["created"], found["refused"]) == (59_997, 59_994, 3)


# columns


def test_a_column_without_a_name_refuses_the_file_unless_it_is_empty(cli: CliRunner) -> None:
    assert "column [#3]: the column has no name, and contains [vip]" in told(cli, "phone,level,\n1,3,\n2,3,vip\n")
    assert "column [#2]: the column has no name" in told(cli, "phone,,level\n1,x,3\n")
    assert load(cli, "phone,level,\n1,3,\n")["created"] == 1
    assert load(cli, "phone,level,\n2,3,vip\n", "--map", "#3=")["created"] == 1
    assert load(cli, "phone,,\n3,a,b\n", "--map", "#2=name", "--map", "#3=")["created"] == 1
    found = load(cli, '{"phone":"4","":null}\n{"phone":"5","":"x"}\n', name="crm.ndjson")
    assert (found["created"], found["refused"]) == (1, 1)


def test_two_columns_of_one_name_are_told_apart(cli: CliRunner) -> None:
    assert "column [level#2]: level#2 is neither cuid nor" in told(cli, "cuid,level,level\n1,2,3\n")
    assert load(cli, "cuid,level,level\n1,2,3\n", "--map", "level#2=")["created"] == 1
    assert load(cli, "cuid,level,level,level\n1,2,3,4\n", "--map", "level=", "--map", "level#2=", "--map", "level#3=spent")
    assert users(cli) == [{"cuid": 1, "level": 2, "spent": 4}]


def test_a_cuid_has_one_form(cli: CliRunner) -> None:
    wrong = ["007", "+7", "7.0", "7e0", " 7", "0", "-7", "9223372036854775808", "99999999999999999999"]
    found = load(cli, "cuid,level\n" + "".join(f'"{cuid}",1\n' for cuid in [*wrong, "7", "9223372036854775807"]))
    assert (found["created"], found["refused"]) == (2, len(wrong))
    assert "digits without leading zeros" in rejects()[0]["#reason"]
    cuids = ['"007"', "7.0", "7e0", "9223372036854775808", "18446744073709551616", '"9223372036854775808"', "true"]
    for options in ((), ("--dry-run",)):
        # Whole lines of equal form, and one among others.
        found = load(cli, "".join(f'{{"cuid":{cuid}}}\n' for cuid in [*cuids, "7"]), *options, name="crm.ndjson")
        assert (found["unchanged"], found["refused"]) == (1, len(cuids))
        found = load(cli, '{"cuid":7}\n{"cuid":9223372036854775808}\n{"cuid":8}\n', *options, name="crm.ndjson")
        assert (found["rows"], found["refused"]) == (3, 1)


# spreadsheets


def test_blank_rows_of_a_spreadsheet_are_not_refused(cli: CliRunner) -> None:
    found = load(cli, "cuid,level,name,\n1,2,a,\n,,,\n\n" + ",,,\n" * 200 + "3,1,b,\n")
    assert (found["created"], found["refused"]) == (2, 0)
    assert load(cli, "cuid,level\n1,2\n,\n", "--empty", "refuse")["refused"] == 0
    assert load(cli, "cuid,level\n1,2\nNULL,NULL\n", "--null", "NULL")["refused"] == 0
    assert load(cli, '{"cuid":1}\n{}\n{"cuid":null,"level":null}\n', name="crm.ndjson")["refused"] == 0
    # A row with values and no user is not blank.
    assert load(cli, "cuid,level\n,2\n")["refused"] == 1


def test_texts_that_are_kept_from_becoming_numbers_are_texts(cli: CliRunner) -> None:
    content = 'cuid;name;phone\n1;="01067";="00123"\n="2";"=""a""""b""";x\n3;"=""1"" & ""2""";y\n4;="a;b";z\n'
    found = load(cli, content, "--delimiter", ";")
    assert (found["created"], found["refused"]) == (3, 1)
    assert [(user["phone"], user["name"]) for user in users(cli)] == [
        ("00123", "01067"),
        ("x", 'a"b'),
        ("y", '="1" & "2"'),
    ]
    # A text in this form is exported so that an import restores it.
    line = json.dumps({"cuid": 5, "name": '="a""b"', "phone": '="1"'})
    load(cli, line, name="crm.ndjson")
    before = users(cli)
    exported = cli.out("export", "--project", "p")
    for cuid in (1, 2, 3, 5):
        cli.run("user", "erase", str(cuid), "--project", "p", "--yes")
    cli.run("project", "create", "other", "--id", "q")
    for name in ("name", "level", "spent", "tags"):
        data_type, rule = DECLARED[name].split()
        cli.run("attribute", "create", name, "--project", "q", "--type", data_type, "--rule", rule)
    cli.run("identifier", "create", "phone", "--project", "q")
    Path("back.csv").write_text(exported, newline="")
    cli.run("import", "back.csv", "--project", "q", "--register")
    assert [json.loads(line) for line in cli.out("export", "--project", "q", "--format", "ndjson").splitlines()] == before


def test_a_blank_before_a_quoted_cell_refuses_the_row(cli: CliRunner) -> None:
    found = load(cli, 'cuid,name\n1, "Paris"\n2,\t"Rom"\n3, "Washington, D.C."\n4," ""x"""\n5, x\n')
    assert (found["created"], found["refused"]) == (2, 3)
    assert names(cli) == {4: ' "x"', 5: " x"}
    assert all("has a space before its quote" in row["#reason"] for row in rejects())


def test_a_row_with_something_after_a_closing_quote_is_refused_with_what_to_do(cli: CliRunner) -> None:
    for content in ('cuid,name\n1,"Paris" \n2,"a"b\n3,c\n', Path("crm.rejects.csv")):
        text = content if isinstance(content, str) else content.read_text()
        assert load(cli, text)["refused"] == 2
        for row in rejects():
            assert "remove the space or text after the closing quote, or double the quotes inside the cell" in row["#reason"]
    assert names(cli) == {3: "c"}


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\v", "\f", "\t \u3000"])
def test_any_blank_before_a_quoted_cell_refuses_the_row(cli: CliRunner, blank: str) -> None:
    rows = [f'1,{blank}"Paris"', f'2,{blank}="01067"', f'3,"{blank}""x"""', f"4,{blank}x", f'5,{blank}"a,b"']
    for encoding, options in (("utf-8", ()), ("utf-16-le", ("--encoding", "utf-16le"))):
        found = load(cli, ("cuid,name\n" + "\n".join(rows) + "\n").encode(encoding), *options)
        assert (found["rows"], found["refused"]) == (5, 3)
        assert names(cli) == {3: f'{blank}"x"', 4: f"{blank}x"}
        kept = rejects(encoding=encoding)
        assert [row["#row"] for row in kept] == ["1", "2", "5"]
        assert all("has a space before its quote" in row["#reason"] for row in kept)
        again = load(cli, Path("crm.rejects.csv").read_bytes(), *options, name="again.csv")
        assert (again["refused"], again["created"]) == (3, 0)


def test_a_first_line_may_name_the_delimiter(cli: CliRunner) -> None:
    assert load(cli, "sep=;\r\ncuid;name\r\n1;a,b\r\nx;c\r\n")["created"] == 1
    assert Path("crm.rejects.csv").read_text().startswith("sep=;\ncuid;name;#row;#reason;#line\nx;c;2;")
    assert load(cli, "sep=\t\ncuid\tname\n2\tb\n", "--delimiter", "\\t")["created"] == 1
    assert "omit --delimiter" in told(cli, "sep=;\ncuid;name\n", "--delimiter", "|")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_named(cli: CliRunner, delimiter: str) -> None:
    shown = "\\t" if delimiter == "\t" else delimiter
    content = delimiter.join(["cuid", "level", "name"]) + "\n" + delimiter.join("123") + "\n"
    assert f"its header is not separated by ','; use --delimiter '{shown}'" in told(cli, content)
    assert load(cli, content, "--delimiter", shown)["created"] == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "crm.csv",
            b"\x1f\x8b\x08\x00",
            "it is compressed with gzip; rename it so that its name ends in .gz, or unpack it: `gunzip -c FILE |",
        ),
        ("crm.ndjson", b"\x1f\x8b\x08\x00", "it is compressed with gzip"),
        (
            "crm.csv",
            b"\x28\xb5\x2f\xfd\x04",
            "it is compressed with zstd; rename it so that its name ends in .zst, or unpack it: `zstd -dc FILE |",
        ),
        ("crm.csv", b"PK\x03\x04\x14", "in the spreadsheet, save it as CSV UTF-8"),
        ("crm.csv", b"PAR1\x15", "it is a Parquet file; use --format parquet"),
        (
            "crm.csv.xz",
            b"",
            "crm.csv.xz is compressed; decompress it first: `xz -dc crm.csv.xz | usertable import - --format csv",
        ),
        ("crm.csv", b'{"cuid":1}\n', "its first line is JSON, not a CSV header; use --format ndjson"),
        ("crm.ndjson", b'[{"cuid":1},{"cuid":2}]', "it is a JSON array, and NDJSON has one object per line"),
        ("crm.ndjson", b'\xef\xbb\xbf\n[\n{"cuid":1},\n{"cuid":2}\n]\n', "`jq -c '.[]' FILE`"),
        ("crm.ndjson", json.dumps([{"cuid": 1}, {"cuid": 2}], indent=2).encode(), "it is a JSON array"),
        ("crm.ndjson", json.dumps({"cuid": 1}, indent=2).encode(), "it has a JSON object over several lines"),
        ("crm.ndjson", b'{"cuid":1,\n"level":2}\n{"cuid":3}\n', "for example with `jq -c . FILE`"),
    ],
)
def test_a_file_of_another_form_is_known_before_anything_is_stored(
    cli: CliRunner, name: str, content: bytes, reason: str
) -> None:
    assert reason in told(cli, content, name=name)


@pytest.mark.parametrize(
    "first",
    [
        '{"users":[',
        '{"users":',
        '{"users":[{"cuid":9},',
        '{ "meta": {"n": 1}, "users": [',
        '{"data":{"users":[',
        '\n \n{ "users" : [',
        "{",
    ],
)
def test_a_large_json_document_is_refused_by_its_first_line(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    # More than is read at once.
    entries = ",\n".join(f'{{"cuid":{n},"name":"{"n" * 30}"}}' for n in range(1, 60_001))
    content = f"{first}\n{entries}\n]}}\n"
    refusal = "it has a JSON object over several lines, and NDJSON has one object per line"
    assert refusal in told(cli, content.encode(), name="crm.ndjson")
    # A process that reads the file takes 0.2 s of CPU to start.
    monkeypatch.setattr(reader, "DIRECT_BYTES", 2**30)
    assert refusal in told(cli, content.encode("utf-16"), name="crm.ndjson")
    long = '{"about":"' + "x" * 3 * 2**20 + '","users":[\n' + entries + "\n]}\n"
    assert "over several lines" in told(cli, long, name="crm.ndjson")
    assert "`jq -c '.users[]' FILE`" in told(cli, '{"users":[\n{"cuid":1}\n]}', name="crm.ndjson")


@pytest.mark.parametrize(
    "first", ['{"cuid":1,"name":tru', '{"cuid":1,"name":"x', '{"cuid":1]', "{cuid:1}", '{"cuid":1},', '"users":[']
)
def test_a_first_line_that_is_broken_is_refused_by_itself(cli: CliRunner, first: str) -> None:
    found = load(cli, first + '\n{"cuid":2}\n', name="crm.ndjson")
    assert (found["created"], found["refused"]) == (1, 1)


# the process that reads a large file


@pytest.mark.parametrize("cli", ["without pyarrow"], indirect=True)
@pytest.mark.parametrize("installed", [True, False], ids=["pyarrow", "no pyarrow"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_file_comes_to_the_same_whether_a_process_reads_it_or_not(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str, installed: bool
) -> None:
    table = [["cuid", "name", "level", "nothing"], ["1", "张伟", "1.50", ""], ["x", "é", "", ""], ["2", "", "many", ""]]
    if form == "csv":
        content = "".join(",".join(row) + "\n" for row in table) + '3,"open\n4,a,1,\n'
        options = ("--encoding", "gb18030", "--map", "nothing=", "--batch", "2")
    else:
        content = "".join(json.dumps(dict(zip(table[0], row, strict=True))) + "\n" for row in table[1:]) + '{"cuid":3\n'
        options = ("--map", "nothing=", "--map", "unseen=spent", "--batch", "2")
    if not installed:
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / "pyarrow.py").write_text("raise ImportError('not installed')")
        cli.environment["PYTHONPATH"] = str(tmp_path / "none")
    Path(f"crm.{form}").write_bytes(content.encode("gb18030" if form == "csv" else "utf-8"))
    shutil.copy("users.db", "other.db")
    other = CliRunner(f"sqlite:///{tmp_path / 'other.db'}", cli.environment)
    outcomes = []
    for way, direct_bytes in ((cli, reader.DIRECT_BYTES), (other, -1)):
        monkeypatch.setattr(reader, "DIRECT_BYTES", direct_bytes)
        said = [
            way.invoke("import", f"crm.{form}", "--project", "p", "--register", *options, *more).output
            for more in (["--dry-run"], [], ["--resume"])
        ]
        outcomes.append((said, users(way), Path(f"crm.rejects.{form}").read_bytes()))
        Path(f"crm.rejects.{form}").unlink()
    assert outcomes[0] == outcomes[1]
    assert "1 user created" in outcomes[0][0][1]
