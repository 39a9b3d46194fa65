"""A model's files belong together: they change as one, and a file of another model is found."""

import json
import os
import shutil
import threading

import pytest

from minigpt_tf.errors import ModelFolderError
from minigpt_tf.storage import manifest, replacing
from minigpt_tf.storage.manifest import check_file, commit, describe_file, files_of, settle
from minigpt_tf.storage.replacing import exchange, replaced_file, replaced_folder, staging
from minigpt_tf.storage.scratch import scratch_folder, scratches, sweep
from tests.storage.killed import killed_before

OLD = {"config.json": "old", "model.h5": "old", "tokenizer.pkl": "old", "LICENSE": "old"}
NEW = {"config.json": "new", "model.h5": "new", "tokenizer.json": "new"}


def write(folder, files):
    for name, text in files.items():
        text = json.dumps({"name": text}) if name == "config.json" else f"{text} {name}" * 9
        (folder / name).write_text(text)


def save(folder, files):
    """As a model is saved. What the old one has beside its files is obsolete by name."""
    with staging(folder, lambda *paths: commit(*paths, {"old.int8", "checkpoint"})) as scratch:
        write(scratch, files)


def found(folder):
    """The names of a folder's files, and the word that each begins with."""
    names = {file.name: file for file in folder.iterdir() if file.name != "notes.txt"}
    words = {name: file.read_text().split()[0] for name, file in names.items() if file.is_file()}
    if "config.json" in words:
        words["config.json"] = json.loads((folder / "config.json").read_text())["name"]
    return words


@pytest.fixture
def old(tmp_path):
    """A folder with a model, a file made from it, a checkpoint and a file of the user's."""
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder, OLD)
    (folder / "old.int8").write_text("old")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "run.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_a_save_that_is_killed_at_any_change_leaves_the_old_or_the_new_model(old, tmp_path):
    seen = []
    for count in range(1000):
        folder = shutil.copytree(old, tmp_path / str(count))
        killed = killed_before(count, lambda: save(folder, NEW))  # noqa: B023
        settle(folder)
        assert not scratches(folder) and (folder / "notes.txt").read_text() == "mine"
        kept = (folder / "checkpoint" / "run.json").is_file()
        words = found(folder)
        assert words == (OLD | {"old.int8": "old"} if kept else NEW), count
        seen.append(kept)
        if not killed:
            break
    assert not killed and seen == sorted(seen, reverse=True)  # first the old, then the new
    assert seen.count(True) > 5 and seen.count(False) > 5


def test_settling_that_is_killed_at_any_change_can_be_repeated(old, tmp_path):
    def begun(folder):
        """A new model of which only config.json is in place."""
        with (
            pytest.raises(ModelFolderError, match="could not be put in place"),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(manifest, "_finish", fail)
            save(folder, NEW)

    def fail(*_):
        raise OSError(5, "Input/output error")

    begun(old)
    assert found(old)["config.json"] == "new" and found(old)["model.h5"] == "old"
    for count in range(1000):
        folder = shutil.copytree(old, tmp_path / str(count))
        killed = killed_before(count, lambda: settle(folder))  # noqa: B023
        settle(folder)
        assert found(folder) == NEW and not scratches(folder), count
        if not killed:
            break
    assert not killed and count > 5


def test_readers_beside_a_save_see_one_model(old):
    """As `load_folder` reads: config.json first, and once more at the end."""
    ended, mixtures, readings = threading.Event(), [], 0

    def replace():
        for count in range(30):
            save(old, {"config.json": str(count), "model.h5": str(count), "a": str(count)})
        ended.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not ended.is_set() or readings < 3:
        first = (old / "config.json").read_bytes()
        settle(old)
        try:
            texts = [(old / name).read_text() for name in ("model.h5", "a")]
        except FileNotFoundError:
            continue
        if (old / "config.json").read_bytes() == first:
            readings += 1
            words = {text.split()[0] for text in texts}
            if words != {json.loads(first)["name"]}:
                mixtures.append(words)
    thread.join()
    assert not mixtures and readings >= 3


def test_a_file_of_another_model_is_found_and_a_copy_is_not(old, tmp_path):
    copy = shutil.copytree(old, tmp_path / "copy")
    for folder in (old, copy):
        files = files_of(json.loads((folder / "config.json").read_text()), "")
        assert set(files) == set(OLD) - {"config.json"}
        for name in files:
            check_file(folder / name, files)
    (copy / "model.h5").write_text("new model.h5" * 9)
    with pytest.raises(ModelFolderError, match=r"model.h5: is damaged or of another model"):
        check_file(copy / "model.h5", files)
    check_file(copy / "missing", files | {"missing": files["LICENSE"]})
    check_file(copy / "model.h5", None)  # a folder of an earlier version
    for wrong in ([], {"a": 1}, {"a": {"size": 1}}, {"a": {"size": 1, "sha256": 1}}):
        with pytest.raises(ModelFolderError, match=r"here: files=.*expected sizes and hashes"):
            files_of({"files": wrong}, "here")


def test_of_a_large_file_a_sample_is_compared(tmp_path):
    file, size = tmp_path / "large", 3_000_001
    file.write_bytes(bytes(size))
    noted = {"large": describe_file(file)}
    with pytest.MonkeyPatch.context() as patch:  # the whole is not read
        patch.setattr(manifest, "sha256_of", None)
        check_file(file, noted)
        for place in (0, size - 1, size // 2):
            content = bytearray(size)
            first = max(0, place - 1024)
            content[first : place + 50_000] = b"x" * (place + 50_000 - first)
            file.write_bytes(content[:size])
            with pytest.raises(ModelFolderError, match="of another model"):
                check_file(file, noted)
    content = bytearray(size)
    content[6000] = 1  # between two blocks of the sample
    file.write_bytes(content)
    check_file(file, noted)
    with pytest.raises(ModelFolderError, match="of another model"):
        check_file(file, noted, whole=True)


def test_a_journal_from_anyone_leads_nowhere_else(tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "outside"
    scratch = folder / ".saving-12345678"
    scratch.mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").write_text("kept")
    names = ["../outside", str(outside), "..", ".", "", 3, "../outside/kept"]
    files = {str(name): {"size": 1, "sha256": ""} for name in names}
    (folder / "config.json").write_text(json.dumps({"files": files}))
    (scratch / "journal.json").write_text(json.dumps({"files": files, "obsolete": names}))
    settle(folder)
    assert (outside / "kept").read_text() == "kept" and not scratch.exists()
    (folder / ".saving-abcdefgh").symlink_to(outside)
    settle(folder)
    assert (outside / "kept").read_text() == "kept"


def test_scratch_of_a_living_process_stays_and_of_a_dead_one_goes(tmp_path):
    read, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        with scratch_folder(tmp_path):
            os.write(write_end, b"x")
            threading.Event().wait()
    os.read(read, 1)
    (left,) = scratches(tmp_path)
    (tmp_path / ".saving-abcdefgh.png").write_text("of a dead one")
    with scratch_folder(tmp_path) as own:
        sweep(tmp_path)
        assert set(scratches(tmp_path)) == {left, own}
    os.kill(process, 9)
    os.waitpid(process, 0)
    with replaced_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
        assert scratches(tmp_path) == [scratch]
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_for_other_tools_is_exchanged_at_once(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.json"):
        (folder / name).write_text("old")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("mine")

    def write_new():
        with replaced_folder(folder, lambda name: name == "vocab.json") as scratch:
            for name in ("config.json", "model.safetensors"):
                (scratch / name).write_text("new")

    def words():
        return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}

    before = words()
    for count in range(1000):
        killed = killed_before(count, write_new)
        assert words() in (before, {"config.json": "new", "model.safetensors": "new"})
        assert (folder / ".git" / "HEAD").read_text() == "mine"
        if not killed:
            break
    assert not killed and count > 5 and "vocab.json" not in words()
    sweep(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~replacing._mask()
    monkeypatch.setattr(os.path, "ismount", lambda path: True)  # cannot be exchanged
    (folder / "vocab.json").write_text("old")
    write_new()
    assert words() == {"config.json": "new", "model.safetensors": "new"}
    assert (folder / ".git" / "HEAD").read_text() == "mine"


@pytest.mark.parametrize("system", [True, False])
def test_two_folders_are_exchanged(tmp_path, system, monkeypatch):
    if not system:
        monkeypatch.setattr(replacing, "_exchange_by_system", lambda *paths: False)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "other").exists() and (tmp_path / "other" / "one").exists()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "absent", tmp_path / "other")
    assert (tmp_path / "other" / "one").exists()
