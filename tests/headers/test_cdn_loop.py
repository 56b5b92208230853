import pytest

from imgserver.headers.cdn_loop import cdn_ids


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("imgserver", {"imgserver"}),
        ("ImgServer", {"imgserver"}),
        ("imgserver;v=1", {"imgserver"}),
        ("cloud.example:80; x=1 , imgserver ; y", {"cloud.example:80", "imgserver"}),
        ("imgserver-cdn", {"imgserver-cdn"}),
        ("my.imgserver.example", {"my.imgserver.example"}),
        ("cdn; by=imgserver", {"cdn"}),
        ('cdn; by="a, imgserver, b"', {"cdn"}),
        (r'cdn; by="a\", imgserver", other', {"cdn", "other"}),
        ('cdn; by="imgserver, imgserver', {"cdn"}),
    ],
)
def test_ids_are_the_members_without_their_parameters(value, ids):
    assert cdn_ids(value) == ids


def test_a_value_without_a_member_has_no_id_of_a_server():
    assert cdn_ids("") | cdn_ids(", ;x") == {""}


def test_open_quotes_take_linear_time():
    assert cdn_ids('"\\' * 50_000) == {""}
