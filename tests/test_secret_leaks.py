from pathlib import Path

import pytest

from tests.secret_leaks import refuse_leaks

GIVEN = {"admin_key": "0123456789abcdef", "redis_url": "redis://:hunter22@127.0.0.1:1", "workers_count": 1}


@pytest.mark.parametrize(
    "line", ["key 0123456789abcdef", "auth hunter22 failed", f"no such file {Path('samples').resolve()}/a"]
)
def test_a_leak_is_found(line) -> None:
    with pytest.raises(AssertionError, match="the log contains"):
        refuse_leaks(f"fine\n{line}\n", Path("samples"), GIVEN)


def test_a_clean_log_passes() -> None:
    refuse_leaks("samples, 127.0.0.1, 1\n", Path("samples"), GIVEN)
