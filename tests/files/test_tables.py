"""CSV and TSV as people and programs write them."""

import pytest

from minigpt_tf.files.notes import Notes
from minigpt_tf.files.tables import find_delimiter, note_ragged, read_table

HEAD = "question,answer\n"
SOUND = "".join(f"q{n},a{n}\n" for n in range(1, 6))


def cells(text, **settings):
    return [row for _, row in read_table(text, **settings)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1,5;2,75\n3,5;4\n", [["a", "b"], ["1,5", "2,75"], ["3,5", "4"]]),  # decimal commas
        ("Rot;1,50\nBlau;2,75\n", [["Rot", "1,50"], ["Blau", "2,75"]]),  # and no header
        ("a|b\nx, y|z\n", [["a", "b"], ["x, y", "z"]]),
        ("a\tb\nx; y\tz, w\n", [["a", "b"], ["x; y", "z, w"]]),
        ("sep=|\na|b\n1;2|3,4\n", [["a", "b"], ["1;2", "3,4"]]),
        ('"sep=;"\na;b\n', [["a", "b"]]),
        ("text\nHello, world\nNo comma\none, two, three\n", None),  # a column, not two
        ("So, this is prose\nwith commas, or, as here\nwithout\nand, at, its end, four\n", None),
        ("a,b\n'it''s','x'\nplain,'y'\n", [["a", "b"], ["it's", "x"], ["plain", "y"]]),
        ("'a','b'\n'it''s, so','x'\n'y',2\n'z','w'\n", [["a", "b"], ["it's, so", "x"]]),
        ('a,b\n"say \\"hi, you\\"",1\n"x",2\n', [["a", "b"], ['say "hi, you"', "1"], ["x", "2"]]),
        ('a,b\n"say "hi" to me",1\n', [["a", "b"], ['say "hi" to me', "1"]]),
        ('a, b\n"x, y" , "z"\n', [["a", "b"], ["x, y", "z"]]),
        ('a,b\n"two\nlines","say ""yes"""\n', [["a", "b"], ["two\nlines", 'say "yes"']]),
        ("a,b\n" + "x" * 200_000 + ",y\n", [["a", "b"], ["x" * 200_000, "y"]]),
        ("a,b\nC:\\new,'90s\n", [["a", "b"], ["C:\\new", "'90s"]]),
        ('size|note\n3" pipe|old\n', [["size", "note"], ['3" pipe', "old"]]),
        ('path,x\n"C:\\dir\\",1\n"D:\\",2\n', [["path", "x"], ["C:\\dir\\", "1"], ["D:\\", "2"]]),
    ],
)
def test_a_table_is_read_as_it_was_written(text, expected):
    expected = expected or [[line] for line in text.splitlines()]
    assert cells(text)[: len(expected)] == expected


@pytest.mark.parametrize("broken", ['"never closed', '"first part" and more', '"'])
def test_a_quote_that_is_not_closed_takes_no_rows_with_it(broken):
    notes = Notes()
    rows = list(read_table(f"{HEAD}{SOUND}q6,{broken}\nq7,a7\nq8,a8\n", notes=notes))
    assert [row for _, row in rows[6:]] == [["q6", broken], ["q7", "a7"], ["q8", "a8"]]
    assert [line for line, _ in rows] == list(range(1, 10))
    assert notes.lines() == ("line 7: a quote opens a cell and is not closed: read as it stands",)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", 'a,b\n"1",2\n', 'a,b\n"1,2\n', "a\tb\n'1'\t2\n"])
def test_rows_may_be_asked_for_again(text):
    rows = read_table(text)
    assert list(rows) == list(rows) and len(list(rows)) == 2


def test_cells_are_what_a_person_sees():
    text = 'code,name\n="007","=""0,8"""\n=1+1,="a" & "b"\n'
    assert cells(text) == [["code", "name"], ["007", "0,8"], ["=1+1", '="a" & "b"']]
    text = "| q | a |\n|---|:-:|\n| one | -- |\n| | two |\n"
    assert cells(text) == [["", "q", "a", ""], ["", "one", "--", ""], ["", "", "two", ""]]


def test_two_stray_quotes_take_no_rows_with_them():
    notes = Notes()
    text = f'{HEAD}q1,"a1\n{SOUND}q7,"a7\nq8,a8\n'
    assert len(list(read_table(text, notes=notes))) == 9
    assert notes.lines()[0].startswith("line 2, line 8: a quote opens a cell")


def test_a_cell_that_holds_rows_is_said():
    notes = Notes()
    text = f'{HEAD}q1,"a1\n{SOUND}q7,a7"\n'
    assert len(list(read_table(text, notes=notes))) == 2
    assert "line 2: a cell between quotes holds lines that look like rows" in notes.lines()[0]
    assert len(list(read_table(text, quoting="never"))) == 8
    notes = Notes()
    read_table('q,a\nq1,"a1\nq2,a2"\nq3,a3\n', notes=notes)
    assert notes.lines()[0].startswith("line 2: a cell between quotes holds lines that look like")
    notes = Notes()  # a poem is not a table
    read_table(
        'title,poem\nRoses,"Roses are red,\nviolets are blue\nand so on, and on\n"\n', notes=notes
    )
    assert notes.lines() == ()


def test_quotes_between_tabs_stand_as_they_are_where_they_do_not_match():
    text = 'a\tb\n"x"\t"unclosed\ny\tz\n'
    assert cells(text, preferred="\t") == [["a", "b"], ['"x"', '"unclosed'], ["y", "z"]]
    assert cells('a\tb\n"x ""y"""\tz\n', preferred="\t") == [["a", "b"], ['x "y"', "z"]]


def test_the_names_of_the_header_decide_before_its_width():
    text = "id;instruction;output\n1;a, b;c, d\n2;e, f;g, h\n"
    assert find_delimiter(text, is_name=lambda cell: cell in ("instruction", "output")) == ";"


def test_rows_of_another_width_are_counted():
    notes = Notes()
    note_ragged(read_table("My table\n\na,b\n1,2\n3\n4,5\n6,7,8\n" + "9,9\n" * 7), notes)
    assert notes.lines() == ("2 rows with more or fewer cells than the 10 others (line 5)",)
    note_ragged(read_table("a,b\n1\n2,3\n4,5\n"), notes := Notes())
    assert notes.lines() == ("1 row with more or fewer cells than the 3 others (line 2)",)
    note_ragged(read_table("a\nb\n"), notes := Notes())
    assert notes.lines() == ()


@pytest.mark.parametrize("cell", ['"x,', "'x,", '"x,"y', '""",', '"\\",', '"x"y,'])
def test_a_long_line_of_quotes_costs_no_more_than_its_length(cell):
    rows = cells("a,b\n1,2\n3,4\n" + cell * 50_000)
    assert rows[0] == ["a", "b"]
    assert sum(len(text) for row in rows for text in row) <= 50_000 * len(cell) + 6


def test_many_stray_quotes_cost_no_more_than_their_text():
    rows = cells("a,b\n" + '"x,"y"z\n' * 20_000)
    assert len(rows) == 20_001 and rows[1] == ['"x', '"y"z']
