"""What shows that a search collapses: skip connections, entropy, and the alphas' Hessian."""

import math

import pytest
import torch
import torch.nn.functional as F

from cells.execution import Execution
from cells.genotype_file import load_genotype
from cells.supernet import Supernet
from nas.search.collapse import AlphaHessian, check_early_stop, epoch_before_collapse, mean_entropy, skip_connections
from nas.search.search import run_search
from search_spaces.space import SearchSpace
from tiny_runs import SEARCH, SPACE, begin, image_data

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_skip_connections_of_published_cells():
    for name, counts in (("darts_v1", [3, 3]), ("darts_v2", [2, 3])):
        genotype = load_genotype(name)
        assert [skip_connections(cell) for cell in (genotype.normal, genotype.reduce)] == counts, name


def test_entropy_is_that_of_no_preference_at_first_and_falls_to_zero():
    assert mean_entropy(torch.zeros(14, 8).softmax(dim=1)) == pytest.approx(math.log(8))
    assert mean_entropy(torch.eye(8)[[0, 3, 3]]) == 0
    assert mean_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(math.log(2) / 2)


def test_the_dominant_eigenvalue_is_that_of_the_whole_hessian():
    torch.manual_seed(0)
    space = SearchSpace("four", ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"), nodes=1)
    supernet = Supernet(space, 2, 3, 3).double()
    plain = Supernet(space, 2, 3, 3, execution=Execution(compiled=False)).double()
    with torch.no_grad():
        for table in supernet.alphas():
            table.copy_(torch.randn(table.shape))
    plain.load_state_dict(supernet.state_dict())
    images, labels = torch.randn(8, 3, 8, 8).double(), torch.arange(8) % 3
    normal, reduce = supernet.alphas()

    def loss(flat):
        tables = [part.view_as(normal) for part in flat.split(normal.numel())]
        named = dict(zip(("alphas_normal", "alphas_reduce"), tables, strict=True))
        return F.cross_entropy(torch.func.functional_call(plain, named, (images,)), labels)

    center = torch.cat([normal.detach().flatten(), reduce.detach().flatten()])
    hessian = torch.autograd.functional.hessian(loss, center)
    expected = torch.linalg.eigvalsh(hessian)[-1].item()
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    drawn = torch.get_rng_state()
    assert AlphaHessian(supernet, 2, 3, 3).dominant_eigenvalue((images, labels)) == pytest.approx(expected, rel=1e-3)
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())


def test_the_rule_of_robust_darts():
    flat = [(epoch, 0.1) for epoch in range(20)]
    assert epoch_before_collapse(flat) is None and epoch_before_collapse([]) is None
    steep = flat[:10] + [(epoch, 0.4) for epoch in range(10, 14)]
    # smoothed over five: 0.1 up to epoch 9, 0.16 at epoch 10: 0.1 / 0.16 < 0.75, so back to epoch 5
    assert epoch_before_collapse(steep) == 5
    rising = [(epoch, 0.01 * epoch) for epoch in range(9)]
    assert epoch_before_collapse(rising) is None  # it rises from the first alphas; two whole windows are needed
    assert epoch_before_collapse([*flat[:10], (10, 0.2)]) is None  # 0.1 / 0.12 > 0.75
    assert epoch_before_collapse([(2 * epoch, value) for epoch, value in steep]) == 10  # every other epoch
    assert epoch_before_collapse(steep[5:]) is None  # too few to look back


def test_every_epoch_says_what_is_watched(tmp_path, capsys):
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    config = SEARCH.model_copy(update={"order": 1, "epochs": 3, "hessian_every": 2})
    genotype = run_search(config, SPACE, image_data(), run)
    rows = run.rows("metrics")
    assert rows[-1]["normal_skip_connections"] == skip_connections(genotype.normal)
    last = torch.tensor(run.rows("alphas")[-1]["reduce"]).softmax(dim=1)
    assert rows[-1]["reduce_entropy"] == pytest.approx(mean_entropy(last))
    assert ["dominant_eigenvalue" in row for row in rows] == [False, True, False]
    lines = capsys.readouterr().out.splitlines()
    assert f"eigenvalue {rows[1]['dominant_eigenvalue']:.4g}" in lines[1] and "skips" in lines[0]


def test_looking_at_the_eigenvalue_changes_nothing(tmp_path):
    alphas = []
    for every in (0, 1):
        run = begin(tmp_path / str(every), SEARCH, space=SPACE)
        run_search(SEARCH.model_copy(update={"hessian_every": every}), SPACE, image_data(), run, progress=False)
        alphas.append((run.path / "alphas.jsonl").read_bytes())
    assert alphas[0] == alphas[1]


@pytest.mark.parametrize("is_killed_before_its_result", [False, True])
def test_a_search_that_collapses_stops_and_takes_the_cell_of_before(is_killed_before_its_result, tmp_path, monkeypatch):
    values = iter([0.1] * 10 + [0.9] * 20)
    monkeypatch.setattr(AlphaHessian, "dominant_eigenvalue", lambda *_: next(values))
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    config = SEARCH.model_copy(update={"order": 1, "epochs": 20, "early_stop": True, "alpha_learning_rate": 0.3})
    genotype = run_search(config, SPACE, image_data(), run, progress=False)
    if is_killed_before_its_result:
        (run.path / "result.json").unlink()
        genotype = run_search(config, SPACE, image_data(), run, resume=True, progress=False)
    assert [row["epoch"] for row in run.rows("metrics")] == list(range(11))
    assert run.result()["epochs_run"] == 11 and run.result()["genotype_after_epochs"] == 6  # epoch 5, counted from 0
    assert load_genotype(run.path) == genotype and genotype.found_by["epochs"] == 6
    assert "stopping, with the cell of epoch 6" in (run.path / "log.txt").read_text()


def test_early_stopping_that_could_never_act_is_refused(refused):
    for changes in ({"epochs": 9}, {"epochs": 50, "hessian_every": 6}):
        config = SEARCH.model_copy(update={"early_stop": True, **changes})
        with refused("early_stop needs 10 looks at the eigenvalue"):
            run_search(config, SPACE, image_data(), progress=False)
    check_early_stop(SEARCH.model_copy(update={"early_stop": True, "epochs": 50, "hessian_every": 5}))
