"""The people and clients of the short loop, in the operator's image (Python, aiohttp and s3fs are all it needs).

sender.py data MEAN FOLDER       upload Train and Evaluate rows with that mean, LATEST last
sender.py artifact FAIL_SHARE    upload a model by hand; prints its facts as JSON
sender.py send                   requests at a steady rate until killed: two windows of mean 0, then mean 1.5
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import time

import aiohttp
import s3fs

BUCKET = "loop"
WINDOW = int(os.environ.get("WINDOW", "6"))
RATE = float(os.environ.get("RATE", "80"))
SHIFT = 1.5


def store() -> s3fs.S3FileSystem:
    """The artifact store."""
    return s3fs.S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    )


def data(mean: float, folder: str) -> None:
    """Two data sets around a mean: the same bytes for the same arguments."""
    files = store()
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    chance = random.Random(folder)
    for name, count in (("train", 2000), ("eval", 400)):
        table = "x\n" + "".join(f"{chance.gauss(mean, 1)!r}\n" for _ in range(count))
        files.pipe(f"{BUCKET}/{name}/{folder}/data.csv", table.encode())
    for name in ("train", "eval"):
        files.pipe(f"{BUCKET}/{name}/LATEST", folder.encode())


def artifact(fail_share: float, **more: object) -> None:
    """A model that fails for a share of its requests; more: what else trivial.py reads from its file."""
    content = json.dumps({"mean": SHIFT, "failShare": fail_share, **more}).encode()
    listing = f"{hashlib.sha256(content).hexdigest()}  model.json\n".encode()
    digest = hashlib.sha256(listing).hexdigest()
    place = f"{BUCKET}/models/loop/sha256-{digest}"
    store().pipe(f"{place}/model.json", content)
    facts = {"uri": f"s3://{place}/", "digest": f"sha256:{digest}", "sizeBytes": len(content), "format": "trivial"}
    print(json.dumps(facts), flush=True)


async def send() -> None:
    """Requests at RATE a second; the mean shifts after two whole windows, when new labels are uploaded."""
    chance = random.Random(7)
    started = (int(time.time()) // WINDOW + 1) * WINDOW
    shift_at = started + 2 * WINDOW
    uploaded = False
    tasks: set[asyncio.Task[None]] = set()
    counts = {"sent": 0, "failed": 0}
    due = time.time()
    told = 0.0
    async with aiohttp.ClientSession() as session:
        while True:
            due = max(due + 1 / RATE, time.time() - 1)
            await asyncio.sleep(max(0.0, due - time.time()))
            shifted = time.time() >= shift_at
            if shifted and not uploaded:
                uploaded = True
                await asyncio.get_running_loop().run_in_executor(None, data, SHIFT, "second")
            tasks.add(task := asyncio.create_task(one(session, chance.gauss(SHIFT if shifted else 0, 1), counts)))
            task.add_done_callback(tasks.discard)
            if time.time() - told > 1:
                told = time.time()
                print(json.dumps({"time": told, **counts}), flush=True)


async def one(session: aiohttp.ClientSession, value: float, counts: dict[str, int]) -> None:
    """One request; a failure that no model answered is counted apart by status."""
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}]}
    counts["sent"] += 1
    try:
        async with session.post("http://loop/v2/models/loop/infer", json=body) as answer:
            await answer.read()
            who = answer.headers.get("x-perennial-revision", "none")
            what = "" if answer.status == 200 else f"{who} {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        what = f"none {type(error).__name__}"
    if what:
        counts["failed"] += 1
        counts[what] = counts.get(what, 0) + 1


def main() -> int:
    """Run the verb."""
    verb = sys.argv[1]
    if verb == "data":
        data(float(sys.argv[2]), sys.argv[3])
    elif verb == "artifact":
        artifact(float(sys.argv[2]))
    else:
        asyncio.run(send())
    return 0


if __name__ == "__main__":
    sys.exit(main())
