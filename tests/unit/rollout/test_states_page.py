"""docs/spec/rollout-states.md shows the table that the code runs; run this module to write the page."""

from pathlib import Path

from perennial.domain.rollout.state import diagram

PAGE = Path(__file__).parents[3] / "docs" / "spec" / "rollout-states.md"
HEAD = """# States of a rollout

Generated from the table in `operator/perennial/domain/rollout/state.py`; a test compares them.
Refresh with `python -m tests.unit.rollout.test_states_page`.

"""


def test_the_page_shows_the_table() -> None:
    assert PAGE.read_text() == HEAD + diagram()


if __name__ == "__main__":
    PAGE.write_text(HEAD + diagram())
