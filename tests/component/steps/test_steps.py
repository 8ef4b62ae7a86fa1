"""The steps as containers run them: input in PERENNIAL_STEP, answer in log, termination message and exit code."""

import csv
import io
import json
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import s3fs

from perennial.domain.drift.baseline import parse_baseline
from perennial.domain.errors import Stalled
from perennial.domain.training.failure import RANKS_MISSING
from perennial.domain.training.record import digest_of, find_line, parse_record, parse_resolution, parse_summary
from perennial.steps import digest
from perennial.steps.main import run_step
from perennial.steps.reference import Table
from perennial.steps.samples import draw
from tests.component.steps.conftest import Result, Store
from tests.support.ports import free_port


def sums(files: Mapping[str, bytes]) -> str:
    lines = sorted((name.encode(), sha256(data).hexdigest()) for name, data in files.items())
    return "sha256:" + sha256(b"".join(s.encode() + b"  " + n + b"\n" for n, s in lines)).hexdigest()


FILES = {"a.csv": b"1,2\n", "deep/b.csv": b"3,4\n", "B.csv": b""}


def fill(store: Store, prefix: str, files: Mapping[str, bytes] = FILES) -> str:
    for name, data in files.items():
        store.put(prefix + name, data)
    return store.uri + prefix


def item(uri: str, target: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "dataset", "name": "train", "uri": uri, "path": str(target), "moving": True, **more}


def fetch_input(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"items": list(items), **more}


def resolved(result: Result) -> list[Mapping[str, Any]]:
    line = find_line(result.log, json.loads(result.message)["record"])
    assert line is not None
    return list(parse_resolution(line))


def test_a_prefix_is_fetched_and_its_digest_is_that_of_its_sorted_listing(
    store: Store, step: Any, tmp_path: Path
) -> None:
    uri = fill(store, "train/")
    store.put("training/other.csv", b"not ours")
    result = step("fetch", fetch_input(item(uri, tmp_path / "in", digest=sums(FILES))), store.environ)
    assert result.code == 0, result.message
    found = {
        p.relative_to(tmp_path / "in").as_posix(): p.read_bytes() for p in (tmp_path / "in").rglob("*") if p.is_file()
    }
    assert found == FILES
    assert resolved(result) == [{"name": "train", "uri": uri, "digest": sums(FILES), "sizeBytes": 8}]


def test_a_single_files_digest_is_that_of_its_bytes(store: Store, step: Any, tmp_path: Path) -> None:
    uri = store.put("one/data.csv", b"x\n1\n")
    result = step("fetch", fetch_input(item(uri, tmp_path / "in")), store.environ)
    assert result.code == 0, result.message
    assert (tmp_path / "in" / "data.csv").read_bytes() == b"x\n1\n"
    assert resolved(result)[0]["digest"] == "sha256:" + sha256(b"x\n1\n").hexdigest()


def test_latest_names_the_prefix_that_is_meant(store: Store, step: Any, tmp_path: Path) -> None:
    fill(store, "labels/2026-01/", {"a.csv": b"old"})
    fill(store, "labels/2026-02/", {"a.csv": b"new"})
    store.put("labels/LATEST", b"2026-02/\n")
    result = step("fetch", fetch_input(item(store.uri + "labels/", tmp_path / "in")), store.environ)
    assert result.code == 0, result.message
    assert (tmp_path / "in" / "a.csv").read_bytes() == b"new"
    assert resolved(result)[0]["uri"] == store.uri + "labels/2026-02/"
    probe = step("digest", {"datasets": [{"name": "train", "uri": store.uri + "labels/"}]}, store.environ)
    assert json.loads(probe.message)["datasets"] == resolved(result)


@pytest.mark.parametrize("text", [b"../other/", b"", b"a\nb", b"s3://elsewhere/x/"])
def test_a_latest_that_leads_elsewhere_is_refused(store: Store, step: Any, tmp_path: Path, text: bytes) -> None:
    fill(store, "labels/1/", {"a.csv": b"x"})
    store.put("labels/LATEST", text or b" ")
    result = step("fetch", fetch_input(item(store.uri + "labels/", tmp_path / "in")), store.environ)
    assert result.code == 65
    assert "LATEST" in result.message


def test_a_wrong_digest_ends_with_65_and_names_both(store: Store, step: Any, tmp_path: Path) -> None:
    uri, wanted = fill(store, "train/"), "sha256:" + "0" * 64
    result = step("fetch", fetch_input(item(uri, tmp_path / "in", digest=wanted)), store.environ)
    assert result.code == 65
    assert wanted in result.message
    assert sums(FILES) in result.message


def test_a_dataset_that_is_missing_ends_with_65_and_names_its_address(store: Store, step: Any, tmp_path: Path) -> None:
    store.put("x", b"the bucket is there")
    for uri in (store.uri + "absent/", store.uri + "absent.csv"):
        result = step("fetch", fetch_input(item(uri, tmp_path / "in")), store.environ)
        assert result.code == 65, result.message
        assert uri in result.message
        assert "there is nothing at that address" in result.message


def test_a_missing_champion_is_noted_and_does_not_fail_the_step(store: Store, step: Any, tmp_path: Path) -> None:
    uri = fill(store, "train/")
    champion = {
        "kind": "champion",
        "name": "champion",
        "uri": store.uri + "gone/",
        "path": str(tmp_path / "champion"),
        "optional": True,
    }
    result = step("fetch", fetch_input(item(uri, tmp_path / "in"), champion), store.environ)
    assert result.code == 0, result.message
    assert "there is nothing" in (tmp_path / "champion.failed").read_text()


def test_a_restarted_fetch_starts_from_an_empty_folder(store: Store, step: Any, tmp_path: Path) -> None:
    uri = fill(store, "train/")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "half.csv").write_text("left by a killed container")
    result = step("fetch", fetch_input(item(uri, tmp_path / "in", digest=sums(FILES))), store.environ)
    assert result.code == 0, result.message
    assert not (tmp_path / "in" / "half.csv").exists()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/x", "ftp:// is not supported"),
        ("train", "no store address"),
        ("file:///proc/self/environ", "file:// is not supported"),
        ("pvc://absent/x/", "is not mounted"),
        ("s3://bucket/../x", "may not contain"),
    ],
)
def test_an_address_that_is_not_allowed_ends_with_78(step: Any, tmp_path: Path, uri: str, words: str) -> None:
    result = step("fetch", fetch_input(item(uri, tmp_path / "in")))
    assert result.code == 78
    assert words in result.message


def test_a_claim_is_read_where_it_is_mounted_and_nowhere_else(step: Any, tmp_path: Path) -> None:
    claim = tmp_path / "claims" / "data"
    (claim / "train").mkdir(parents=True)
    (claim / "train" / "a.csv").write_bytes(b"1")
    (claim / "out").symlink_to("/etc")
    more = {"claims": str(tmp_path / "claims")}
    good = step("fetch", fetch_input(item("pvc://data/train/", tmp_path / "in"), **more))
    assert good.code == 0, good.message
    assert (tmp_path / "in" / "a.csv").read_bytes() == b"1"
    for bad in ("pvc://data/../other/", "pvc://data/out/"):
        assert step("fetch", fetch_input(item(bad, tmp_path / "in"), **more)).code == 78


def test_links_in_a_claim_are_refused(step: Any, tmp_path: Path) -> None:
    claim = tmp_path / "claims" / "data" / "train"
    claim.mkdir(parents=True)
    (claim / "environ").symlink_to("/proc/self/environ")
    result = step("fetch", fetch_input(item("pvc://data/train/", tmp_path / "in"), claims=str(tmp_path / "claims")))
    assert result.code == 65
    assert "environ is a link" in result.message


def test_a_store_that_does_not_answer_ends_with_75(step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    environ = {
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
    }
    result = step("fetch", fetch_input(item("s3://bucket/train/", tmp_path / "in")), environ)
    assert result.code == 75
    assert "s3://bucket/train/" in result.message
    assert "check the store's address in spec.storage.secretRef" in result.message


def test_wrong_credentials_end_with_78_and_name_the_field(s3: Any, step: Any, tmp_path: Path) -> None:
    environ = {**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    result = step("fetch", fetch_input(item(f"s3://{s3.bucket}/train/", tmp_path / "in")), environ)
    assert result.code == 78, result.message
    assert "spec.storage.secretRef" in result.message
    assert "wrong" not in result.message


def test_people_get_the_same_digest_and_one_sentence_when_there_is_none(store: Store, tmp_path: Path) -> None:
    uri = fill(store, "train/")
    for name, data in FILES.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(data)
    assert digest.digest_of(uri, store.environ) == digest.digest_of(str(tmp_path / "copy"), {}) == (sums(FILES), 8)
    for absent in (store.uri + "absent/", str(tmp_path / "absent")):
        with pytest.raises(Stalled, match="there is nothing at that address"):
            digest.digest_of(absent, store.environ)


def test_input_that_is_no_json_ends_with_64(step: Any) -> None:
    assert step("fetch", "nonsense").code == 64
    assert step("dance", "{}").code == 64


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server with one file."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "stations.csv").write_bytes(b"a,b\n1,2\n")
    serve = partial(QuietFiles, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_file_of_the_web_is_read_and_nothing_can_be_written_there(step: Any, tmp_path: Path, web: str) -> None:
    pinned = "sha256:" + sha256(b"a,b\n1,2\n").hexdigest()
    good = step("fetch", fetch_input(item(web + "stations.csv", tmp_path / "in", digest=pinned)))
    assert good.code == 0, good.message
    assert (tmp_path / "in" / "stations.csv").read_bytes() == b"a,b\n1,2\n"
    probe = step("digest", {"datasets": [{"name": "s", "uri": web + "stations.csv"}]})
    assert json.loads(probe.message)["datasets"][0]["digest"] == pinned
    absent = step("fetch", fetch_input(item(web + "absent.csv", tmp_path / "in")))
    assert absent.code == 65, absent.message
    given = publish_input(Store(web, {}), output_folder(tmp_path), tmp_path)
    refused = step("publish", given)
    assert refused.code == 78
    assert "http" in refused.message


# --- publish --------------------------------------------------------------------------------------------------------


def output_folder(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    named = {"model.bin": "weights", "sub/config.json": "{}", **files}
    for name, text in named.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


MODEL = {"model.bin": b"weights", "sub/config.json": b"{}"}


def publish_input(store: Store, folder: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    (tmp_path / "resolved.json").write_text(
        json.dumps({"datasets": [{"name": "train", "uri": "s3://b/t/", "digest": sums(FILES), "sizeBytes": 8}]})
    )
    return {
        "version": "rain-r00000001",
        "model": "rain",
        "maker": "1a2b3c4d",
        "attempt": 1,
        "format": "sklearn",
        "output": store.uri,
        "source": str(folder),
        "resolution": str(tmp_path / "resolved.json"),
        **more,
    }


def the_record(result: Result, store: Store) -> Any:
    summary = parse_summary(result.message)
    line = find_line(result.log, summary.record_digest)
    assert line is not None
    return parse_record(line, output_uri=store.uri)


def test_publish_uploads_the_model_without_its_control_files(store: Store, step: Any, tmp_path: Path) -> None:
    folder = output_folder(tmp_path, metrics__json='{"log_loss": 0.42, "n": 3}', reference__csv="a,b\n1,x\n2,y\n")
    result = step("publish", publish_input(store, folder, tmp_path), store.environ)
    assert result.code == 0, result.message
    record = the_record(result, store)
    place = f"rain/{sums(MODEL).replace(':', '-')}/"
    assert record.artifact == {"uri": store.uri + place, "digest": sums(MODEL), "sizeBytes": 9, "format": "sklearn"}
    assert record.metrics == {"log_loss": "0.42", "n": "3"}
    assert record.datasets[0]["name"] == "train"
    assert store.names() == [
        "rain/records/rain-r00000001-1a2b3c4d-1.json",
        str(record.samples["uri"]).removeprefix(store.uri),
        place + "model.bin",
        place + "sub/config.json",
    ]
    assert digest_of(store.read("rain/records/rain-r00000001-1a2b3c4d-1.json").decode()) == record.digest
    back = step("fetch", fetch_input(item(store.uri + place, tmp_path / "back", digest=sums(MODEL))), store.environ)
    assert back.code == 0, back.message


def test_publishing_again_changes_nothing(store: Store, step: Any, tmp_path: Path) -> None:
    folder = output_folder(tmp_path)
    first = step("publish", publish_input(store, folder, tmp_path), store.environ)
    names = store.names()
    again = step("publish", publish_input(store, folder, tmp_path), store.environ)
    assert again.code == 0, again.message
    assert again.message == first.message
    assert store.names() == names


def test_another_record_under_the_same_name_is_refused(store: Store, step: Any, tmp_path: Path) -> None:
    folder = output_folder(tmp_path)
    assert step("publish", publish_input(store, folder, tmp_path), store.environ).code == 0
    (folder / "model.bin").write_text("other weights")
    result = step("publish", publish_input(store, folder, tmp_path), store.environ)
    assert result.code == 78
    assert "something else is already there" in result.message


def test_a_training_job_that_was_made_anew_does_not_meet_the_records_of_the_one_before(
    store: Store, step: Any, tmp_path: Path
) -> None:
    folder = output_folder(tmp_path)
    assert step("publish", publish_input(store, folder, tmp_path), store.environ).code == 0
    (folder / "model.bin").write_text("other weights")
    anew = publish_input(store, folder, tmp_path, maker="5e6f7a8b")
    assert step("publish", anew, store.environ).code == 0
    reported = step("report", {**anew, "record": None}, store.environ)
    assert the_record(reported, store).artifact["digest"] != sums(MODEL)


def test_report_prints_the_record_again(store: Store, step: Any, tmp_path: Path) -> None:
    published = step("publish", publish_input(store, output_folder(tmp_path), tmp_path), store.environ)
    given = {"output": store.uri, "model": "rain", "version": "rain-r00000001", "maker": "1a2b3c4d", "attempt": 1}
    reported = step("report", given, store.environ)
    assert reported.code == 0, reported.message
    assert reported.message == published.message
    assert the_record(reported, store) == the_record(published, store)
    assert step("report", {**given, "attempt": 2}, store.environ).code == 65


def test_a_model_folder_that_is_empty_is_refused(local: Store, step: Any, tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 65
    assert "wrote no model" in result.message
    assert local.names() == []


def test_links_in_the_model_are_refused(local: Store, step: Any, tmp_path: Path) -> None:
    folder = output_folder(tmp_path)
    (folder / "stolen").symlink_to("/proc/self/environ")
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 65
    assert "stolen is a link" in result.message
    assert local.names() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "no object"),
        ("{", "no JSON"),
        ('{"auc": NaN}', "auc is not a finite decimal"),
        ('{"auc": "0.5x"}', "auc is not a finite decimal"),
        ('{"auc": null}', "auc is not a finite decimal"),
        ('{"bad name": 1}', "not allowed"),
    ],
)
def test_metrics_that_cannot_be_used_are_refused(
    local: Store, step: Any, tmp_path: Path, text: str, words: str
) -> None:
    folder = output_folder(tmp_path, metrics__json=text)
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 65
    assert words in result.message


def test_the_baseline_holds_features_prediction_and_noise(local: Store, step: Any, tmp_path: Path) -> None:
    rows = ["humidity,sky,secret,prediction,served_prediction,block"]
    rows += [f"{i % 97},{'clear' if i % 3 else 'cloud'},{i},{(i % 50) / 50},0.5,{i // 200}" for i in range(1000)]
    rows.append(",,,,,4")
    folder = output_folder(tmp_path, reference__csv="\n".join(rows) + "\n", baseline__exclude="secret\n")
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 0, result.message
    baseline = parse_baseline(the_record(result, local).baseline)
    assert baseline.rows == 1001
    assert [(f.name, f.kind, f.null_count) for f in baseline.features] == [
        ("humidity", "Numeric", 1),
        ("sky", "Categorical", 1),
    ]
    assert baseline.prediction is not None
    assert sum(baseline.prediction.counts) == 1000


def test_sample_inputs_are_whole_rows_drawn_by_the_artifacts_digest(local: Store, step: Any, tmp_path: Path) -> None:
    rows = ["sky,wind,block,prediction", *(f'"clear, {i}",{i}.5,2026,{"" if i % 2 else i / 1000}' for i in range(900))]
    rows += [",7,2026,0.1"] * 900
    folder = output_folder(tmp_path, reference__csv="\n".join(rows) + "\n", baseline__exclude="wind\n")
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 0, result.message
    told = the_record(result, local).samples
    text = local.read(str(told["uri"]).removeprefix(local.uri)).decode()
    found = list(csv.reader(io.StringIO(text)))
    assert told["digest"] == digest_of(text) and told["rows"] == len(found) - 1 == 256
    assert found[0] == ["sky", "wind", "prediction"]
    numbers = [int(row[0].removeprefix("clear, ")) for row in found[1:]]
    assert all(row[1:] == [f"{n}.5", "" if n % 2 else str(n / 1000)] for n, row in zip(numbers, found[1:], strict=True))
    assert len(set(numbers)) == 256 and min(numbers) < 50 and max(numbers) > 850
    again = draw(Table(["sky", "wind"], [["a", str(i)] for i in range(900)]), "sha256:1")
    assert again == draw(Table(["sky", "wind"], [["a", str(i)] for i in range(900)]), "sha256:1")
    assert again != draw(Table(["sky", "wind"], [["a", str(i)] for i in range(900)]), "sha256:2")


def test_sample_inputs_are_bounded_and_hold_what_the_model_itself_answers() -> None:
    wide = Table([f"feature_{i}" for i in range(200)], [["0.123456789"] * 200 for _ in range(300)])
    drawn = draw(wide, "d")
    assert drawn is not None and 250_000 < len(drawn[0]) <= 256 * 1024 and drawn[1] < 256
    assert draw(Table(["x", "prediction"], [["", "1"], ["NaN", "2"]]), "d") is None
    assert draw(Table(["prediction", "block"], [["1", "2"]]), "d") is None
    own = Table(["x", "served_prediction", "prediction"], [["1", "0.9", "0.4"]])
    assert draw(own, "d") == ("x,prediction\n1,0.9\n", 1)


def test_class_indices_are_a_categorical_prediction(local: Store, step: Any, tmp_path: Path) -> None:
    rows = ["x,prediction", *(f"{i},{i % 3}" for i in range(90))]
    folder = output_folder(tmp_path, reference__csv="\n".join(rows))
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    prediction = parse_baseline(the_record(result, local).baseline).prediction
    assert prediction is not None
    assert (prediction.kind, prediction.categories) == ("Categorical", ("0", "1", "2"))


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1\n", "row 2 has 1 values"), ("a,a\n1,2\n", "two columns of one name"), ("a\n", "at least one row")],
)
def test_reference_rows_that_cannot_be_used_are_refused(
    local: Store, step: Any, tmp_path: Path, text: str, words: str
) -> None:
    folder = output_folder(tmp_path, reference__csv=text)
    result = step("publish", publish_input(local, folder, tmp_path), local.environ)
    assert result.code == 65
    assert words in result.message


def evaluation(tmp_path: Path, code: str, metrics: str | None) -> dict[str, Any]:
    folder = tmp_path / "champion"
    folder.mkdir()
    (folder / "exit-code").write_text(code)
    if metrics is not None:
        (folder / "metrics.json").write_text(metrics)
    (tmp_path / "candidate.json").write_text('{"log_loss": 0.4}')
    return {
        "evaluated": str(tmp_path / "candidate.json"),
        "champion": {
            "metrics": str(folder / "metrics.json"),
            "exitCode": str(folder / "exit-code"),
            "failed": str(tmp_path / "champion.failed"),
        },
    }


def test_the_champions_metrics_are_recorded_beside_the_candidates(local: Store, step: Any, tmp_path: Path) -> None:
    more = evaluation(tmp_path, "0\n", '{"log_loss": 0.45}')
    record = the_record(
        step("publish", publish_input(local, output_folder(tmp_path), tmp_path, **more), local.environ), local
    )
    assert record.evaluated == {"log_loss": "0.4"}
    assert record.champion == {"log_loss": "0.45"}


@pytest.mark.parametrize(
    ("code", "metrics", "words"),
    [("3\n", None, "exit code 3 for the champion"), ("0\n", "{", "for the champion, evaluate wrote")],
)
def test_a_champion_that_cannot_be_evaluated_is_noted(
    local: Store, step: Any, tmp_path: Path, code: str, metrics: str | None, words: str
) -> None:
    more = evaluation(tmp_path, code, metrics)
    record = the_record(
        step("publish", publish_input(local, output_folder(tmp_path), tmp_path, **more), local.environ), local
    )
    assert record.champion is None
    assert words in record.champion_note


def test_a_champion_known_to_be_impossible_is_noted_in_its_words(local: Store, step: Any, tmp_path: Path) -> None:
    given = publish_input(local, output_folder(tmp_path), tmp_path, champion={"problem": "it ran out of memory"})
    record = the_record(step("publish", given, local.environ), local)
    assert (record.champion, record.champion_note) == (None, "it ran out of memory")


def test_only_rank_zero_publishes(local: Store, step: Any, tmp_path: Path) -> None:
    environ = {**local.environ, "JOB_COMPLETION_INDEX": "1"}
    result = step("publish", publish_input(local, output_folder(tmp_path), tmp_path), environ)
    assert (result.code, result.message) == (0, "")
    assert local.names() == []


def test_an_interrupted_local_upload_leaves_no_model(
    local: Store, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        result = step("publish", publish_input(local, output_folder(tmp_path), tmp_path), local.environ)
    assert result.code == 75
    assert local.names() == []


# --- ranks ----------------------------------------------------------------------------------------------------------


def barrier(rank: int, nodes: int, port: int, seconds: float = 10) -> dict[str, Any]:
    return {"rank": rank, "nodes": nodes, "address": "127.0.0.1", "port": port, "seconds": seconds}


def test_ranks_go_on_when_all_are_there(tmp_path: Path) -> None:
    port, codes = free_port(), {}

    def one(rank: int) -> None:
        environ = {
            "PERENNIAL_STEP": json.dumps({"items": [], "barrier": barrier(rank, 3, port)}),
            "PERENNIAL_TERMINATION_LOG": str(tmp_path / f"log-{rank}"),
        }
        codes[rank] = run_step("fetch", environ)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in (1, 2, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_do_not_meet_end_with_75_in_known_words(step: Any, rank: int) -> None:
    result = step("fetch", {"items": [], "barrier": barrier(rank, 2, free_port(), seconds=0.3)})
    assert result.code == 75
    assert result.message.startswith(RANKS_MISSING)
