"""Files of every kind: content, names, owners, metadata, watching."""

import io

import pytest
from daemon import wait_for
from e2b import FileType, FilesystemEventType, SandboxException
from sdk import UPLOADS, FileNotFoundException, WriteEntry, newer, write_files

NAMES = ["plain.txt", "with space.txt", "grün-🐚.txt", 'quo"te.txt', "per%20cent.txt", "semi;colon.txt", "new\nline.txt", "-dash", "a" * 255]


def test_write_then_read(shared):
    info = shared.files.write("note.txt", "héllo")
    assert (info.path, info.name) == ("/home/user/note.txt", "note.txt")
    assert shared.files.read("note.txt") == "héllo"
    assert bytes(shared.files.read("note.txt", format="bytes")) == "héllo".encode()
    assert b"".join(shared.files.read("note.txt", format="stream")) == "héllo".encode()
    shared.files.write("note.txt", "hi")
    assert shared.files.read("/home/user/note.txt") == "hi"


@newer
def test_compressed_downloads(shared):
    for content in ("", "héllo"):
        shared.files.write("zipped", content)
        assert shared.files.read("zipped", gzip=True) == content


@pytest.mark.parametrize("name", NAMES)
def test_every_name_keeps_its_content(shared, name):
    for options in UPLOADS:
        shared.files.write(f"names/{name}", f"{name} {options}", **options)
        assert shared.files.read(f"names/{name}") == f"{name} {options}"
    assert name in [e.name for e in shared.files.list("names")]
    assert shared.files.get_info(f"names/{name}").size == len(f"{name} {UPLOADS[-1]}".encode())
    shared.files.remove(f"names/{name}")
    assert not shared.files.exists(f"names/{name}")


def test_empty_and_special_files(shared):
    shared.files.write("empty", "")
    assert shared.files.read("empty") == ""
    assert bytes(shared.files.read("empty", format="bytes")) == b""
    assert len(shared.files.read("/proc/sys/kernel/random/boot_id").strip()) == 36
    assert shared.files.read("/proc/self/status").startswith("Name:")
    shared.files.write("broken", b"a" * 8191 + b"\xc3")
    assert shared.files.read("broken").count("\ufffd") == 1


def test_large_files_both_ways(shared):
    data = bytes(range(256)) * 4096 * 40
    for options in UPLOADS:
        shared.files.write("big", data, **options)
        assert bytes(shared.files.read("big", format="bytes")) == data
    shared.files.write("big", io.BytesIO(data))
    assert shared.commands.run("stat -c %s big").stdout == f"{len(data)}\n"
    assert b"".join(shared.files.read("big", format="stream")) == data


def test_many_files_in_one_request(shared):
    entries = [WriteEntry(path=f"many/d{i % 3}/f{i}", data=f"{i}") for i in range(30)]
    written = write_files(shared, entries)
    assert [w.path for w in written] == [f"/home/user/many/d{i % 3}/f{i}" for i in range(30)]
    assert shared.files.read("many/d2/f29") == "29"


def test_owners_and_modes(shared):
    shared.files.write("mine/file", "x")
    info = shared.files.get_info("mine/file")
    assert (info.owner, info.group, info.permissions, info.mode, info.type) == ("user", "user", "-rw-r--r--", 0o644, FileType.FILE)
    folder = shared.files.get_info("mine")
    assert (folder.owner, folder.permissions, folder.type) == ("user", "drwxr-xr-x", FileType.DIR)
    shared.files.write("of-root", "x", "root")
    assert shared.files.get_info("/root/of-root").owner == "root"
    assert shared.files.get_info("/tmp").permissions == "dtrwxrwxrwx"


def test_directories(shared):
    assert shared.files.make_dir("tree/a/b") is True
    assert shared.files.make_dir("tree/a/b") is False
    for path in ("tree/z", "tree/B", "tree/a/b/deep", "tree/a/x"):
        shared.files.write(path, path)
    assert [e.name for e in shared.files.list("tree")] == ["B", "a", "z"]
    deep = [e.path.removeprefix("/home/user/tree/") for e in shared.files.list("tree", depth=3)]
    assert deep == ["B", "a", "a/b", "a/b/deep", "a/x", "z"]
    moved = shared.files.rename("tree/a", "elsewhere/a")
    assert moved.path == "/home/user/elsewhere/a"
    assert shared.files.read("elsewhere/a/b/deep") == "tree/a/b/deep"
    shared.files.remove("elsewhere")
    assert not shared.files.exists("elsewhere/a/b/deep")


def test_links(shared):
    shared.commands.run("mkdir -p links && cd links && echo x > target && ln -s target link && ln -s nowhere broken && ln -s . here")
    info = shared.files.get_info("links/link")
    assert info.symlink_target == "/home/user/links/target" and info.permissions.startswith("L")
    assert shared.files.read("links/link") == "x\n"
    assert {e.name for e in shared.files.list("links")} >= {"target", "link", "here"}
    shared.files.remove("links/link")
    assert shared.files.exists("links/target")


def test_missing_things(shared):
    for call in (shared.files.read, shared.files.get_info, shared.files.list, shared.files.watch_dir):
        with pytest.raises(FileNotFoundException):
            call("not/here")
    with pytest.raises(FileNotFoundException):
        shared.files.rename("not/here", "there")
    shared.files.remove("not/here")
    assert shared.files.exists("not/here") is False
    shared.files.write("a-file", "x")
    with pytest.raises(SandboxException):
        shared.files.list("a-file")
    with pytest.raises(SandboxException):
        shared.files.watch_dir("a-file")
    with pytest.raises(SandboxException):
        shared.files.read("/tmp")


@newer
def test_metadata_stays_with_the_file(shared):
    written = shared.files.write("tagged", "x", metadata={"Origin": "test", "n": "1"})
    assert written.metadata == {"origin": "test", "n": "1"}
    assert shared.files.get_info("tagged").metadata == {"origin": "test", "n": "1"}
    shared.files.rename("tagged", "tagged-2")
    assert shared.files.get_info("tagged-2").metadata == {"origin": "test", "n": "1"}
    shared.files.write("tagged-2", "y")
    assert not shared.files.get_info("tagged-2").metadata


def seen_by(watch, wanted):
    events = []

    def check():
        events.extend(watch.get_new_events())
        return [e for e in events if wanted(e)]

    return wait_for(check, 20, "the event")


def test_watching(shared):
    shared.files.make_dir("watched/sub")
    watch = shared.files.watch_dir("watched")
    shared.files.write("watched/file", "x")
    seen_by(watch, lambda e: e.type == FilesystemEventType.WRITE and e.name == "file")
    shared.files.rename("watched/file", "watched/other")
    seen_by(watch, lambda e: e.type == FilesystemEventType.RENAME and e.name == "file")
    shared.files.remove("watched/other")
    seen_by(watch, lambda e: e.type == FilesystemEventType.REMOVE and e.name == "other")
    shared.files.write("watched/sub/hidden", "x")
    shared.files.write("watched/last", "x")
    seen_by(watch, lambda e: e.name == "last")
    assert not any("hidden" in e.name for e in watch.get_new_events())
    watch.stop()


def test_watching_a_tree(shared):
    shared.files.make_dir("forest/old")
    watch = shared.files.watch_dir("forest", recursive=True)
    shared.files.write("forest/old/leaf", "x")
    seen_by(watch, lambda e: e.type == FilesystemEventType.WRITE and e.name == "old/leaf")
    shared.commands.run("mkdir -p forest/new/deeper && echo x > forest/new/deeper/leaf")
    seen_by(watch, lambda e: e.name == "new/deeper/leaf")
    watch.stop()


@newer
def test_events_bring_their_entries(shared):
    shared.files.make_dir("entries")
    watch = shared.files.watch_dir("entries", include_entry=True)
    shared.files.write("entries/leaf", "x")
    event = seen_by(watch, lambda e: e.type == FilesystemEventType.WRITE and e.name == "leaf")[0]
    assert event.entry and event.entry.path == "/home/user/entries/leaf"
    watch.stop()
