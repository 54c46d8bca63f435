"""The state of an `ask_many` run, with a clock that the test sets."""

import random

import pytest
from blip_serve_client import CallError, ConnectionFailedError, RetryPolicy
from blip_serve_client._ask_many.window import Window
from blip_serve_client._proto import blip_pb2, error_details_pb2, status_pb2
from blip_serve_client._tasks.to_messages import question_messages, request_options

LOST = ConnectionFailedError("lost", code="UNAVAILABLE")
POLICY = RetryPolicy(initial_backoff_s=0, retry_timeout_s=100)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def window(clock):
    return Window(8, True, request_options(None, None), POLICY, clock)


def add(window, *questions):
    window.add(None, blip_pb2.Image(data=b"image"), question_messages(questions))


def answer(request, index, text="yes"):
    return blip_pb2.AskResponse(tag=request.tag, question_index=index, answer=blip_pb2.Answer(text=text))


def failure(request, index, reason, retry_delay_s=None):
    """Returns the response with an error."""
    error = status_pb2.Status(code=13, message=reason)
    error.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason))
    if retry_delay_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(retry_delay_s)
        error.details.add().Pack(retry)
    return blip_pb2.AskResponse(tag=request.tag, question_index=index, error=error)


def texts(request):
    return [question.text for question in request.inputs[0].questions]


def outcomes(result):
    return [getattr(each, "text", None) or each.reason for each in result.answers]


def test_lost_call_returns_only_unanswered_questions(window):
    add(window, "a", "b")
    add(window, "c")
    first, second = window.next_request(), window.next_request()
    window.receive(answer(first, 1))
    assert window.lose_call(LOST) == 0
    again, other = window.next_request(), window.next_request()
    assert (texts(again), texts(other)) == (["a"], ["c"])
    # A late response of the lost call changes nothing.
    window.receive(answer(second, 0, "late"))
    window.receive(answer(first, 0, "late"))
    window.receive(answer(other, 0))
    assert window.next_result() is None
    window.receive(answer(again, 0, "no"))
    assert outcomes(window.next_result()) == ["no", "yes"]
    assert outcomes(window.next_result()) == ["yes"]
    window.end_input()
    assert window.is_complete and window.is_answered


def test_repeated_and_invalid_responses_are_ignored(window):
    add(window, "a", "b")
    request = window.next_request()
    for response in (answer(request, 0, "first"), answer(request, 0, "second"), answer(request, 7)):
        window.receive(response)
    window.receive(answer(request, 1))
    window.receive(answer(request, 1, "second"))
    assert outcomes(window.next_result()) == ["first", "yes"]


def test_rejected_question_is_sent_again_after_its_delay(window, clock):
    add(window, "a", "b")
    request = window.next_request()
    window.receive(answer(request, 0))
    window.receive(failure(request, 1, "QUEUE_FULL", retry_delay_s=5))
    assert (window.next_request(), window.wait_s()) == (None, 5)
    clock.now = 5
    again = window.next_request()
    assert texts(again) == ["b"]
    window.receive(answer(again, 0, "no"))
    assert outcomes(window.next_result()) == ["yes", "no"]


def test_rejection_is_final_after_the_retry_timeout(window, clock):
    add(window, "a")
    window.receive(failure(window.next_request(), 0, "QUEUE_FULL", retry_delay_s=60))
    clock.now = 60
    window.receive(failure(window.next_request(), 0, "QUEUE_FULL", retry_delay_s=60))
    assert outcomes(window.next_result()) == ["QUEUE_FULL"]


def test_error_of_a_request_is_that_of_all_its_questions(window):
    add(window, "a", "b", "c")
    window.receive(failure(window.next_request(), 0, "TOO_MANY_QUESTIONS"))
    assert outcomes(window.next_result()) == ["TOO_MANY_QUESTIONS"] * 3


def test_error_of_an_item_leaves_the_other_items(window):
    add(window, "a", "b")
    request = window.next_request()
    window.receive(failure(request, 0, "QUESTION_EMPTY"))
    assert window.next_request() is None
    window.receive(answer(request, 1))
    assert outcomes(window.next_result()) == ["QUESTION_EMPTY", "yes"]


def test_error_of_unclear_scope_sends_the_others_again(window):
    add(window, "a", "b")
    request = window.next_request()
    window.receive(failure(request, 0, "INTERNAL_ERROR"))
    again = window.next_request()
    assert texts(again) == ["b"]
    window.receive(answer(request, 1, "late"))
    window.receive(answer(again, 0))
    assert outcomes(window.next_result()) == ["INTERNAL_ERROR", "yes"]


@pytest.mark.parametrize("reason", ["MODEL_UNKNOWN", "GENERATION_CONFLICT"])
def test_error_that_concerns_every_request_ends_the_run(window, reason):
    add(window, "a")
    with pytest.raises(CallError) as error:
        window.receive(failure(window.next_request(), 0, reason))
    assert error.value.reason == reason


def test_server_that_does_not_serve_is_asked_until_the_timeout(window, clock):
    add(window, "a")
    window.receive(failure(window.next_request(), 0, "MODEL_LOADING"))
    clock.now = 99
    window.receive(failure(window.next_request(), 0, "MODEL_LOADING"))
    clock.now = 101
    with pytest.raises(CallError, match="MODEL_LOADING"):
        window.receive(failure(window.next_request(), 0, "MODEL_LOADING"))


def test_outage_ends_with_a_response_or_at_the_timeout(window, clock):
    add(window, "a", "b")
    for clock.now in (0, 99, 100):
        window.next_request()
        window.lose_call(LOST)
    clock.now = 101
    window.receive(answer(window.next_request(), 0))
    window.lose_call(LOST)
    clock.now = 202
    with pytest.raises(ConnectionFailedError, match="lost"):
        window.lose_call(LOST)


def test_call_that_ends_without_an_error_is_lost(window):
    add(window, "a")
    window.next_request()
    assert window.lose_call(None) == 0
    assert texts(window.next_request()) == ["a"]


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_random_runs_answer_every_question_once(seed, in_order):
    rng, clock = random.Random(seed), Clock()
    window = Window(rng.randint(1, 6), in_order, request_options(None, None), POLICY, clock)
    expected = [[f"{number}.{item}" for item in range(rng.randint(1, 4))] for number in range(40)]
    waiting, results, pending = list(expected), [], []
    while not window.is_complete:
        event = rng.choice(["add", "send", "send", "respond", "respond", "respond", "deliver", "lose"])
        clock.now += rng.random()
        if event == "add" and waiting and window.has_room:
            add(window, *waiting.pop(0))
        elif event == "add" and not waiting:
            window.end_input()
        elif event == "send" and (request := window.next_request()):
            pending += [(request, index) for index in range(len(texts(request)))]
        elif event == "respond" and pending:
            request, index = pending.pop(rng.randrange(len(pending)))
            kind = rng.random()
            if kind < 0.7:
                window.receive(answer(request, index, texts(request)[index]))
            elif kind < 0.9:
                window.receive(failure(request, index, "QUEUE_FULL", retry_delay_s=1))
            else:
                window.receive(failure(request, index, "PREPROCESSING_BUSY", retry_delay_s=0))
        elif event == "deliver" and (result := window.next_result()):
            results.append(result)
        elif event == "lose" and rng.random() < 0.2:
            pending = [each for each in pending if rng.random() < 0.3]
            window.lose_call(LOST)
    order = [result.index for result in results]
    assert (order if in_order else sorted(order)) == list(range(40))
    assert all(outcomes(result) == expected[result.index] for result in results)


def test_call_that_ends_while_nothing_is_sent_is_no_outage(window, clock):
    add(window, "a")
    window.receive(answer(window.next_request(), 0))
    assert window.lose_call(LOST) == 0
    clock.now = 1000
    add(window, "b")
    window.next_request()
    assert window.lose_call(LOST) == 0
    assert texts(window.next_request()) == ["b"]
