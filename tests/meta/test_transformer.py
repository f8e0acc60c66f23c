"""Is the transformer of the map causal, does it know where a step stands, and does theta reach all of it?"""

import pytest
import torch

from dynamo.meta import TransformerMetaModel
from dynamo.meta.transformer import sinusoids

V, D, B, T = 11, 3, 4, 7
TOKENS = torch.randint(1, V, (B, T), generator=torch.Generator().manual_seed(0))
THETA = torch.randn(2, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network() -> TransformerMetaModel:
    torch.manual_seed(2)
    return TransformerMetaModel(V, {"a": 2, "b": 5}, D, 16, depths=(1, 2), heads=2)


def test_shapes(network: TransformerMetaModel) -> None:
    found = network(THETA, TOKENS, "b")
    assert [tuple(stage.shape) for stage in found.hidden] == [(2, B, T, 16)] * 2
    assert found.output.shape == (2, B, T, 5)
    assert network.hidden_sizes == (16, 16)


def test_what_is_to_come_changes_nothing(network: TransformerMetaModel) -> None:
    other = TOKENS.clone()
    other[:, 4:] = 1
    before, after = network(THETA, TOKENS, "a"), network(THETA, other, "a")
    for one, two in zip(before.hidden, after.hidden, strict=True):
        torch.testing.assert_close(one[:, :, :4], two[:, :, :4])
        assert not torch.allclose(one[:, :, 4:], two[:, :, 4:])


def test_answers_are_those_after_the_last_real_step(network: TransformerMetaModel) -> None:
    lengths = torch.tensor([7, 1, 3, 6])
    found = network.answers(THETA, network.prepare(TOKENS), lengths, "a")
    for item, length in enumerate(lengths.tolist()):
        alone = network(THETA, TOKENS[item : item + 1, :length], "a").output[:, 0, -1]
        torch.testing.assert_close(found[:, item], alone)


def test_the_same_words_in_another_order_are_another_item(network: TransformerMetaModel) -> None:
    turned = TOKENS.clone()
    turned[:, :2] = TOKENS[:, :2].flip(1)
    one, two = (network(THETA, tokens, "a").output[:, :, -1] for tokens in (TOKENS, turned))
    moved = (TOKENS[:, 0] != TOKENS[:, 1]).nonzero().flatten()
    assert ((one - two).abs().amax((0, 2))[moved] > 1e-4).all()


def test_every_step_has_a_place_of_its_own() -> None:
    places = sinusoids(300, 16)
    assert places.shape == (300, 16)
    torch.testing.assert_close(places[0], torch.cat([torch.zeros(8), torch.ones(8)]))
    torch.testing.assert_close(places[3, 0], torch.tensor(3.0).sin())
    assert float((torch.cdist(places, places) + 9 * torch.eye(300)).min()) > 0.05


def test_signals_take_the_place_of_words() -> None:
    network = TransformerMetaModel(0, {"a": 2}, D, 16, heads=2, features=3)
    assert (network.reads, network(THETA, torch.randn(B, T, 3), "a").output.shape) == ("signals", (2, B, T, 2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"vocab_size": 0}, "reads 0 words and 0 features"),
        ({"features": 2}, "reads 11 words and 2 features"),
        ({"hidden_size": 10}, "hidden_size is 10; it has to be a multiple of twice the 4 heads"),
        ({"depths": (1, 0)}, r"depths is \[1, 0\]; every stage needs"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TransformerMetaModel(**{"vocab_size": V, "classes": {"a": 2}, "dimensions": D, **options})  # type: ignore[arg-type]
