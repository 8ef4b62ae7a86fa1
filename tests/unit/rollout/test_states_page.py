"""docs/spec/modeldeployment.md shows the table that the code runs; run this module to write that part of the page."""

from pathlib import Path

from perennial.domain.rollout.state import diagram

PAGE = Path(__file__).parents[3] / "docs" / "spec" / "modeldeployment.md"
BEGIN = (
    "<!-- generated from operator/perennial/domain/rollout/state.py: "
    "python -m tests.unit.rollout.test_states_page -->\n"
)
END = "<!-- end of what is generated -->\n"


def parts(text: str) -> tuple[str, str, str]:
    """The page before, between and after the two markers."""
    head, rest = text.split(BEGIN)
    generated, tail = rest.split(END)
    return head, generated, tail


def test_the_page_shows_the_table() -> None:
    assert parts(PAGE.read_text())[1] == diagram()


if __name__ == "__main__":
    head, _, tail = parts(PAGE.read_text())
    PAGE.write_text(head + BEGIN + diagram() + END + tail)
