"""The rules of the verdict on whole rollouts with random traffic: every pass decides, from first weight to end."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest

from perennial.domain.times import parse_time
from tests.unit.rollout.play import Play, spec_of

A, B = "aaaaaaaa", "bbbbbbbb"


def canary(
    seed: int, rates: Callable[[Play, str], float] | None = None, *, rollout: dict | None = None, **analysis: object
) -> Play:
    """Stable A serves; B begins at 5 % of 100 random requests a second, with maxErrorRate 0.01."""
    spec = spec_of(analysis={"maxErrorRate": "0.01", **analysis}, **(rollout or {}))
    play = Play(spec=spec, rng=np.random.default_rng(seed))
    play.rates = rates
    play.begin()
    play.settle()
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    return play


def since_verified(play: Play) -> float:
    """Seconds since the routers confirmed the canary's weight; -1 while they have not."""
    verified = play.status.get("rollout", {}).get("weightVerifiedTime")
    return (play.now - parse_time(verified)).total_seconds() if verified else -1


def outcome(play: Play, seconds: int = 3000) -> str:
    play.run(seconds)
    if play.status["stable"]["revision"] == B:
        return "promoted"
    return str(play.status["rejected"][0]["reason"])


def cold(play: Play, revision: str) -> float:
    """Six in ten of the canary's requests fail in the first second after each of its weights."""
    return 0.6 if revision == B and since_verified(play) <= 1 else 0.001


def test_a_cold_first_second_rejects_no_model() -> None:
    assert [outcome(canary(seed, cold)) for seed in range(3)] == ["promoted"] * 3
    hasty = [outcome(canary(seed, cold, warmupSeconds=0, minFailures=1)) for seed in range(3)]
    assert "CanaryFailed" in hasty  # what the warm-up and minFailures are for


def shared_outage(started: datetime) -> Callable[[Play, str], float]:
    def rates(play: Play, revision: str) -> float:
        return 0.5 if 8 <= (play.now - started).total_seconds() < 18 else 0.001

    return rates


def test_a_shared_outage_of_ten_seconds_at_half_rejects_nothing_and_holds_the_weight() -> None:
    """Meanwhile the weight stays, unless the canary is already shown to be no worse than stable."""
    said = []
    for seed in range(4):
        play = canary(seed)
        play.rates = shared_outage(play.now)
        play.tick(17)
        said.append(play.words())
        assert outcome(play) == "promoted"
    assert any("leans towards too many failures, so the weight stays" in words for words in said)


def test_both_arms_at_a_steady_two_percent_are_promoted_by_their_ratio() -> None:
    play = canary(2, lambda play, revision: 0.02)
    assert outcome(play) == "promoted"


def test_a_fix_is_promoted_though_it_still_fails_more_than_the_limit() -> None:
    play = canary(3, lambda play, revision: 0.02 if revision == B else 0.2)
    assert outcome(play) == "promoted"


def test_a_canary_ten_times_worse_is_aborted_while_stable_is_fine() -> None:
    assert outcome(canary(4, lambda play, revision: 0.1 if revision == B else 0.01)) == "CanaryFailed"


def test_one_request_in_ten_seconds_holds_then_expires_and_says_what_it_would_take() -> None:
    one_step = {"steps": [{"weight": 5}]}
    play = canary(5, rollout=one_step, maxErrorRate="0.02", maxSeconds=3600, holdMaxSeconds=43_200)
    play.per_second = 0.1
    play.tick(59, every=60)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    play.tick(2, every=60)
    assert (play.state, play.status["canary"]["weight"]) == ("Holding", 5)
    assert 50_000 < play.status["rollout"]["etaSeconds"] < 90_000  # 361 requests at one in 200 s are 20 h
    assert play.status["rollout"]["analysis"]["verdict"] == "Inconclusive"
    assert " h at the present traffic" in play.words()
    assert "`kubectl perennial promote rain` or `abort` decides" in play.words()
    play.tick(12 * 6 + 1, every=600)
    assert play.state == "Rest"
    assert play.condition("Stalled") == ("True", "RolloutExpired")
    assert "without a verdict" in play.words()
    assert "canary requests failed at 5%" in play.words()
    assert "It is not rejected" in play.words()
    assert "rejected" not in play.status
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]


def test_slow_answers_are_judged_by_their_share_beside_stable() -> None:
    latency = {"latency": {"percentile": "95", "maxMilliseconds": 200}}
    slow = canary(6, **latency)
    slow.slow_rates = {A: 0.01, B: 0.3}
    assert outcome(slow) == "CanaryFailed"
    assert "took longer than 200 ms" in slow.status["rejected"][0]["message"]
    shared = canary(7, **latency)
    shared.slow_rates = {A: 0.3, B: 0.3}  # the network is slow, not the model
    shared.tick(60)
    assert (shared.state, shared.status["canary"]["weight"]) == ("Analysing", 5)
    fast = canary(8, **latency)
    fast.slow_rates = {A: 0.01, B: 0.01}
    assert outcome(fast) == "promoted"


@pytest.mark.parametrize(("choice", "state"), [("Hold", "Holding"), ("Promote", "promoted"), ("Abort", "Inconclusive")])
def test_too_little_evidence_by_max_seconds_follows_on_inconclusive(choice: str, state: str) -> None:
    play = canary(9, maxSeconds=30, onInconclusive=choice)
    play.per_second = 20  # one canary request a second: fewer than minRequests by then
    play.tick(28)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    play.tick(3)
    if choice == "Hold":
        assert (play.state, play.status["canary"]["weight"]) == (state, 5)
        play.tick(5)
        assert play.reasons().count("Inconclusive") == 1
        return
    if choice == "Promote":
        assert play.status["canary"]["weight"] == 25
    assert outcome(play) == state


def test_max_seconds_count_anew_at_each_weight() -> None:
    play = canary(10, maxSeconds=40, onInconclusive="Promote")
    play.per_second = 1
    weights = []
    for _ in range(30):
        play.tick(1, every=5)
        weights.append(play.status["canary"]["weight"] if play.state != "Rest" else 100)
    assert [weights.count(w) * 5 for w in (5, 25, 50)] == pytest.approx([40, 40, 40], abs=6)


def test_inconclusive_promotes_no_canary_whose_evidence_leans_towards_failing() -> None:
    """onInconclusive: Promote is for too little evidence; ten times the limit on both arms is something else."""
    play = canary(11, lambda play, revision: 0.1, maxSeconds=30, onInconclusive="Promote")
    play.tick(60)
    assert (play.state, play.status["canary"]["weight"]) == ("Holding", 5)
    assert "leans towards too many failures" in play.words()
    assert any("onInconclusive is Promote, but" in note.message for note in play.events)
