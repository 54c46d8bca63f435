"""Images as paths, bytes, URLs, Pillow images and NumPy arrays."""

import base64

import numpy
import pytest
from blip_serve_client import ImageInputError, ItemError
from PIL import Image
from servers import DEMO_IMAGE

SHAPE = "what shape is to the left of the rectangle?"


@pytest.fixture
def pillow_image():
    with Image.open(DEMO_IMAGE) as image:
        image.load()
        return image


def forms(image):
    """Returns the same image in every form."""
    data = DEMO_IMAGE.read_bytes()
    array = numpy.asarray(image.convert("RGB"))
    return {
        "path": DEMO_IMAGE,
        "path as text": str(DEMO_IMAGE),
        "bytes": data,
        "data url": "data:image/png;base64," + base64.b64encode(data).decode(),
        "pillow": image,
        "array": array,
        "array with gaps": numpy.repeat(array, 2, axis=1)[:, ::2],
    }


def test_every_form_has_the_same_answer(client, pillow_image):
    expected = client.ask(DEMO_IMAGE, SHAPE)
    assert expected.text == "ring"
    for name, image in forms(pillow_image).items():
        answer = client.ask(image, SHAPE)
        assert (name, answer.text) == (name, "ring")
        assert answer.score == pytest.approx(expected.score, abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "I;16"])
def test_pillow_image_of_every_mode_is_sent_as_rgb(client, pillow_image, mode):
    assert client.ask(pillow_image.convert("L" if mode == "I;16" else mode).convert(mode), SHAPE).text


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 4)])
def test_array_is_encoded_without_loss(shape):
    from blip_serve_client.images import image_message

    array = numpy.random.default_rng(1).integers(0, 256, shape, dtype=numpy.uint8)
    import io

    decoded = numpy.asarray(Image.open(io.BytesIO(image_message(array).data)))
    assert (decoded == array.reshape(decoded.shape)).all()


@pytest.mark.parametrize(
    "array",
    [
        numpy.zeros((4, 4, 3)),
        numpy.zeros((4, 4, 2), "uint8"),
        numpy.zeros((0, 4), "uint8"),
        numpy.zeros(3, "uint8"),
    ],
)
def test_array_of_other_type_or_shape_is_rejected(client, array):
    with pytest.raises(ImageInputError, match=r"cannot encode an array of .*: expected uint8"):
        client.ask(array, SHAPE)


def test_missing_file_is_an_error_with_its_cause(client):
    with pytest.raises(ImageInputError, match="cannot read nowhere.png") as error:
        client.ask("nowhere.png", SHAPE)
    assert error.value.reason == "IMAGE_UNREADABLE"
    assert isinstance(error.value.__cause__, FileNotFoundError)


def test_other_values_are_type_errors(client):
    with pytest.raises(TypeError, match="not an image: int"):
        client.ask(3, SHAPE)


def test_rejected_url_is_an_item_error(client):
    with pytest.raises(ItemError) as error:
        client.ask("http://127.0.0.1/a.png", SHAPE)
    assert (error.value.reason, error.value.field) == ("URL_ADDRESS_REFUSED", "inputs[0].image.url")
