"""The settings reference is what the code says."""

from perennial.app.settings_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m perennial.app.settings_page"
