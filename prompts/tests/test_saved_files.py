"""Saved prompts as files: /api/v1/prompts/saved/export, …/import, and manage.py import_prompts."""

import csv
import io
import json
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test.client import MULTIPART_CONTENT

from accounts.caller import Caller
from prompts import collections, saved, saved_import, saved_rows
from prompts.models import Collection, SavedPrompt
from prompts.saved_rows import guarded, path_text, prompt_row, unguarded

EXPORT = "/api/v1/prompts/saved/export"
IMPORT = "/api/v1/prompts/saved/import"
LIST = 'act,prompt,for_devs\n"Linux ""Terminal""","I want you to act as a linux terminal.\nReply with\r\noutput",TRUE\n'


def by(user):
    return Caller(user_id=user.pk)


def exported(api, user, kind):
    answer = api(user).get(EXPORT, {"format": kind})
    assert answer.status_code == 200
    return b"".join(answer.streaming_content)


def send(client, data, content_type="text/csv", **query):
    data = data.encode() if isinstance(data, str) else data
    return client.generic("POST", f"{IMPORT}?{urlencode(query)}", data, content_type)


def kept(user):
    """All that a user has, as an export has it."""
    return [
        (path(row.collection), row.title, row.description, row.content, row.tags, row.is_favourite)
        for row in sorted(
            SavedPrompt.objects.filter(user=user).select_related("collection"),
            key=lambda row: (path(row.collection), row.position),
        )
    ]


def path(folder):
    return [*path(folder.parent), folder.name] if folder else []


def test_twins_in_a_file_are_all_kept_and_spaces_stay(api, alice, bob, monkeypatch):
    monkeypatch.setattr(saved_import, "BATCH", 2)
    twin = {"title": "Twin", "content": "  Dear {{ name }},\n"}
    made = [api(alice).post("/api/v1/prompts/saved", twin).json() for _ in range(3)]
    assert {one["content"] for one in made} == {twin["content"]}
    data = exported(api, alice, "json")

    assert send(api(bob), data, "application/json").json()["imported"] == 3
    assert kept(bob) == kept(alice)
    again = send(api(bob), data, "application/json").json()
    assert (again["imported"], again["skipped"]) == (0, 3)
    for key, value in (("format", "other"), ("version", 2)):
        answer = send(api(bob), json.dumps(json.loads(data) | {key: value}), "application/json")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, key)


@pytest.fixture
def library(alice):
    """Folders and prompts with everything that a CSV file, a spreadsheet or a path might stumble over."""
    odd = collections.create_collection(by=by(alice), name=r"CI/CD \ odd/", description="Line\nbreak")
    inner = collections.create_collection(by=by(alice), name="=SUM(A1)", parent=odd.pk)
    collections.create_collection(by=by(alice), name="Empty")
    texts = ["=1+1", "'=1+1", "''-x", "'quoted'", 'a "b", c;\t', "one\r\ntwo\rthree\nfour", "- list", "שלום 🎉 é", "@x"]
    for number, text in enumerate(texts):
        place = (None, odd, inner)[number % 3]
        saved.create_prompt(
            by=by(alice),
            title=f"{number} {text}"[:50].strip(),
            content=text,
            description=text.strip(),
            tags=["+x", "b c"][: number % 3],
            is_favourite=number % 2 == 0,
            collection=place and place.pk,
        )
    return texts


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_what_goes_out_comes_in_again_the_same(api, alice, bob, library, kind):
    file = exported(api, alice, kind)

    done = send(api(bob), file, "application/octet-stream").json()

    assert (done["imported"], done["skipped"], done["errors"]) == (len(library), 0, [])
    assert kept(bob) == kept(alice)
    assert exported(api, bob, kind).split(b'"collections"')[-1] == file.split(b'"collections"')[-1]
    names = Collection.objects.filter(user=bob).values_list("name", flat=True)
    assert ("Empty" in names) == (kind == "json")
    again = send(api(bob), file).json()
    assert (again["imported"], again["skipped"], again["collections"]) == (0, len(library), 0)


def test_no_cell_of_an_export_is_a_formula(api, alice, library):
    rows = list(csv.reader(io.StringIO(exported(api, alice, "csv").decode(), newline="")))

    assert rows[0] == list(saved_rows.COLUMNS)
    assert len(rows) == len(library) + 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    for text in (*library, "", "'", "'''=", "\t", "\n='"):
        assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("names", [["a"], ["a/b", "c\\d"], ["/", "\\", "\\/"], ["a\\", "b/"]])
def test_a_path_is_read_as_it_was_written(names):
    assert prompt_row(1, {"title": "t", "content": "c", "collection": path_text(names)}).folder == tuple(names)


@pytest.mark.parametrize(
    "file",
    [
        LIST,
        "\ufeff" + LIST,
        "\n\n" + LIST + "\r\n\r\n",
        LIST.replace("act,prompt", " Act ,PROMPT"),
        "act;prompt\n'plain';text\n",
        json.dumps([{"act": "a", "prompt": "b"}]),
        json.dumps({"prompts": [{"title": "a", "content": "b", "id": 7, "tags": None}]}),
    ],
)
def test_lists_from_elsewhere_are_understood(api, alice, file):
    for expected, said in (((1, 0), "application/x-www-form-urlencoded"), ((0, 1), "")):
        done = send(api(alice), file, said).json()
        assert (done["imported"], done["skipped"], done["failed"]) == (*expected, 0)
    if "Terminal" in file:
        row = SavedPrompt.objects.get()
        assert (row.title, row.content) == ('Linux "Terminal"', LIST.split('","')[1].split('",TRUE', maxsplit=1)[0])
        assert done["ignored_columns"] == ["for_devs"]


BROKEN = "\n".join(
    [
        "title,content,tags,collection,is_favourite",
        "good,text,,,",
        ",no title,,,",
        "no content,  ,,,",
        "too few",
        f"{'x' * 201},long title,,,",
        "nul,a\0b,,,",
        "favourite,x,,,perhaps",
        'bad "quotes,x,,,',
        '"bad" quotes,x,,,',
        f"deep,x,,{'a/' * 8}a,",
        "path,x,,a//b,",
        "good too,text,one,Work/Mails,yes",
        '"never closed,text,,,',
    ]
)
CODES = {
    2: "required",
    3: "required",
    4: "wrong_number_of_cells",
    5: "max_length",
    6: "nul_character",
    7: "invalid_value",
    9: "invalid_csv",
    10: "too_deep",
    11: "required",
    13: "invalid_csv",
}


def test_broken_rows_are_named_and_keep_all_out_unless_the_good_are_asked_for(api, alice):
    refused = send(api(alice), BROKEN)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], {row["row"]: row["code"] for row in error["errors"]}) == ("import_refused", CODES)
    assert not SavedPrompt.objects.exists()

    done = send(api(alice), BROKEN, partial="true").json()

    assert (done["imported"], done["failed"], done["collections"]) == (3, len(CODES), 2)
    assert {row["row"]: row["code"] for row in done["errors"]} == CODES
    assert {row.title for row in SavedPrompt.objects.all()} == {"good", "good too", 'bad "quotes'}
    assert path(SavedPrompt.objects.get(title="good too").collection) == ["Work", "Mails"]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "required"),
        (b"  \n", "empty_file"),
        (b"[]", "empty_file"),
        (b"title,content\n", "empty_file"),
        ("title,content\nä,b".encode("latin-1"), "not_utf8"),
        ("title,content\nä,b".encode("utf-16"), "not_utf8"),
        (b"name,text\na,b", "missing_column"),
        (b"title,act,prompt\na,b,c", "missing_column"),
        (b'"title,content', "invalid_csv"),
        (b"[1", "invalid_json"),
        (b'{"prompts": {}}', "invalid_type"),
        (b"[" * 200 + b"]" * 200, "json_too_deep"),
        (b'{"prompts": [], "collections": [{"path": []}]}', "invalid_type"),
        (b'[{"title": "a", "content": 7}, 3, {"title": "a", "content": "b", "tags": ["a,b"]}]', "import_refused"),
    ],
)
def test_what_is_no_file_of_prompts_is_refused(api, alice, file, code):
    answer = send(api(alice), file)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_file_is_bounded(api, alice, monkeypatch):
    monkeypatch.setattr(saved_rows, "MOST_ROWS", 2)
    assert send(api(alice), "title,content\n" + "a,b\n" * 3).json()["error"]["code"] == "too_many_rows"
    assert send(api(alice), b"x" * (saved_rows.MOST_BYTES + 1)).status_code == 413
    assert send(api(alice), b"x" * (saved_rows.MOST_BYTES + 100_000)).status_code == 413


def test_a_form_may_carry_the_file_into_a_folder(api, alice, bob):
    work = collections.create_collection(by=by(alice), name="Work")
    upload = SimpleUploadedFile("list.csv", LIST.encode(), content_type="text/csv")

    answer = api(alice).post(f"{IMPORT}?collection={work.pk}", {"file": upload}, content_type=MULTIPART_CONTENT)

    assert answer.json()["imported"] == 1
    assert work.prompts.count() == 1
    theirs = collections.create_collection(by=by(bob), name="Work")
    assert send(api(alice), LIST, collection=theirs.pk).status_code == 404
    assert api(alice).get(EXPORT, {"format": "xml"}).json()["error"]["param"] == "format"


def test_the_command_imports_for_a_user(alice, tmp_path, capsys):
    file = tmp_path / "list.csv"
    file.write_text(LIST, newline="")
    for imported in (1, 0):
        call_command("import_prompts", str(file), user="ALICE@example.com", collection="Awesome")
        assert f"Imported {imported}," in capsys.readouterr().out
    assert SavedPrompt.objects.get().collection.name == "Awesome"

    file.write_text(BROKEN, newline="")
    with pytest.raises(CommandError, match="10 rows are broken"):
        call_command("import_prompts", str(file), user=alice.email)
    assert "Row 2: title: This is required." in capsys.readouterr().err
    call_command("import_prompts", str(file), user=alice.email, partial=True)
    assert "Imported 3," in capsys.readouterr().out
    file.write_text("title,content\n,\n")
    alices = {"user": alice.email, "partial": True}
    for arguments in (alices, alices | {"collection": "x" * 101}, {"user": "nobody@example.com"}):
        with pytest.raises(CommandError):
            call_command("import_prompts", str(file), **arguments)
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_prompts", str(tmp_path / "none.csv"), user=alice.email)
