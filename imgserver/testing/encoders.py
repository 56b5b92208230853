"""The contract of encoders."""

from typing import Any

import pytest

from imgserver.engine import ENCODERS
from imgserver.engine.job import Limits, Quality
from imgserver.errors import OutputOverLimit
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Output


class EncoderContract:
    """The contract of every encoder. `format` is its name in `engine.ENCODERS` and in `plan.formats.FORMATS`.

    Overwrite `size_of` for a format that libvips cannot read. These tests load libvips into their process, which must
    not fork afterwards.
    """

    format: str

    SECRET = b"taken at 47.37 N 8.54 E"

    def size_of(self, body: bytes) -> tuple[int, int]:
        """Width and height of one frame of a file, in pixels."""
        from imgserver.engine.vips import LOADERS, Image

        image = getattr(Image, LOADERS[self.format][1] + "_buffer")(body)
        return image.width, image.height

    @pytest.fixture(autouse=True)
    def engine(self) -> None:
        from imgserver.engine.vips import open_engine

        open_engine()

    def encode(self, *images: Any, **output: Any) -> bytes:
        """The file, made as a worker makes it, of one image or of the frames of an animation."""
        from imgserver.engine.encode import prepare, write
        from imgserver.engine.frames import Frames

        frames = Frames(images, delays=(100,) * len(images) if len(images) > 1 else ())
        return write(prepare(frames, self.format, Output(self.format, **output), Quality()), Limits())

    def test_the_row_of_the_format_is_complete(self) -> None:
        row = FORMATS[self.format]

        assert row.name == self.format
        assert row.writable
        assert row.media_type.startswith("image/")
        assert row.suffix.startswith(".")

    def test_one_pixel_is_an_image(self) -> None:
        assert self.size_of(self.encode(make_image(1, 1, bands=3))) == (1, 1)

    @pytest.mark.parametrize("bands", [1, 2, 3, 4])
    def test_gray_and_color_are_written_with_and_without_alpha(self, bands: int) -> None:
        assert self.size_of(self.encode(make_image(9, 7, bands=bands))) == (9, 7)

    @pytest.mark.parametrize("quality", [1, 100])
    def test_both_ends_of_the_quality_scale_are_written(self, quality: int) -> None:
        assert self.size_of(self.encode(make_image(9, 7, bands=3), quality=quality, lossless=True)) == (9, 7)

    def test_equal_images_give_equal_bytes(self) -> None:
        assert self.encode(make_image(9, 7, bands=4)) == self.encode(make_image(9, 7, bands=4))

    def test_an_animation_has_frames_of_the_images_size(self) -> None:
        if FORMATS[self.format].animation:
            images = [make_image(9, 7, bands=3, seed=seed) for seed in (1, 2, 3)]

            assert self.size_of(self.encode(*images)) == (9, 7)

    def test_an_image_over_the_limits_is_refused_before_it_is_encoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from imgserver.engine.vips import Image

        monkeypatch.delitem(ENCODERS, self.format)
        row = FORMATS[self.format]
        sizes = [(row.max_side + 1, 1), (1, row.max_side + 1)]
        if row.max_pixels is not None:
            sizes.append((row.max_side, row.max_pixels // row.max_side + 1))

        for width, height in sizes:
            with pytest.raises(OutputOverLimit):
                self.encode(Image.black(width, height, bands=3))

    def test_metadata_is_not_written(self) -> None:
        from imgserver.engine.vips import Blob

        image = make_image(9, 7, bands=3).copy()
        for name in ("exif-data", "xmp-data", "iptc-data", "icc-profile-data"):
            image.set_type(Blob, name, self.SECRET)

        assert self.SECRET not in self.encode(image)


def make_image(width: int, height: int, *, bands: int, seed: int = 0) -> Any:
    """A libvips image with a value of its own in each sample, as far as 8 bits go: gray or sRGB, 1 to 4 bands."""
    from imgserver.engine.vips import Image

    data = bytes((37 * index + seed) % 256 for index in range(width * height * bands))
    image = Image.new_from_memory(data, width, height, bands, "uchar")
    return image.copy(interpretation="b-w" if bands <= 2 else "srgb")
