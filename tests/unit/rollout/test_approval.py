"""A person is asked: approval steps, changed inputs, orders while suspended, and who is recorded."""

import pytest

from perennial.domain.authors import Author, authors_text, read_authors, written_by
from perennial.domain.rollout.commands import BadCommand, Command, command_text, read_command
from perennial.domain.rollout.signature import Compared, Tensor, compare, difference, read_signatures
from tests.unit.rollout.play import Play, spec_of, started, target
from tests.unit.rollout.test_decide import A, B, C

X = (Tensor("x", "FP64", (-1, 1)),)
Y = (Tensor("y", "FP64", (-1, 1)),)


def asked(**spec: object) -> Play:
    """A canary of B whose inputs differ from stable A's, as the routers tell."""
    play = Play(spec=spec_of(**spec), inputs={A: X, B: Y}).begin()
    play.settle()
    return play


def test_a_canary_with_other_inputs_gets_no_request_before_a_person_lets_it() -> None:
    play = asked()
    play.tick(30)
    assert (play.state, max(play.weights)) == ("Approval", 0)
    assert 'input "x" is FP64 [-1, 1] in stable and missing in the canary' in play.words()
    assert 'input "y" is missing in stable and FP64 [-1, 1] in the canary' in play.words()
    assert "`kubectl perennial approve rain` gives it 5%" in play.words()
    assert play.condition("Available") == ("True", "Serving")
    assert "SignatureDiffers" in play.reasons()


def test_promote_lets_it_go_on_with_the_first_step_and_is_remembered() -> None:
    play = asked()
    play.order("promote")
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    said = play.status["rollout"]["approvals"]
    assert [(a["by"], a["said"], a["weight"]) for a in said] == [("ann", "Signature", 0)]
    play.run(100)
    assert {5, 25, 50} <= set(play.weights)
    assert play.status["stable"]["revision"] == B
    assert play.status["history"][0]["approvedBy"] == "ann"


def test_changed_inputs_get_no_copies_either_before_a_person_lets_them() -> None:
    play = asked(mirrorPercent=40)
    play.tick(10)
    assert (play.state, play.status["rollout"]["weightVerified"]) == ("Approval", False)
    assert "gives it copies of 40%" in play.words()
    play.order("promote")
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 0)
    assert "next is copies of 40%" in next(n.message for n in play.events if n.reason == "Approved")
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_abort_takes_the_question_back() -> None:
    play = asked()
    play.order("abort")
    assert play.status["stable"]["revision"] == A
    assert play.status["rejected"][0]["reason"] == "Aborted"
    assert max(play.weights) == 0


def test_skip_does_not_answer_the_question_about_inputs() -> None:
    play = asked()
    play.order("skip")
    assert (play.state, max(play.weights)) == ("Approval", 0)
    assert "only approve lets them pass" in play.events[-1].message


def test_an_early_promote_is_no_answer_to_a_question_that_was_not_asked_yet() -> None:
    play = Play(stuck={B}, inputs={A: X, B: Y}).begin()
    play.settle()
    play.order("promote")
    play.recover(B)
    play.settle()
    assert (play.state, max(play.weights)) == ("Approval", 0)
    play.order("promote", id_="c2")
    assert play.status["stable"]["revision"] == B
    assert [a["said"] for a in play.status.get("rollout", {}).get("approvals", [])] == []
    assert play.status["history"][0]["approvedBy"] == "ann"


def test_another_version_named_meanwhile_is_asked_about_anew() -> None:
    play = asked()
    play.order("promote")
    play.target, play.inputs[C] = target(C), Y
    play.settle()
    play.run(60, until="Approval")
    assert play.status["rollout"]["targetRevision"] == C
    assert play.status["canary"]["weight"] == 0


def test_naming_stable_again_ends_the_question() -> None:
    play = asked()
    play.target = target(A)
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize(("stable", "canary"), [(X, None), (None, Y), (None, None), (X, X)])
def test_the_same_inputs_and_those_that_a_server_does_not_tell_hold_nothing_up(stable: object, canary: object) -> None:
    play = Play(inputs={A: stable, B: canary}).begin()  # type: ignore[dict-item]
    play.settle()
    assert play.state == "Analysing"


def test_routers_that_tell_nothing_hold_the_first_weight_up_for_some_seconds_only() -> None:
    play = Play(silent=True).begin()
    play.settle()
    assert (play.state, play.status["canary"]["weight"]) == ("Scaling", 0)
    play.tick(4)
    assert play.state == "Scaling"
    play.tick(1)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)


def test_a_router_that_tells_late_is_still_heard() -> None:
    play = Play(silent=True, inputs={A: X, B: Y}).begin()
    play.settle()
    play.tick(2)
    play.silent = False
    play.settle()
    assert play.state == "Approval"


def test_the_first_version_has_nothing_to_differ_from() -> None:
    play = Play(silent=True)
    play.settle()
    assert play.status["stable"]["revision"] == A


@pytest.mark.parametrize(
    ("stable", "canary", "words"),
    [
        (X, X, None),
        (X, (Tensor("x", "FP64", (8, 1)),), None),
        ((*X, *Y), (*Y, *X), None),
        (X, (Tensor("x", "INT64", (-1, 1)),), 'input "x" is FP64 [-1, 1] in stable and INT64 [-1, 1] in the canary'),
        (X, (Tensor("x", "FP64", (-1, 2)),), 'input "x" is FP64 [-1, 1] in stable and FP64 [-1, 2] in the canary'),
        (X, (Tensor("x", "FP64", (-1,)),), 'input "x" is FP64 [-1, 1] in stable and FP64 [-1] in the canary'),
        ((*X, *Y), X, 'input "y" is FP64 [-1, 1] in stable and missing in the canary'),
    ],
)
def test_what_differs_is_named(stable: tuple[Tensor, ...], canary: tuple[Tensor, ...], words: str | None) -> None:
    assert difference(stable, canary) == words


def test_a_router_that_knows_one_side_only_settles_nothing() -> None:
    assert not compare([{A: X}, {B: Y}], A, B).known
    assert compare([{B: Y}, {A: X, B: Y}], A, B).difference is not None
    assert compare([{A: None, B: Y}], A, B) == Compared(True)


def test_a_router_that_has_read_both_is_heard_before_one_whose_server_told_it_nothing() -> None:
    both, one = {A: X, B: Y}, {A: None, B: Y}
    for told in ([both, one], [one, both], [{A: X, B: X}, one, both]):
        assert compare(told, A, B).difference is not None
    assert compare([one, {A: X, B: X}], A, B) == Compared(True)


def test_many_differences_fit_a_sentence() -> None:
    wide = tuple(Tensor(f"f{i}", "FP64", (-1,)) for i in range(100))
    assert difference(wide, X) == (
        'input "f0" is FP64 [-1] in stable and missing in the canary; '
        'input "f1" is FP64 [-1] in stable and missing in the canary; '
        'input "f2" is FP64 [-1] in stable and missing in the canary; and 98 more'
    )
    named = tuple(Tensor("n" * 256, "FP64", (-1,)) for _ in range(1))
    play = Play(inputs={A: (*named, *(Tensor("m" * 250 + str(i), "FP64", (1,)) for i in range(3))), B: X}).begin()
    play.settle()
    assert len(play.words().encode()) <= 1000
    assert "kubectl perennial approve" in play.words()


def test_what_a_page_tells_is_read_or_unknown() -> None:
    page = {A: [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}], B: None, C: [{"name": "x"}]}
    assert read_signatures(page) == {A: X, B: None, C: None}
    assert read_signatures(None) == {}


def test_an_approved_step_is_recorded_with_who_and_when() -> None:
    play = started(steps=[{"weight": 5}, {"weight": 25, "approval": True}, {"weight": 50, "approval": True}])
    play.run(100, until="Approval")
    play.order("promote")
    said = play.status["rollout"]["approvals"]
    assert [(a["by"], a["said"], a["weight"]) for a in said] == [("ann", "Step", 25)]
    play.run(100, until="Approval")
    play.order("promote", id_="c2")
    play.run(100)
    assert play.status["history"][0]["approvedBy"] == "ann"
    assert "approvedBy" not in play.status["history"][1]


def test_an_order_to_go_on_is_recorded_too() -> None:
    play = started()
    play.order("skip")
    assert [a["said"] for a in play.status["rollout"]["approvals"]] == ["Skip"]
    play.order("promote", id_="c2")
    assert play.status["history"][0]["approvedBy"] == "ann"


def test_a_second_promote_on_the_way_to_100_says_so() -> None:
    play = started()
    play.stuck.add(B)
    play.lose(B)
    play.order("promote")
    assert (play.state, play.status["rollout"]["weight"]) == ("Scaling", 100)
    play.order("promote", id_="c2")
    assert "already is on its way to 100%" in play.events[-1].message


@pytest.mark.parametrize("steps", [[{"weight": 5}, {"weight": 50}], [{"weight": 40}]])
def test_a_step_that_no_longer_asks_goes_on_by_its_evidence(steps: list[dict]) -> None:
    play = started(steps=[{"weight": 5, "approval": True}, {"weight": 50}])
    play.run(100, until="Approval")
    play.error_rates = {A: 0.3, B: 0.3}  # leans towards failing, though no more than stable does
    play.tick(30)
    assert play.state == "Approval"
    play.spec = spec_of(steps=steps)
    play.tick(5)
    assert (play.state, play.recorded.weight_of(B)) == ("Analysing", 5)
    assert "no longer asks for approval" in next(n.message for n in play.events if n.reason == "StepStarted")
    play.error_rates.clear()
    play.run(900)
    assert play.status["stable"]["revision"] == B
    assert "approvedBy" not in play.status["history"][0]


def test_changed_inputs_are_asked_about_whatever_the_steps_say() -> None:
    play = asked(steps=[{"weight": 5, "approval": True}])
    play.spec = spec_of(steps=[{"weight": 5}])
    play.tick(30)
    assert (play.state, max(play.weights)) == ("Approval", 0)


def test_while_suspended_an_approval_is_taken_and_carried_out_when_it_goes_on() -> None:
    play = started(steps=[{"weight": 5, "approval": True}, {"weight": 50}])
    play.run(100, until="Approval")
    play.spec["suspend"] = True
    play.order("promote")
    play.tick(20)
    assert (play.state, play.status["canary"]["weight"]) == ("Scaling", 5)
    assert "spec.suspend is set" in play.words()
    play.spec["suspend"] = False
    play.tick(1)
    assert play.status["canary"]["weight"] == 50


@pytest.mark.parametrize("verb", ["promote", "skip"])
def test_while_suspended_an_order_is_taken_and_carried_out_when_it_goes_on(verb: str) -> None:
    play = started()
    play.spec["suspend"] = True
    play.order(verb)
    play.tick(20)
    assert (play.state, play.status["canary"]["weight"]) == ("Scaling", 5)
    play.spec["suspend"] = False
    play.tick(1)
    assert play.recorded.weight_of(B) == (100 if verb == "promote" else 25)


@pytest.mark.parametrize("differs", [False, True])
def test_while_suspended_an_abort_is_carried_out_at_once(differs: bool) -> None:
    play = asked() if differs else started()
    play.spec["suspend"] = True
    play.order("abort")
    assert (play.state, play.status["rejected"][0]["reason"]) == ("Rest", "Aborted")


def test_while_suspended_a_retry_is_taken_and_starts_when_it_goes_on() -> None:
    play = started()
    play.order("abort")
    play.spec["suspend"] = True
    play.settle()
    play.order("retry", id_="c2")
    play.tick(5)
    assert play.state == "Rest"
    assert "rejected" not in play.status
    play.spec["suspend"] = False
    play.settle()
    assert play.state == "Analysing"


def test_a_held_step_goes_on_by_order_and_expires_without_one() -> None:
    slow = {"maxSeconds": 10, "holdMaxSeconds": 20}
    for verb, stable in (("promote", B), ("skip", B), ("", A)):
        play = Play(per_second=0, spec=spec_of(steps=[{"weight": 5}], analysis=slow)).begin()
        play.settle()
        play.run(30, until="Holding")
        if verb:
            play.order(verb)
        play.run(60)
        assert play.status["stable"]["revision"] == stable


ANN = Author("Ann Example", "ann@example.org")
BOB = Author("Bob", "rob@example.org")


def strict(*authors: Author, **spec: object) -> Play:
    """A step of B that waits for approval; these wrote the change, and nobody may approve his own."""
    steps = [{"weight": 25, "approval": True}, {"weight": 50}]
    play = Play(spec=spec_of(steps=steps, forbidOwnApproval=True, **spec), authors=authors).begin()
    play.settle()
    play.run(100, until="Approval")
    return play


def say(play: Play, by: str, verb: str = "promote") -> None:
    play.command = Command(verb, B, f"c{len(play.recorded.commands)}", by)
    play.settle()


@pytest.mark.parametrize("by", ["ann@example.org", "ANN@example.org", "ann", "Ann Example", "rob", "bob"])
@pytest.mark.parametrize("verb", ["promote", "skip"])
def test_whoever_wrote_the_change_may_not_let_it_go_on(by: str, verb: str) -> None:
    play = strict(ANN, BOB)
    say(play, by, verb)
    assert (play.state, play.status["canary"]["weight"]) == ("Approval", 25)
    said = f"{verb} by {by} is refused: forbidOwnApproval is set, and "
    assert next(note.message for note in play.events if note.reason == "ApprovalRefused").startswith(said)
    play.tick(20)
    assert play.words().startswith(said)  # it stays on the object, not only in an event
    assert "somebody else must approve it" in play.words()
    assert play.reasons().count("ApprovalRefused") == 1
    assert "approvals" not in play.status["rollout"]


def test_somebody_else_may_and_the_refusal_is_gone() -> None:
    play = strict(ANN)
    say(play, "ann")
    say(play, "carol")
    assert "refusal" not in play.status["rollout"]
    assert [a["by"] for a in play.status["rollout"]["approvals"]] == ["carol"]
    play.run(100)
    assert play.status["history"][0]["approvedBy"] == "carol"


def test_the_author_may_abort() -> None:
    play = strict(ANN)
    say(play, "ann")
    play.deaf.add("r1")
    say(play, "ann", "abort")
    assert play.state == "Withdrawing"
    assert "refusal" not in play.status["rollout"]
    play.deaf.clear()
    play.settle()
    assert play.status["rejected"][0]["reason"] == "Aborted"


def test_without_the_option_the_author_may_approve() -> None:
    play = started(steps=[{"weight": 5, "approval": True}])
    play.authors = (ANN,)
    play.run(100, until="Approval")
    say(play, "ann")
    assert play.status["history"][0]["approvedBy"] == "ann"


def test_changed_inputs_are_not_approved_by_their_author_either() -> None:
    play = Play(spec=spec_of(forbidOwnApproval=True), inputs={A: X, B: Y}, authors=(ANN,)).begin()
    play.settle()
    say(play, "ann")
    assert (play.state, max(play.weights)) == ("Approval", 0)
    assert "somebody else must approve it" in play.words()
    say(play, "bob")
    assert play.status["canary"]["weight"] == 5


def test_nobody_may_approve_a_change_of_an_unknown_author() -> None:
    play = strict()
    say(play, "carol")
    assert play.state == "Approval"
    assert "who wrote the change to rain-bbbbbbbb is not known" in play.words()


def test_the_author_is_who_wrote_the_change_when_it_began() -> None:
    play = strict(ANN)
    play.authors = (BOB,)  # another commit to the same document, of the same revision
    say(play, "ann")
    assert play.state == "Approval"
    say(play, "bob")
    assert play.state != "Approval"


def test_anybody_may_approve_a_version_that_the_operator_chose() -> None:
    spec = spec_of(steps=[{"weight": 25, "approval": True}, {"weight": 50}], forbidOwnApproval=True)
    spec["model"]["updatePolicy"] = "Direct"
    play = Play(spec=spec, target=target(A, version="rain-1"), authors=(ANN,)).begin(B, version="rain-2")
    play.settle()
    play.run(100, until="Approval")
    say(play, "ann")
    assert play.status["rollout"]["approvals"][0]["by"] == "ann"
    assert play.status["rollout"]["authors"] == [{"name": "Perennial", "email": ""}]


def test_another_name_than_the_commits_is_somebody_else() -> None:
    assert written_by("oidc:ann@example.org", [ANN]) is None
    assert written_by("example.org", [ANN]) is None
    assert written_by("", [Author("", "")]) is None
    assert written_by("ann", [BOB, ANN]) == ANN


def test_authors_survive_the_annotation_and_too_many_are_unknown() -> None:
    named = (Author('Zoë "Z" Ö', "z@example.org"), ANN, BOB)
    assert read_authors(authors_text([*named, ANN])) == named
    assert authors_text([]) is None
    assert authors_text(Author(str(number), "") for number in range(65)) is None
    for text in (None, "", "no JSON", "{}", '[{"name": "x"}]', "[1]", "1"):
        assert read_authors(text) == ()


@pytest.mark.parametrize("by", ["ada", "system:serviceaccount:team:ci", "jürgen", 'a"b', "back\\slash", "tab\t"])
def test_a_command_reads_as_it_was_written(by: str) -> None:
    command = read_command(command_text("promote", B, "c-1", by))
    assert command == Command("promote", B, "c-1", by)


@pytest.mark.parametrize(
    "text",
    [
        '{"by":"ada","verb":"promote","revision":"bbbbbbbb","id":"c1","by":"bob"}',
        '{"by":"ada","verb":"abort","revision":"bbbbbbbb","id":"c1","verb":"promote"}',
        '{"by":"ada","verb":"promote","revision":"bbbbbbbb","id":"c1","\\u0062y":"bob"}',
        "[" * 100_000,
    ],
)
def test_a_command_that_can_be_read_in_two_ways_is_none(text: str) -> None:
    assert isinstance(read_command(text), BadCommand)
