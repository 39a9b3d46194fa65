"""Windows, their shuffled order, and the split of ids."""

import numpy as np
import pytest

from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.text.windows import (
    ScoringWindows,
    TrainingWindows,
    count_covered,
    count_windows,
    create_dataset,
    scoring_batches,
    window_batches,
)


@pytest.mark.parametrize(("window", "shape"), [(100, (760, 100)), (32, (828, 32))])
def test_create_dataset_has_the_shapes_of_the_lecture(window, shape):
    sequence = np.random.default_rng(0).integers(0, 500, 860)
    x, y = create_dataset(sequence, window)
    assert x.shape == y.shape == shape
    for i in range(len(x)):
        assert np.array_equal(x[i], sequence[i : i + window])
        assert np.array_equal(y[i], sequence[i + 1 : i + 1 + window])


def test_create_dataset_is_called_as_the_lecture_calls_it():
    sequence = np.random.default_rng(0).integers(0, 500, 860).tolist()
    x, y = create_dataset(sequence)
    assert x.shape == y.shape == (828, 32) and x.dtype == y.dtype == np.int32
    for same in (
        create_dataset(sequence, 32),
        create_dataset(sequence, window_size=32),
        create_dataset(tuple(sequence), window_size=32, stride=1),
        create_dataset(np.array(sequence, dtype=np.uint16)),
    ):
        assert np.array_equal(same[0], x) and np.array_equal(same[1], y)


def test_the_windows_of_create_dataset_take_no_memory_and_are_its_own():
    ids = np.arange(1000, dtype=np.int32)
    x, y = create_dataset(ids, 100)
    assert x.strides == y.strides == (4, 4) and np.shares_memory(x, y)
    ids[:] = 7
    assert x[0, 5] == 5


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (
            [[1, 2, 3]],
            r"has the shape \(1, 3\): a flat list .*texts_to_sequences\(\[text\]\)\[0\]",
        ),
        ([[1, 2], [3]], "contains 2 sequences: a flat list of token ids is needed"),
        ("some text", "contains text, not token ids"),
        (["some", "text"], "contains text, not token ids"),
        ([0.5, 1.5], "is of the type float64, not of integers"),
        ([1, None], "is of the type object"),
        (None, "is of the type NoneType"),
        (7, "is of the type int,"),
        ([3, -1, 5], "contains -1, which is not a token id"),
        ([2**31], "contains 2147483648, which is not a token id"),
        ([], "0 tokens are too few for one window of 32 and its next token: give at least 33"),
    ],
)
def test_what_is_no_flat_list_of_ids_is_refused(sequence, message):
    with pytest.raises(DataError, match=message):
        create_dataset(sequence)
    with pytest.raises(DataError, match=message):
        next(window_batches(sequence, 32, batch_size=1, stride=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size=0: must be at least 1"),
        ({"window_size": -3}, "window_size=-3"),
        ({"window_size": 2.5}, "window_size=2.5: expected an integer"),
        ({"window_size": "8"}, "window_size='8': expected an integer"),
        ({"window_size": 8, "stride": 0}, "stride=0: must be from 1 to the window of 8 tokens"),
        ({"window_size": 8, "stride": 9}, "stride=9: must be from 1 to the window of 8 tokens"),
        ({"window_size": 8, "stride": None}, "stride=None: expected an integer"),
    ],
)
def test_windows_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        create_dataset(range(50), **settings)
    with pytest.raises(ConfigError, match=message):
        next(window_batches(range(50), **{"stride": 1, **settings}, batch_size=1))


def test_keras_trains_on_the_views_as_on_arrays():
    import keras

    def history(x, y):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Embedding(30, 4), keras.layers.Dense(30, activation="softmax")]
        model = keras.Sequential([keras.layers.Input((None,)), *layers])
        model.compile(
            optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model.fit(x, y, validation_split=0.1, batch_size=32, epochs=2, verbose=0).history

    views = create_dataset(np.random.default_rng(0).integers(0, 30, 300), 20)
    found = history(*views)
    assert found == history(*(np.array(view, dtype=np.int64) for view in views))
    assert found["loss"][1] < found["loss"][0] and len(found["val_loss"]) == 2


@pytest.mark.parametrize("stride", [1, 3, 9, 10, 11, 25])
@pytest.mark.parametrize("length", [0, 10, 11, 12, 57, 100])
def test_the_tokens_in_a_window_are_counted(length, stride):
    """Also those of strides that only runs of older versions have."""
    starts = [start for start in range(0, length, stride) if start + 10 + 1 <= length]
    covered = {place for start in starts for place in range(start, start + 10 + 1)}
    assert count_covered(length, 10, stride) == len(covered)


@pytest.mark.parametrize("stride", [1, 3, 7, 9])
def test_stride_takes_every_nth_window(stride):
    x, y = create_dataset(list(range(60)), 9, stride)
    starts = [s for s in range(0, 60, stride) if s + 9 + 1 <= 60]
    assert x[:, 0].tolist() == starts and y[:, -1].tolist() == [s + 9 for s in starts]
    assert len(x) == count_windows(60, 9, stride)


def test_a_sequence_too_short_is_refused_with_the_numbers():
    assert create_dataset(range(11), 10)[0].shape == (1, 10)
    with pytest.raises(DataError, match="10 tokens are too few for one window of 10"):
        create_dataset(range(10), 10)


def test_an_epoch_shows_every_window_once():
    ids = np.arange(500, 600)
    windows = TrainingWindows(ids, 10, batch_size=8, stride=3, seed=1)
    x_all, y_all = create_dataset(ids, 10, 3)
    count = len(x_all)
    batches = [windows.batch(step) for step in range(-(-2 * count // 8))]
    assert count % 8 and all(x.shape == y.shape == (8, 10) for x, y in batches)
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    for epoch in (slice(count), slice(count, 2 * count)):
        order = np.argsort(x[epoch, 0])
        assert np.array_equal(x[epoch][order], x_all) and np.array_equal(y[epoch][order], y_all)


def test_a_batch_depends_on_the_step_alone():
    ids = np.random.default_rng(3).integers(0, 99, 400)
    make = {"context_length": 16, "batch_size": 4, "stride": 1, "seed": 5}
    walked, jumped = TrainingWindows(ids, **make), TrainingWindows(ids, **make)
    batches = [walked.batch(step) for step in range(200)]
    assert np.array_equal(jumped.batch(137)[0], batches[137][0])
    other = TrainingWindows(ids, **{**make, "seed": 6})
    assert not np.array_equal(other.batch(137)[0], batches[137][0])


@pytest.mark.parametrize("length", [2, 10, 11, 12, 57, 101])
def test_scoring_predicts_every_token_but_the_first_once(length):
    ids = np.arange(length)
    targets = []
    for x, y in scoring_batches(ids, 10, batch_size=3):
        assert np.array_equal(x + 1, y) and x.shape[0] <= 3 and x.shape[1] <= 10
        targets += y.ravel().tolist()
    assert targets == list(range(1, length))


def test_a_share_of_the_windows_is_scored_evenly_spread():
    ids = np.arange(1005)
    x = np.concatenate([x for x, _ in scoring_batches(ids, 10, 7, fraction=0.25)])
    assert x[:, 0].tolist() == [40 * i for i in range(25)]
    fewest = list(scoring_batches(ids, 10, 7, fraction=1e-6))
    assert len(fewest) == 1 and fewest[0][0].shape == (1, 10)
    short = list(scoring_batches(ids[:6], 10, 7, fraction=0.5))  # no full window
    assert [x.tolist() for x, _ in short] == [[[0, 1, 2, 3, 4]]]


def test_batches_come_from_a_mapped_file_that_is_not_copied(tmp_path):
    ids = np.random.default_rng(0).integers(0, 60_000, 10_000).astype(np.uint16)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r")
    make = {"context_length": 16, "batch_size": 4, "stride": 1, "seed": 5}
    windows = TrainingWindows(mapped, **make)
    assert windows.ids is mapped
    for step in (0, 77):
        for found, expected in zip(
            windows.batch(step), TrainingWindows(ids, **make).batch(step), strict=True
        ):
            assert found.dtype == np.int32 and np.array_equal(found, expected)


def test_window_batches_are_the_windows_of_create_dataset():
    ids = np.random.default_rng(0).integers(0, 500, 60)
    x_all, y_all = create_dataset(ids, 9, 7)  # 8 windows
    batches = list(window_batches(ids, 9, batch_size=3, stride=7))
    assert [len(x) for x, _ in batches] == [3, 3, 2]
    assert np.array_equal(np.concatenate([x for x, _ in batches]), x_all)
    assert np.array_equal(np.concatenate([y for _, y in batches]), y_all)
    full = list(window_batches(ids, 9, batch_size=3, stride=7, drop_last=True))
    assert [len(x) for x, _ in full] == [3, 3]
    mixed = list(window_batches(ids, 9, batch_size=3, stride=7, shuffle_seed=1))
    assert [len(x) for x, _ in mixed] == [3, 3, 2]
    x = np.concatenate([x for x, _ in mixed])
    assert not np.array_equal(x, x_all)
    assert sorted(x.tolist()) == sorted(x_all.tolist())
    with pytest.raises(DataError, match="too few"):
        next(window_batches(ids[:9], 9, batch_size=1, stride=1))
    with pytest.raises(ConfigError, match="batch_size=0"):
        next(window_batches(ids, 9, batch_size=0, stride=1))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 11, 12, 57])
@pytest.mark.parametrize(("window", "stride"), [(10, 10), (10, 3), (10, 1), (1, 1)])
@pytest.mark.parametrize("given", [1, 2, 4])
def test_scoring_windows_cover_every_target_once(length, window, stride, given):
    targets = []
    windows = ScoringWindows(length, window, stride, given)
    for index, (start, end, scored) in enumerate(windows):
        assert start == index * stride and 0 < end - start <= window and end < length
        targets += range(end - scored + 1, end + 1)
    assert targets == list(range(given, length))
