"""Before the loop starts: the bucket, and the labelled data of the years 0 to 9."""

import sys

import rain
import store


def main() -> int:
    """Make the bucket and upload the first decade."""
    store.make_bucket()
    store.upload_labels(rain.load(store.DATA), 9)
    print("uploaded the labelled years 0-9", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
