"""Every cell leaves as ONNX; a file of its own, as each export takes seconds and two files are tested at a time."""

import pytest
from test_export import CELLS, label, trained_network

from cells.genotype_file import load_genotype
from nas.interchange.export import export_network

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")


@pytest.mark.parametrize("cell", CELLS, ids=label)
def test_onnx_runtime_computes_of_every_cell_what_pytorch_does(cell, tmp_path):
    trained = trained_network(load_genotype(cell))
    save_checkpoint(tmp_path / "weights.pt", trained.content())
    (written,) = export_network(trained, tmp_path / "weights.pt", ["onnx"], tmp_path)
    assert written.difference < 1e-5 and written.path == tmp_path / "network.onnx"
