"""The scene says what the models, the data and the audit say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import gapless
from gapless import conditions, likelihoods, study
from gapless.adapters import audited_items, subject
from gapless.audit import moments, scorecard
from gapless.audit.continuity import Cliff
from gapless.audit.coverage import Hole
from gapless.data import Feed
from gapless.errors import DataError, UsageError
from gapless.explorer.decoders import session
from gapless.explorer.items import shown_items
from gapless.explorer.planes import Plane, half_of, planes_of
from gapless.explorer.scene import build, load_runs, open_data
from gapless.settings import Settings


def array(scene, name, dtype, *shape):
    return np.frombuffer(scene.blobs[name], dtype).reshape(shape)


@pytest.fixture(scope="module")
def audited(digits_study):
    """The VAE alone, all items, with a quick audit; and the same audit made directly."""
    comparison, _ = digits_study
    run = comparison.runs["vae"]
    items, _, _ = audited_items(comparison.data)
    card = scorecard(subject(run.model), items, reference="declared", budget="quick")
    return build({"vae": run}, comparison.data, audit="quick"), card


def test_items_are_held_out_first_and_as_the_data_says(scene, digits_study):
    comparison, _ = digits_study
    data = comparison.data
    count = scene.document["items"]["count"]
    assert count == 300
    held_out = array(scene, "items.held_out", np.uint8, count)
    assert held_out[: len(data.held_out)].all()
    assert not held_out[len(data.held_out) :].any()
    labels = array(scene, "items.labels", "<i2", count)
    assert (labels[: len(data.held_out)] == data.held_out.labels).all()
    values = array(scene, "items.values", np.uint8, count, 1, 8, 8)
    raw = data.held_out.take(range(len(data.held_out))) / 16  # digits are 0..16
    assert np.abs(values[: len(raw)] / 255 - raw).max() <= 0.5 / 255 + 1e-6


def test_the_choice_of_items_depends_on_the_seed_alone(digits_study):
    data = digits_study[0].data
    first, again, other = (shown_items(data, limit=400, seed=seed).items.index for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert len(set(first.tolist())) == 400
    few = shown_items(data, limit=50)
    assert set(few.items.index) <= set(data.held_out.index)
    assert few.held_out.all()
    assert shown_items(data, limit=400, new=True).held_out.all()
    for wrong in (0, 1_000_001):
        with pytest.raises(UsageError, match="--items takes"):
            shown_items(data, limit=wrong)


def test_codes_costs_and_kl_are_those_of_the_model(scene, digits_study):
    comparison, _ = digits_study
    shown = shown_items(comparison.data, limit=300)
    x = shown.head(300)
    for panel in scene.document["panels"]:
        model = comparison.model(panel["name"])
        with torch.no_grad():
            q = model.encode(x)
            cost = -model.decode(q.mean).log_prob(x)
        name, d = panel["name"], panel["latent"]
        assert np.abs(array(scene, panel["loc"], "<f4", 300, d) - q.mean.numpy()).max() < 1e-5
        assert np.abs(array(scene, panel["error"], "<f4", 300) - cost.numpy()).max() < 1e-3
        if name == "ae":
            assert panel["scale"] is panel["kl"] is panel["kl_per_feature"] is None
            continue
        loc, scale = q.mean.double(), q.stddev.double()
        per_feature = (0.5 * (scale**2 + loc**2 - 1) - scale.log()).numpy()
        assert np.abs(array(scene, panel["scale"], "<f4", 300, d) - scale.numpy()).max() < 1e-5
        assert np.abs(array(scene, panel["kl"], "<f4", 300) - per_feature.sum(1)).max() < 1e-4
        assert panel["kl_per_feature"] == pytest.approx(per_feature.mean(0).tolist(), abs=1e-5)
        assert panel["order"] == np.argsort(-per_feature.mean(0)).tolist()
    assert [panel["effective_beta"] for panel in scene.document["panels"]] == [0, None, 1]
    assert [panel["live"] for panel in scene.document["panels"]] == [[True] * 2, [False] * 2, [True] * 2]


def test_the_law_is_the_one_distances_are_measured_by(scene):
    """Whitened codes of the AE have mean 0 and covariance I: the law has the moments of its codes."""
    panel = scene.document["panels"][0]
    codes = array(scene, "ae.loc", "<f4", 300, 2).astype(float)
    law = moments(codes, np.zeros_like(codes))
    wanted = np.square(law.whiten(codes)).sum(1)
    w = (codes - np.array(panel["law"]["mean"])) @ np.array(panel["law"]["whiten"]).T
    assert np.square(w).sum(1) == pytest.approx(wanted, rel=1e-4)


def test_a_plane_is_orthonormal_and_its_lattice_starts_below():
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(500, 4)) * [3, 1, 2, 0.1] + [1, 2, 3, 4]
    features, axes = planes_of(loc, np.full((500, 4), 0.1), [2, 0, 1, 3])
    for plane in (features, axes):
        frame = np.stack([plane.u, plane.v])
        assert frame @ frame.T == pytest.approx(np.eye(2), abs=1e-12)
    assert features.name == "features 2 and 0"
    assert features.origin == pytest.approx([0, loc[:, 1].mean(), 0, loc[:, 3].mean()])
    assert abs(axes.u[0]) > 0.95
    assert abs(axes.v[2]) > 0.95
    codes = features.lattice(5)
    assert codes[0] == pytest.approx(features.origin - features.half * (features.u + features.v))
    assert codes[4] == pytest.approx(features.origin + features.half * (features.u - features.v))
    assert codes[20] == pytest.approx(features.origin + features.half * (features.v - features.u))


@pytest.mark.parametrize(("far", "half"), [(0, 1.06 * 5), (-14.9, 1.06 * 14.9), (15.2, 1.06 * 5)])
def test_a_plane_holds_every_code_but_no_stray(far, half):
    turn = np.linspace(0, 2 * np.pi, 401)  # 5 itself at the first and the last
    places = np.concatenate([5 * np.stack([np.cos(turn), np.sin(turn)], 1), [[0.0, far]]])
    assert half_of(places) == pytest.approx(half, rel=1e-3)
    assert half_of(places / 100) == 3.4
    assert half_of(places[:, :1]) == pytest.approx(1.06 * 5)


def test_one_and_two_features_are_their_own_plane():
    loc = np.random.default_rng(0).normal(size=(100, 2))
    (only,) = planes_of(loc, np.ones((100, 2)), [1, 0])
    assert only.to_dict() | {"half": 0} == {
        "name": "features 0 and 1", "origin": [0, 0], "u": [1, 0], "v": [0, 1], "half": 0,
    }  # fmt: skip
    (line,) = planes_of(loc[:, :1], np.ones((100, 1)), [0])
    assert line.v.tolist() == [0]
    assert line.lattice(3).shape == (9, 1)


def test_the_card_is_that_of_the_audit(audited):
    scene, card = audited
    panel = scene.document["panels"][0]
    assert panel["card"] == card.to_dict()
    assert [hole["place"] for hole in panel["holes"]] == [hole.centre.tolist() for hole in card.holes]
    jumps = [cliff for cliff in card.cliffs if cliff.jump]
    assert [cliff["from"] for cliff in panel["cliffs"]] == [cliff.left.tolist() for cliff in jumps]
    assert panel["law"]["mean"] == pytest.approx([0, 0])
    assert np.array(panel["law"]["whiten"]) == pytest.approx(np.eye(2))


def test_the_gap_map_is_the_audits_own_score(audited, digits_study):
    """At the places the audit drew, the score behind the gap map is the audit's, number by number."""
    from gapless.explorer.items import shown_items
    from gapless.explorer.panels import _Judged

    comparison, _ = digits_study
    scene, card = audited
    run = comparison.runs["vae"]
    shown = shown_items(comparison.data, limit=10_000)
    judged = _Judged.of(run, shown, audit="quick", reference="declared", seed=0)
    like = card.evidence["like"]
    assert judged.isolation.score(judged.probe.phi(like.draws)) == pytest.approx(like.scores, rel=1e-12)
    plane = scene.document["panels"][0]["planes"][0]
    grid = array(scene, plane["gap"], "<f4", plane["grid"], plane["grid"])
    for row, column in ((0, 0), (5, 40), (47, 47), (24, 23)):
        line = np.linspace(-plane["half"], plane["half"], plane["grid"])
        z = np.array([[line[column], line[row]]])  # row = b, column = a
        assert grid[row, column] == pytest.approx(judged.isolation.score(judged.probe.phi(z))[0], rel=1e-5)


def test_the_scene_is_plain_data_and_names_arrays_that_are_there(scene, tmp_path):
    document = json.loads(json.dumps(scene.document, allow_nan=False))
    named = {value for value in strings(document) if value in scene.blobs}
    assert named == set(scene.blobs)
    scene.write(tmp_path / "scene")
    assert {path.name for path in (tmp_path / "scene").iterdir()} == {"scene.json", *(f"{n}.bin" for n in scene.blobs)}


def strings(value):
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_the_decoder_in_the_scene_is_the_models(scene, digits_study):
    from gapless.explorer.decoders import session

    comparison, _ = digits_study
    z = torch.randn(40, 2)
    for panel in scene.document["panels"]:
        assert panel["decoder"]["rung"] == "onnx"
        found = session(scene.blobs[panel["decoder"]["onnx"]]).run(["x"], {"z": z.numpy()})[0]
        with torch.no_grad():
            wanted = comparison.model(panel["name"]).decode(z).mean.numpy()
        assert np.abs(found - wanted).max() < 1e-5
    assert all("decoded in the page" in choice for choice in scene.choices)


def test_a_lattice_stands_in_for_a_large_decoder_without_a_server(digits_study, monkeypatch):
    from gapless.explorer import ladder

    comparison, _ = digits_study
    monkeypatch.setattr(ladder, "LARGEST", 10)
    runs = {"vae": comparison.runs["vae"]}
    scene = build(runs, comparison.data, audit="none", items=60, static=True)
    (panel,) = scene.document["panels"]
    decoder, plane = panel["decoder"], panel["planes"][0]
    assert decoder | {"values": ""} == {"rung": "lattice", "plane": 0, "side": 24, "values": ""}
    pictures = array(scene, decoder["values"], np.uint8, 24, 24, 1, 8, 8)
    z = torch.tensor([[plane["half"], -plane["half"]]])
    with torch.no_grad():
        wanted = runs["vae"].model.decode(z).mean.numpy()[0]
    assert np.abs(pictures[0, 23] / 255 - wanted).max() <= 0.5 / 255 + 1e-5
    assert "vae.onnx" not in scene.blobs
    served = build(runs, comparison.data, audit="none", items=60)
    assert served.document["panels"][0]["decoder"]["rung"] == "server"
    assert served.decoders[0].onnx


def test_a_study_opens_as_three_panels_and_a_run_as_one(digits_study, tmp_path):
    _, folder = digits_study
    (folder / "study.json").write_text("{}")
    try:
        assert list(load_runs([folder])) == ["ae", "kl-only", "vae"]
        assert list(load_runs([folder / "vae"])) == ["vae"]
        assert list(load_runs([folder / "vae", folder / "vae"])) == ["vae", "vae-2"]
        for wrong in ([], [folder, folder / "vae", folder / "ae"]):
            with pytest.raises(UsageError, match="1 to 4 models"):
                load_runs(wrong)
        with pytest.raises(DataError, match="no run here"):
            load_runs([tmp_path])
    finally:
        (folder / "study.json").unlink()


def test_models_of_other_data_are_not_set_side_by_side(digits_study):
    run = digits_study[0].runs["vae"]
    other = replace(run, data=replace(run.data, event_shape=(1, 9, 9)))
    with pytest.raises(UsageError, match="one kind of item"):
        open_data({"a": run, "b": other}, None)


def test_names_that_could_leave_their_place_are_refused(digits_study):
    comparison, _ = digits_study
    for name in ("../x", "A", "a b", "", "x" * 61):
        with pytest.raises(UsageError, match="small letters"):
            build({name: comparison.runs["vae"]}, comparison.data)
    with pytest.raises(UsageError, match="--audit takes"):
        build({"vae": comparison.runs["vae"]}, comparison.data, audit="thorough")


def test_a_table_keeps_its_units(tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 3)) * [1, 10, 100] + [5, 0, -7]
    path = tmp_path / "표.csv"
    path.write_text("가,b,c\n" + "\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    data = gapless.read(str(path))
    run = gapless.train(data, settings=Settings(latent=3, epochs=1, hidden=(8,)))
    scene = build({"vae": run}, data, audit="quick")
    document = scene.document
    assert (document["title"], document["kind"], document["columns"]) == ("표", "table", ["가", "b", "c"])
    ends = np.stack([rows.min(0), rows.max(0)], axis=1)
    assert np.array(document["columns_range"]) == pytest.approx(ends, rel=1e-5, abs=1e-4)
    values = array(scene, "items.values", "<f4", 120, 3)
    raw = values * document["scaling"]["scale"] + document["scaling"]["shift"]
    order = np.concatenate([data.held_out.index, data.train.index])
    assert raw == pytest.approx(rows[order], rel=1e-4, abs=1e-4)
    assert document["items"]["labels"] is None
    assert len(document["panels"][0]["planes"]) == 2
    assert document["panels"][0]["card"]["about"]["items"] == 120


def test_rows_of_the_findings_are_rows_of_the_shown_items(audited, digits_study, monkeypatch):
    from gapless.explorer import items
    from gapless.explorer.panels import _Judged

    shown = shown_items(digits_study[0].data, limit=1000, new=True)
    assert shown.judged().tolist() == list(range(1000))
    monkeypatch.setattr(items, "MOST_ITEMS", 300)
    rows = shown.judged()
    assert len(set(rows.tolist())) == 300
    assert rows.max() > 900  # not the first ones: files are often sorted
    judged = _Judged.of(digits_study[0].runs["ae"], shown, audit="quick", reference="moments", seed=0)
    hole = Hole(0.1, 0.05, 0.2, 0.0, np.zeros(2), np.array([299, 7, 9]))
    cliff = Cliff(np.zeros(2), np.ones(2), 1.0, 1e-5, jump=True)
    slope = replace(cliff, jump=False)
    card = replace(judged.card, holes=(hole,), cliffs=(slope, cliff))
    found = replace(judged, card=card).findings()
    assert found["holes"][0]["nearest"] == [rows[299], rows[7]]
    assert [place["number"] for place in found["cliffs"]] == [1]  # a slope is no cliff
    assert found["cliffs"][0]["place"] == [0.5, 0.5]
    assert found["cliffs"][0]["nearest"] == [rows[row] for row in card.to_dict()["cliffs"][1]["nearest"]]


def test_few_held_out_items_are_judged_with_the_others(digits_study):
    shown = shown_items(digits_study[0].data, limit=10_000)
    assert shown.judged().tolist() == list(range(len(shown)))


def test_a_decoder_that_is_not_finite_far_out_can_be_looked_at(digits_study):
    import copy

    comparison, _ = digits_study
    run = copy.copy(comparison.runs["vae"])
    run.model = copy.deepcopy(run.model)
    near = run.model.decoder.forward
    run.model.decoder.forward = lambda z: (
        near(z) + torch.where(z.abs().sum(1) > 6, torch.inf, 0.0)[:, None, None, None, None]
    )
    run.model.likelihood = likelihoods.Normal()
    scene = build({"vae": run}, comparison.data, audit="none", items=100)
    assert scene.document["panels"][0]["planes"][0]["gap"] is None


def test_few_items_are_shown_without_an_audit_or_a_gap_map(digits_study):
    comparison, _ = digits_study
    scene = build({"vae": comparison.runs["vae"]}, comparison.data, items=5)
    (panel,) = scene.document["panels"]
    assert panel["card"] is None
    assert panel["planes"][0]["gap"] is None
    assert panel["holes"] == panel["cliffs"] == []


def test_a_plane_says_what_it_is():
    plane = Plane("p", np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]), 2.0)
    assert plane.to_dict() == {"name": "p", "origin": [0, 0], "u": [1, 0], "v": [0, 1], "half": 2}


def made_table(folder, *, gaps):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 3)).round(3)
    kinds = np.array(["a", "b"])[rng.integers(0, 2, 120)]
    cells = np.where(rng.random(rows.shape) < (0.1 if gaps else 0.0), "", rows.astype(str))
    (folder / "t.csv").write_text(
        "x,y,z,kind\n" + "\n".join(",".join([*r, k]) for r, k in zip(cells, kinds, strict=True))
    )
    return gapless.read(folder / "t.csv", label="kind", missing="keep" if gaps else "refuse")


def test_what_is_missing_is_shown_as_the_model_expects_it_and_not_audited(tmp_path):
    data, told = made_table(tmp_path, gaps=True), []
    run = study.train(data, settings=Settings(latent=2, epochs=2, hidden=(8,)))
    scene = build({"vae": run}, data, items=120, static=True, tell=told.append)
    shown = np.frombuffer(scene.blobs["items.values"], "<f4").reshape(120, 3)
    x = Feed(shown_items(data, limit=120).items, data.scaling).batch(torch.arange(120))
    with torch.no_grad():
        expected = torch.where(x.isnan(), run.model.reconstruct(x), x).numpy()
    assert np.array_equal(shown, expected)
    panel = scene.document["panels"][0]
    assert panel["card"] is None
    assert f"{int(x.isnan().sum())} values are missing" in " ".join(told)
    assert np.isfinite(np.frombuffer(scene.blobs["vae.error"], "<f4")).all()
    assert panel["planes"][0]["gap"] is not None


def test_a_conditional_model_is_shown_under_one_label(tmp_path):
    data, told = made_table(tmp_path, gaps=False), []
    run = study.train(data, settings=Settings(latent=2, epochs=2, hidden=(8,), condition=True))
    with pytest.raises(UsageError, match=r"needs a label(.|\n)*give --label, one of a, b"):
        build({"vae": run}, data)
    scene = build({"vae": run}, data, label="b", audit="none", tell=told.append)
    count = int((np.concatenate([data.train.labels, data.held_out.labels]) == 1).sum())
    assert scene.document["items"]["count"] == count
    assert scene.document["panels"][0]["title"].endswith("(b)")
    assert "given the label b" in " ".join(told)
    model = conditions.given_label(run.model, ("a", "b"), "b")
    z = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    found = session(scene.decoders[0].onnx).run(None, {"z": z})[0]
    with torch.no_grad():
        assert np.allclose(found, model.decode(torch.from_numpy(z)).mean.numpy(), atol=1e-5)
    plain = study.train(data, settings=Settings(latent=2, epochs=1, hidden=(8,)))
    both = build({"one": run, "two": plain}, data, label="b", audit="none")
    assert [panel["title"].endswith("(b)") for panel in both.document["panels"]] == [True, False]
    with pytest.raises(UsageError, match="has no use for a label"):
        build({"two": plain}, data, label="b")
