"""Every error is pickled between processes: one that cannot be unpickled breaks the executor as a dead worker does."""

import pickle

import pytest

from imgserver import errors
from imgserver.errors import ImgserverError, NotFound, drop_tracebacks


def tree(kind: type[ImgserverError]) -> list[type[ImgserverError]]:
    return [
        kind,
        *(below for child in kind.__subclasses__() if child.__module__ == errors.__name__ for below in tree(child)),
    ]


@pytest.mark.parametrize("kind", tree(ImgserverError))
def test_an_error_survives_pickling_with_its_facts(kind):
    error = pickle.loads(pickle.dumps(kind("what happened", argument="w", at=3)))

    assert (type(error), error.detail, error.facts) == (kind, "what happened", {"argument": "w", "at": 3})


@pytest.mark.parametrize("kind", tree(ImgserverError))
def test_an_error_has_a_status_a_code_and_a_public_text(kind):
    assert 400 <= kind.status < 600
    assert kind.code == kind.code.lower()
    assert kind("").detail == kind.title


def test_codes_are_unique():
    codes = [kind.code for kind in tree(ImgserverError)]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", tree(ImgserverError))
def test_temporary_errors_are_never_cached(kind):
    if kind.status in (401, 403, 408, 429, 500, 502, 503, 504):
        assert kind.cache_seconds == 0


def test_an_answered_error_holds_no_frame_of_its_request():
    def fail() -> None:
        try:
            raise OSError
        except OSError as error:
            raise NotFound from error

    with pytest.raises(NotFound) as caught:
        fail()
    drop_tracebacks(caught.value)

    assert caught.value.__traceback__ is None
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__traceback__ is None
