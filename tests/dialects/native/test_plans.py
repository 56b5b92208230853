"""The grammar as a table: from the text after /img/ to the canonical text of the plan."""

import pytest

from imgserver.dialects.native import NativeDialect
from imgserver.plan.canonical import canonical
from imgserver.plan.geometry import bind_plan
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import Dims, ImageRequest, SourceRef

RFILL = "mode=cover,enlarge=shrink_box,finish=crop"

PLANS = [
    ("photo.jpg", "orient|"),
    ("w_800,q_80/photo.jpg", "orient;fit(width=800)|quality=80"),
    ("w_800/w_400/photo.jpg", "orient;fit(width=800);fit(width=400)|"),
    ("c_fit,w_2000/photo.jpg", "orient;fit(width=2000,enlarge=allow)|"),
    ("w_800,h_400/photo.jpg", "orient;fit(width=800,height=400)|"),
    ("w_0.5/photo.jpg", "orient;fit(width=1/2*)|"),
    ("w_1/photo.jpg", "orient;fit(width=1)|"),
    ("c_mfit,w_900/photo.jpg", "orient;fit(width=900,enlarge=allow,shrink=no)|"),
    ("c_scale,w_300,h_300/photo.jpg", "orient;fit(width=300,height=300,mode=exact,enlarge=allow)|"),
    (
        "c_fill,w_400,h_400,g_auto/photo.jpg",
        "orient;fit(width=400,height=400,mode=cover,enlarge=allow,finish=crop,anchor=anchor(kind=attention))|",
    ),
    (
        "c_fill,w_400,h_400,g_auto:entropy/photo.jpg",
        "orient;fit(width=400,height=400,mode=cover,enlarge=allow,finish=crop,anchor=anchor(kind=entropy))|",
    ),
    (
        "c_lfill,w_1600,h_400,g_north/photo.jpg",
        "orient;fit(width=1600,height=400,mode=cover,finish=crop,anchor=anchor(kind=north))|",
    ),
    ("c_rfill,w_2000,h_2000/photo.jpg", f"orient;fit(width=2000,height=2000,{RFILL})|"),
    ("w_800,ar_16:9/photo.jpg", f"orient;fit(width=800,height=450,{RFILL})|"),
    ("h_450,ar_16%3A9/photo.jpg", f"orient;fit(width=800,height=450,{RFILL})|"),
    ("c_limit,w_800,ar_2/photo.jpg", "orient;fit(width=800,height=400)|"),
    ("w_0.5,ar_1.5/photo.jpg", f"orient;fit(width=1/2*,ratio=3/2,{RFILL})|"),
    (
        "ar_1:1,c_rfill,g_auto/photo.jpg",
        "orient;fit(ratio=1,mode=cover,finish=crop,anchor=anchor(kind=attention))|",
    ),
    ("ar_1:1/photo.jpg", "orient;fit(ratio=1,mode=cover,finish=crop)|"),
    (
        "c_pad,w_600,h_600,b_white/photo.jpg",
        "orient;fit(width=600,height=600,enlarge=allow,finish=pad,fill=#ffffffff);flatten|",
    ),
    ("c_pad,w_600,h_600/photo.jpg", "orient;fit(width=600,height=600,enlarge=allow,finish=pad)|"),
    ("c_pad,ar_1:1,b_auto/photo.jpg", "orient;fit(ratio=1,finish=pad,fill=auto)|"),
    ("c_lpad,w_1600,h_1600,b_blurred/photo.jpg", "orient;fit(width=1600,height=1600,finish=pad,fill=blur)|"),
    (
        "c_mpad,w_600,h_600,g_south_east,x_10,y_0.1/photo.jpg",
        "orient;fit(width=600,height=600,enlarge=allow,shrink=no,finish=pad,anchor=anchor(kind=south_east,dx=10,dy=1/10*))|",
    ),
    ("c_rpad,w_9,h_9/photo.jpg", "orient;fit(width=9,height=9,enlarge=shrink_box,finish=pad)|"),
    (
        "c_crop,w_400,h_300,x_120,y_80/photo.jpg",
        "orient;crop(width=400,height=300,anchor=anchor(kind=north_west,dx=120,dy=80))|",
    ),
    ("c_crop,w_60000/photo.jpg", "orient;crop(width=60000)|"),
    ("c_crop,ar_1:1,g_south/photo.jpg", "orient;crop(ratio=1,anchor=anchor(kind=south))|"),
    ("c_crop,w_400,h_300,x_-5,g_center/photo.jpg", "orient;crop(width=400,height=300,anchor=anchor(dx=-5))|"),
    (
        "c_crop,w_600,h_600,g_auto/w_200/photo.jpg",
        "orient;crop(width=600,height=600,anchor=anchor(kind=attention));fit(width=200)|",
    ),
    (
        "c_fill,w_400,h_400,g_xy,x_0.7,y_0.3/photo.jpg",
        "orient;fit(width=400,height=400,mode=cover,enlarge=allow,finish=crop,"
        "anchor=anchor(kind=focal,fx=7/10*,fy=3/10*))|",
    ),
    (
        "c_thumb,g_north,w_300,h_150,z_0.8/photo.jpg",
        "orient;crop(ratio=2,anchor=anchor(kind=north),zoom=4/5);"
        "fit(width=300,height=150,mode=cover,enlarge=allow,finish=crop)|",
    ),
    (
        "c_thumb,g_auto,w_150,ar_1:1/photo.jpg",
        "orient;crop(ratio=1,anchor=anchor(kind=attention));"
        "fit(width=150,height=150,mode=cover,enlarge=allow,finish=crop)|",
    ),
    ("w_400,dpr_2/photo.jpg", "orient;fit(width=800)|"),
    ("w_333,dpr_1.5/photo.jpg", "orient;fit(width=999/2)|"),
    ("dpr_2,r_20/photo.jpg", "orient;mask(radii=(20,20,20,20))|"),
    (
        "c_crop,w_600,h_600/w_300,r_20/dpr_2,f_png/photo.jpg",
        "orient;crop(width=600,height=600);fit(width=600);mask(radii=(40,40,40,40))|format=png",
    ),
    (
        "c_fill,w_40,h_40,g_xy,x_100,y_50,dpr_2/photo.jpg",
        "orient;fit(width=80,height=80,mode=cover,enlarge=allow,finish=crop,anchor=anchor(kind=focal,fx=100,fy=50))|",
    ),
    (
        "w_400/c_crop,w_100,h_100,g_xy,x_50,y_0.5,dpr_2/photo.jpg",
        "orient;fit(width=800);crop(width=200,height=200,anchor=anchor(kind=focal,fx=100,fy=1/2*))|",
    ),
    (
        "e_blur:4/w_400,e_blur:4,e_pixelate:8,e_sharpen:2,bo_3,dpr_2/photo.jpg",
        "orient;kernel(name=blur,amount=4);fit(width=800);kernel(name=blur,amount=8);"
        "kernel(name=pixelate,amount=16);kernel(name=sharpen,amount=2);canvas(margins=(6,6,6,6))|",
    ),
    (
        "w_800/e_grayscale,e_blur:4/photo.jpg",
        "orient;fit(width=800);tone(name=grayscale);kernel(name=blur,amount=4)|",
    ),
    ("e_trim:12/w_500/scan.png", "orient;trim(tolerance=12);fit(width=500)|"),
    ("w_500,e_trim/scan.png", "orient;trim;fit(width=500)|"),
    ("e_trim:12:fff/scan.png", "orient;trim(by=color,color=#ffffffff,tolerance=12)|"),
    (
        "e_brightness:-20,e_contrast:50,e_saturation:-100,e_hue:-90,e_gamma:1.5,e_sepia,e_negate/p.jpg",
        "orient;tone(name=brightness,amount=4/5);tone(name=contrast,amount=3/2);tone(name=saturation,amount=0);"
        "tone(name=hue,amount=270);tone(name=gamma,amount=3/2);tone(name=sepia,amount=4/5);tone(name=negate)|",
    ),
    ("e_blur/p.jpg", "orient;kernel(name=blur,amount=5)|"),
    ("e_blur:0.3/p.jpg", "orient;kernel(name=blur,amount=3/10)|"),
    ("w_800,a_90/photo.jpg", "orient;fit(width=800);turn(motion=6)|"),
    ("a_90/w_600/photo.jpg", "orient;turn(motion=6);fit(width=600)|"),
    ("a_-90/photo.jpg", "orient;turn(motion=8)|"),
    ("a_hflip.90/photo.jpg", "orient;turn(motion=7)|"),
    ("a_90.hflip/photo.jpg", "orient;turn(motion=5)|"),
    ("a_ignore/photo.jpg", "|"),
    ("a_ignore.180,w_9/photo.jpg", "fit(width=9);turn(motion=3)|"),
    (
        "w_300,a_15.hflip,b_fafafa/photo.jpg",
        "orient;fit(width=300);turn(degrees=15,fill=#fafafaff);turn(motion=2);flatten(color=#fafafaff)|",
    ),
    ("w_400,r_20,f_png/photo.jpg", "orient;fit(width=400);mask(radii=(20,20,20,20))|format=png"),
    ("r_1:2:3/p.jpg", "orient;mask(radii=(1,2,3,2))|"),
    ("r_max/p.jpg", "orient;mask(ellipse=yes)|"),
    ("o_60/p.jpg", "orient;tone(name=opacity,amount=3/5)|"),
    ("bo_4:rebeccapurple,r_9/p.jpg", "orient;mask(radii=(9,9,9,9));canvas(margins=(4,4,4,4),fill=#663399ff)|"),
    ("w_600,pg_3,f_png/fax.tif", "orient;fit(width=600)|format=png,frames=3"),
    ("w_300,fl_still/party.gif", "orient;fit(width=300)|frames=first"),
    ("fl_animated,f_webp/party.gif", "orient|format=webp,frames=all"),
    ("fl_lossless.keep_profile,f_webp/p.png", "orient|format=webp,lossless=yes,profile=keep"),
    ("fl_progressive,fl_keep_copyright/p.jpg", "orient|progressive=yes,metadata=copyright"),
    ("f_jpeg/p.png", "orient|format=jpg"),
    ("f_auto,q_auto/p.png", "orient|format=auto"),
    ("f_avif,q_auto:low/p.png", "orient|format=avif,quality=low"),
    ("q_auto:eco/p.png", "orient|quality=eco"),
    ("q_50/q_60/p.png", "orient|quality=60"),
    ("w_800,f_info/photo.jpg", "orient;fit(width=800)||kind=info"),
    ("w_32,f_lqip/photo.jpg", "orient;fit(width=32)||kind=lqip"),
    ("f_blurhash/photo.jpg", "orient||kind=blurhash"),
    ("f_thumbhash/photo.jpg", "orient||kind=thumbhash"),
    ("f_palette/photo.jpg", "orient||kind=palette"),
    ("f_palette:7/photo.jpg", "orient||kind=palette,colors=7"),
]

# The steps of one segment have this order, whatever the order of its options.
ALL_AT_ONCE = (
    "orient;trim;crop(width=9);turn(motion=6);tone(name=negate);tone(name=opacity,amount=1/2);"
    "mask(radii=(1,1,1,1));canvas(margins=(2,2,2,2));flatten|"
)


def parse(dialect: NativeDialect, tail: str) -> ImageRequest:
    return dialect.parse("/img/" + tail)


@pytest.mark.parametrize(("tail", "plan"), PLANS)
def test_a_url_gives_this_plan(dialect: NativeDialect, tail: str, plan: str) -> None:
    assert canonical(normalize(parse(dialect, tail).plan)) == plan


@pytest.mark.parametrize(
    "segment",
    ["b_fff,bo_2,r_1,o_50,e_negate,a_90,c_crop,w_9,e_trim", "e_trim,w_9,c_crop,a_90,e_negate,o_50,r_1,bo_2,b_fff"],
)
def test_the_order_of_options_in_a_segment_has_no_effect(dialect: NativeDialect, segment: str) -> None:
    assert canonical(normalize(parse(dialect, segment + "/p.jpg").plan)) == ALL_AT_ONCE


SIZES = [
    ("photo.jpg", (1200, 800)),
    ("w_800,q_80/photo.jpg", (800, 533)),
    ("w_2000/photo.jpg", (1200, 800)),
    ("c_fit,w_2000/photo.jpg", (2000, 1333)),
    ("w_800,h_400/photo.jpg", (600, 400)),
    ("w_0.5/photo.jpg", (600, 400)),
    ("c_fill,w_400,h_400,g_auto/photo.jpg", (400, 400)),
    ("c_lfill,w_1600,h_400,g_north/photo.jpg", (1200, 400)),
    ("c_rfill,w_2000,h_2000/photo.jpg", (800, 800)),
    ("w_800,ar_16:9/photo.jpg", (800, 450)),
    ("ar_1:1,c_rfill,g_auto/photo.jpg", (800, 800)),
    ("c_scale,w_300,h_300/photo.jpg", (300, 300)),
    ("c_pad,w_600,h_600,b_white/photo.jpg", (600, 600)),
    ("c_lpad,w_1600,h_1600,b_blurred/photo.jpg", (1600, 1600)),
    ("c_crop,w_400,h_300,x_120,y_80/photo.jpg", (400, 300)),
    ("c_crop,w_600,h_600,g_auto/w_200/photo.jpg", (200, 200)),
    ("c_fill,w_400,h_400,g_xy,x_0.7,y_0.3/photo.jpg", (400, 400)),
    ("w_400,dpr_2/photo.jpg", (800, 533)),
    ("w_800,f_auto,q_auto/photo.jpg", (800, 533)),
    ("w_800/e_grayscale,e_blur:4/photo.jpg", (800, 533)),
    ("w_800,a_90/photo.jpg", (533, 800)),
    ("a_90/w_600/photo.jpg", (600, 900)),
    ("c_thumb,g_auto,w_150,h_150,z_0.8/r_max/f_webp/team/anna.jpg", (150, 150)),
    ("c_crop,w_600,h_600/w_300,r_20/dpr_2,f_png/photo.jpg", (600, 600)),
    ("w_100,bo_10/photo.jpg", (120, 87)),
    # All fit modes on 1500×1500.
    ("w_1500,h_1500/photo.jpg", (1200, 800)),
    ("c_fit,w_1500,h_1500/photo.jpg", (1500, 1000)),
    ("c_mfit,w_1500,h_1500/photo.jpg", (1500, 1000)),
    ("c_pad,w_1500,h_1500/photo.jpg", (1500, 1500)),
    ("c_lpad,w_1500,h_1500/photo.jpg", (1500, 1500)),
    ("c_mpad,w_1500,h_1500/photo.jpg", (1500, 1500)),
    ("c_rpad,w_1500,h_1500/photo.jpg", (800, 800)),
    ("c_fill,w_1500,h_1500/photo.jpg", (1500, 1500)),
    ("c_lfill,w_1500,h_1500/photo.jpg", (1200, 800)),
    ("c_rfill,w_1500,h_1500/photo.jpg", (800, 800)),
    ("c_scale,w_1500,h_1500/photo.jpg", (1500, 1500)),
]


@pytest.mark.parametrize(("tail", "size"), SIZES)
def test_a_url_gives_an_image_of_this_size(dialect: NativeDialect, tail: str, size: tuple[int, int]) -> None:
    plan = parse(dialect, tail).plan
    after = bind_plan(plan, Dims(1200, 800)).after
    normal = bind_plan(normalize(plan), Dims(1200, 800)).after

    assert ((after.width, after.height), (normal.width, normal.height)) == (size, size)


SOURCES = [
    ("photo.jpg", "photos", "photo.jpg"),
    ("w_800/shop/mugs/red@2x.jpg", "shop", "mugs/red@2x.jpg"),
    ("shop/photos/a.jpg", "shop", "photos/a.jpg"),
    ("photos/shop/a.jpg", "photos", "shop/a.jpg"),
    ("shop", "photos", "shop"),
    ("w_800/_/w_archive/day_1.jpg", "photos", "w_archive/day_1.jpg"),
    ("_/w_1/a.jpg", "photos", "w_1/a.jpg"),
    ("_/_/a.jpg", "photos", "_/a.jpg"),
    ("w_800/_", "photos", "_"),
    ("w_800", "photos", "w_800"),
    ("my_photos/new_arrivals/2026_holiday/w_1/a.jpg", "photos", "my_photos/new_arrivals/2026_holiday/w_1/a.jpg"),
    ("W_800/a.jpg", "photos", "W_800/a.jpg"),
    ("w_8/a%20b+c%2Bd.jpg", "photos", "a b+c+d.jpg"),
    ("w_8/shop%2Fa.jpg", "shop", "a.jpg"),
    ("w_8/caf%C3%A9/100%25.jpg", "photos", "café/100%.jpg"),
    ("w_8/%252F.jpg", "photos", "%2F.jpg"),
    ("w_8/b64/cGhvdG8uanBn", "photos", "photo.jpg"),
    ("w_8/b64/cGhv/dG8uanBn", "photos", "photo.jpg"),
    ("b64/c2hvcC9hJTIwYi5qcGc", "shop", "a%20b.jpg"),
    ("b64", "photos", "b64"),
    ("photo.jpg?v=3/../#", None, None),
    ("photo.jpg?v=3/../%zz", "photos", "photo.jpg"),
    ("w_800/photo.jpg?", "photos", "photo.jpg"),
]


@pytest.mark.parametrize(("tail", "source", "path"), [row for row in SOURCES if row[1]])
def test_the_text_after_the_options_is_the_source(dialect: NativeDialect, tail: str, source: str, path: str) -> None:
    assert parse(dialect, tail).ref == SourceRef(source, path)


@pytest.mark.parametrize(
    ("tail", "attachment"),
    [("p.jpg", None), ("fl_attachment/p.jpg", ""), ("fl_attachment:holiday.keep_metadata/p.jpg", "holiday")],
)
def test_an_attachment_is_not_a_part_of_the_plan(dialect: NativeDialect, tail: str, attachment: str | None) -> None:
    assert parse(dialect, tail).attachment == attachment


@pytest.mark.parametrize(
    ("folder", "meant"),
    [
        ("wd_800", "w_800"),
        ("width_800", "w_800"),
        ("W_800", "w_800"),
        ("width_800,heigth_600", "w_800,h_600"),
        ("aspect_ratio_16:9", "ar_16:9"),
    ],
)
def test_a_folder_that_looks_like_an_option_gives_a_hint(dialect: NativeDialect, folder: str, meant: str) -> None:
    expected = f"{folder} was read as a folder; did you mean {meant}?"

    assert parse(dialect, folder + "/photo.jpg").not_found_hint == expected


@pytest.mark.parametrize(
    "tail", ["my_photos/a.jpg", "new_arrivals/a.jpg", "_/wd_800/a.jpg", "wd_800", "wd_eight/a.jpg"]
)
def test_an_ordinary_folder_gives_no_hint(dialect: NativeDialect, tail: str) -> None:
    assert parse(dialect, tail).not_found_hint is None
