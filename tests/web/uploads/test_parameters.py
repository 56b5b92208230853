import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BadOption, BadRequest, NotInThisBuild
from imgserver.web.uploads.parameters import ParameterParser, parse_query

PARSER = ParameterParser(NativeSettings())
DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos")


def read(query: str):
    return PARSER.parse(parse_query(query))


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ""),
        ("options=w_800,q_80/e_sharpen", "w_800,q_80/e_sharpen/"),
        ("options=w_800%2Cq_80%2Fe_sharpen", "w_800,q_80/e_sharpen/"),
        ("options=/w_800/", "w_800/"),
        ("w=800&q=80", "w_800,q_80/"),
        ("w=800&e=sharpen&e=blur:4", "w_800,e_sharpen,e_blur:4/"),
        ("f=webp&fl=lossless", "f_webp,fl_lossless/"),
        ("bo=4:%23fff&w=300", "bo_4:%23fff,w_300/"),
        ("async=0", ""),
    ],
)
def test_parameters_mean_what_they_mean_in_a_url(query, options):
    expected = DIALECT.parse(f"/img/{options}cat.png").plan if "%23" not in options else None

    if expected is None:
        with pytest.raises(BadOption) as caught:
            read(query)
        assert caught.value.facts["value"] == "4:#fff"
    else:
        assert read(query).request.plan == expected


@pytest.mark.parametrize(
    ("query", "argument"),
    [
        ("w=0", "w"),
        ("options=w_0", "w"),
        ("w=800,h_2", "w"),
        ("w=8/h_2", "w"),
        ("w=8%252Ch_2", "w"),
        ("options=width_800", "options"),
        ("options=photos", "options"),
        ("options=../../etc", "options"),
        ("width=800", "width"),
        ("store=a.jpg&store=b.jpg", "store"),
        ("replace=maybe", "replace"),
        ("data=hex", "data"),
        ("store=a.txt", "store"),
        ("store=a.svg", "store"),
        ("store=a.webp&f=jpg", "store"),
        ("store=a.jpg&f=info", "store"),
    ],
)
def test_what_is_wrong_is_named(query, argument):
    with pytest.raises(BadRequest) as caught:
        read(query)

    named = caught.value.facts["argument"]
    assert named == argument


def test_a_wrong_option_stands_where_it_stands_in_the_text():
    with pytest.raises(BadOption) as caught:
        read("options=w_800,q_x")

    assert caught.value.facts["at"] == 6


def test_options_come_one_way_or_the_other():
    with pytest.raises(BadRequest, match="options and w"):
        read("options=q_80&w=800")


@pytest.mark.parametrize(
    ("name", "near"), [("wd", "w"), ("width", "w"), ("quality", "q"), ("stor", "store"), ("%%", None)]
)
def test_an_unknown_parameter_is_told_the_nearest_as_in_a_url(name, near):
    with pytest.raises(BadRequest) as caught:
        PARSER.parse([(name, "8")])

    assert caught.value.facts["nearest"] == near


def test_later_is_refused_by_name():
    with pytest.raises(NotInThisBuild, match="async"):
        read("async=1")


def test_the_name_of_the_stored_file_tells_the_format():
    assert read("store=team/a.webp").request.plan.output.format == "webp"


def test_too_many_parameters_are_refused():
    with pytest.raises(BadRequest):
        read("&".join(["e=sharpen"] * 65))


def test_accept_decides_what_auto_means():
    assert read("f=auto").plan("image/avif,image/webp").output.offers == ("avif", "webp")
    assert read("f=auto").plan("application/json").output.offers == ()
