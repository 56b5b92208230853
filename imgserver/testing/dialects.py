"""The contract of dialects."""

import contextlib
import dataclasses
import pickle

import pytest

from imgserver.dialects import Dialect, DialectConfig, MountedDialects
from imgserver.dialects.native import NativeSettings
from imgserver.errors import BadRequest, ImgserverError, NotFound, SignatureRefused
from imgserver.plan.geometry import bind_plan
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import Dims, SourceRef
from imgserver.security.signing import Keyring, SigningKey


class DialectContract:
    """The contract of every dialect. Provide `make`, which is its factory.

    `options` are texts that `build` accepts, `refused` texts that it must refuse.
    """

    ref = SourceRef("photos", "folder/cat.jpg")
    options: tuple[str, ...] = ("",)
    refused: tuple[str, ...] = ()

    HOSTILE = ("", "%", "%00", "%2e%2e/x", "../x", "x/../../y", "\0", "ä", "a b", "#x", "?x", "\\x", "x" * 10_000)

    UNSIGNED = DialectConfig(NativeSettings(), frozenset({"photos", "shop"}), "photos")
    KEYRING = Keyring((SigningKey(bytes(32)),), required=True)

    def make(self, config: DialectConfig) -> Dialect:
        raise NotImplementedError

    @pytest.fixture
    def dialect(self) -> Dialect:
        return self.make(self.UNSIGNED)

    def test_the_mount_is_a_path_that_a_server_can_serve(self, dialect: Dialect) -> None:
        assert MountedDialects({"dialect": dialect}).mounts == (dialect.mount,)

    def test_a_built_target_names_its_original(self, dialect: Dialect) -> None:
        targets = [dialect.build(self.ref, text) for text in self.options]

        assert all(target.startswith(dialect.mount) for target in targets)
        assert [dialect.parse(target).ref for target in targets] == [self.ref] * len(targets)

    def test_equal_targets_give_equal_requests_that_can_be_pickled(self, dialect: Dialect) -> None:
        for text in self.options:
            request = dialect.parse(dialect.build(self.ref, text))

            assert dialect.parse(dialect.build(self.ref, text)) == request
            assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301

    def test_every_plan_can_be_bound_and_normalized(self, dialect: Dialect) -> None:
        for text in self.options:
            plan = dialect.parse(dialect.build(self.ref, text)).plan

            assert bind_plan(plan, Dims(400, 300)).before == Dims(400, 300)
            assert normalize(normalize(plan)) == normalize(plan)

    def test_a_target_outside_the_mount_is_not_found(self, dialect: Dialect) -> None:
        with pytest.raises(NotFound):
            dialect.parse("/elsewhere" + dialect.mount + "cat.jpg")

    def test_wrong_options_are_a_bad_request(self, dialect: Dialect) -> None:
        for text in self.refused:
            with pytest.raises(BadRequest):
                dialect.build(self.ref, text)

    def test_unsigned_targets_are_refused_if_signatures_are_required(self, dialect: Dialect) -> None:
        target = dialect.build(self.ref)

        with pytest.raises(SignatureRefused):
            self.make(dataclasses.replace(self.UNSIGNED, keyring=self.KEYRING)).parse(target)
        dialect.adopt(presets={}, keyring=self.KEYRING)
        with pytest.raises(SignatureRefused):
            dialect.parse(target)

    def test_a_hostile_target_is_refused_or_names_a_path_without_dot_segments(self, dialect: Dialect) -> None:
        for text in self.HOSTILE:
            # Any other exception fails the test.
            with contextlib.suppress(ImgserverError):
                path = dialect.parse(dialect.mount + text).ref.path
                assert not {"", ".", ".."} & set(path.split("/"))
                assert "\0" not in path
