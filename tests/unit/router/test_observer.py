"""What the access-log service makes of entries that a client shaped: never an error, which would lose the batch."""

from typing import Any

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from perennial.router.model import Deployment, Share, Snapshot, WindowSpec
from perennial.router.observer import METADATA, Observer

NOW = 1_000_000.0
WINDOW = WindowSpec(60, 0)


def observer() -> Observer:
    made = Observer()
    served = Deployment(
        "rain",
        traffic=(Share("aaaaaaaa", 100),),
        stable="aaaaaaaa",
        versions={"aaaaaaaa": "rain-r1"},
        windows=(WINDOW,),
    )
    made.follow(Snapshot("default", (served,), baselines={"rain-r1": None}))
    return made


def entry(**noted: str) -> Any:
    made = HTTPAccessLogEntry()
    made.common_properties.upstream_cluster = "rain-rev-aaaaaaaa"
    made.common_properties.start_time.seconds = int(NOW)
    made.response.response_code.value = 200
    for key, value in noted.items():
        made.common_properties.metadata.filter_metadata[METADATA].fields[key].string_value = value
    return made


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1.5", ""])
def test_a_length_that_no_body_has_is_unparsed_and_loses_no_other_entry(length: str) -> None:
    counted = observer()
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.extend([entry(q="e30=", qh=length), entry(q="e30=")])
    counted.consume(message, NOW)
    counts = counted.counts["rain"]
    assert counts.revisions["aaaaaaaa"].logged == 2
    assert [w["unparsed"] for w in counts.series[WINDOW].to_json(NOW)] == [2]
