"""Is the perceptron of the map one network at every point, of every item by itself?"""

import pytest
import torch

from dynamo.meta import PerceptronMetaModel

D, B, F = 3, 5, 12
THETA = torch.randn(4, D, generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(B, F, generator=torch.Generator().manual_seed(0))


def test_shapes_and_answers() -> None:
    network = PerceptronMetaModel(0, {"a": 2, "b": 6}, D, F, [8, 10, 6])
    found = network(THETA, VECTORS, "b")
    assert [tuple(stage.shape) for stage in found.hidden] == [(4, B, width, 1, 1) for width in (8, 10, 6)]
    answers = network.answers(THETA, network.prepare(VECTORS), torch.ones(B), "b")
    torch.testing.assert_close(answers, found.output)
    torch.testing.assert_close(network.read_out(found.hidden[-1], "b"), found.output)


def test_an_item_does_not_depend_on_its_company_nor_a_point_on_others() -> None:
    network = PerceptronMetaModel(0, {"a": 2}, D, F)
    together = network(THETA, VECTORS, "a").output
    torch.testing.assert_close(network(THETA[2:3], VECTORS[1:2], "a").output[0, 0], together[2, 1])


def test_images_are_read_as_they_lie_in_memory() -> None:
    network = PerceptronMetaModel(0, {"a": 2}, D, F, reads="images")
    images = VECTORS.view(B, 3, 2, 2)
    torch.testing.assert_close(network(THETA, images, "a").output, network(THETA, VECTORS, "a").output)
    with pytest.raises(ValueError, match=r"reads 12 numbers an item, got \[5, 3, 4, 4\]"):
        network(THETA, torch.zeros(B, 3, 4, 4), "a")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"vocab_size": 9}, "the data module has words"),
        ({"features": 0}, "features is 0"),
        ({"reads": "tokens"}, "reads 'tokens'"),
        ({"widths": [3, 0]}, r"widths is \[3, 0\]; it has to be 2 whole numbers"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PerceptronMetaModel(**{"vocab_size": 0, "classes": {"a": 2}, "dimensions": D, "features": F, **options})  # type: ignore[arg-type]
